"""From a folder of results to a folder of tables, figures and one page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from fedbench.errors import BadInput, unknown_name
from fedbench.reporting.cells import Cell, Setting, make_cell
from fedbench.reporting.collection import Collection, collect, processes
from fedbench.reporting.run import Run
from fedbench.reporting.settings import MethodRow, SettingResults, by_setting, pick_reference, told_apart
from fedbench.reporting.statistics import Metric
from fedbench.reporting.summary import headline
from fedbench.reporting.tables import (
    Table,
    difference_table,
    effort,
    fairness,
    grids,
    ranking,
    sends_alike,
)
from fedbench.reporting.tables import targets as targets_table
from fedbench.reporting.writing import Claim, Report, write
from fedbench.storage.gap import Gap, Missing

if TYPE_CHECKING:
    from fedbench.reporting.figures import Kind, Picture
    from fedbench.runs.plan import Plan
    from fedbench.storage import Failure
    from fedbench.storage.spec import Spec

FIGURES: tuple[Kind, ...] = ("visits", "test", "seconds", "front", "clients", "gain", "balance", "unseen")
OUTDATED = Gap(Missing.OUTDATED, "made by other code, or of other samples, than are here now")


def report(
    results: str | Path = "results",
    out: str | Path = "reports",
    *,
    at: Sequence[int] = (),
    reference: str | None = None,
    targets: Sequence[float] = (),
    figures: int = 3,
    partitions: bool = False,
    tuned: Mapping[str, str] | None = None,
    settings_file: Path | None = None,
    data_root: Path | None = None,
) -> Report:
    """Tables, statistics and figures of whatever is in `results`, in the folder `out`; begin with out/index.html.

    With `at`, every result is taken as it was after so many visits; those that cannot be cut there are noted.
    `reference` is the method that others are compared with, by default the best one of each setting. `targets` are
    accuracies in percent whose price in visits, traffic and time is told, by default three round ones. Figures are
    drawn for the `figures` settings that have most runs. `partitions` adds pictures of who holds which classes; they
    need the data sets, in `data_root`, and torch. `tuned` says for methods how their hyperparameters were chosen, as
    "tuned, 16 trials, 9,600 visits"; from a `settings_file` of `fedbench tune` it is told for the runs that have its
    settings. Raises BadInput where there is nothing to report on.
    """
    collection = collect(Path(results), at)
    uncut = _uncut(collection.uncut)
    made = by_setting(collection.runs, () if at else collection.failures, tuned, collection.uncut)
    if not made:
        rest = [f"and {len(uncut) - 1} more like it"] if len(uncut) > 1 else []
        others = [*uncut[:1], *rest, *(f"left out: {text}" for text in collection.left_out)]
        others += [f"failed: {failure.spec.method}: {failure.message}" for failure in collection.failures]
        others += collection.apart
        none = f"no result in {results} can be cut at {_or(at)} visits" if at else f"there are no results in {results}"
        remedy = "" if at else ": make some with `fedbench run`"
        raise BadInput("; ".join([none + remedy, *others]))
    if settings_file is not None:
        made = [_with_tuning(setting, settings_file) for setting in made]
    if reference is not None and not any(pick_reference(setting, reference) for setting in made):
        known = {row.name for setting in made for row in setting.filled}
        raise unknown_name("reference method with results that can be averaged", reference, known)
    metric: Metric = "client mean"
    tables = grids(made) if len(made) > 1 else []
    for setting in made:
        tables.append(ranking(setting, metric, reference))
    if len(made) == 1:
        tables += grids(made)
    for setting in made:
        tables += _setting_tables(setting, metric, reference, targets)
    most = sorted(made, key=lambda setting: -len(setting.runs))[:figures]
    drawn = [setting for setting in made if setting in most]
    # the front of accuracy and traffic says no more than visits do where all send alike
    wanted = [(setting, kind) for setting in drawn for kind in FIGURES if kind != "front" or not sends_alike(setting)]
    pictures = _draw(wanted, metric, processes(collection.files), reference)
    if figures and (picture := _ranks(made, metric)):
        pictures.append(picture)
    notes = _without_reference(made, reference)
    if len(made) > figures > 0:
        of = "the setting" if figures == 1 else f"the {figures} settings"
        notes.append(f"figures are drawn for {of} with most runs, of {len(made)}")
    if partitions:
        from fedbench.reporting.figures.partitions import pictures as partition_pictures

        more, missing = partition_pictures(drawn, data_root)
        replaced = {picture.name for picture in more}
        pictures = [picture for picture in pictures if picture.name not in replaced] + more
        notes += missing
    notes += [*collection.apart, *(f"not cut: {text}" for text in uncut)]
    gaps = [f"failed: {_words(failure.spec)}: {failure.message}" for failure in collection.failures]
    title = headline(made)
    written = write(title, "", Path(out), made, metric, tables, pictures, collection, notes, gaps)
    return replace(written, uncut=uncut)


def _with_tuning(setting: SettingResults, file: Path) -> SettingResults:
    """The rows of `setting` with what a settings file says of their hyperparameters, where their runs have them."""
    from fedbench.runs.settings_file import elsewhere, read_settings

    known = read_settings(file)

    def noted(row: MethodRow) -> MethodRow:
        tuned = known.get(row.name)
        if tuned is None or not row.cell.runs:
            return row
        spec = row.cell.runs[0].spec
        same = all(_is_said(spec.params.get(name), text) for name, text in tuned.settings.items())
        if not same:
            return replace(row, note=f"not those of {file.name}")
        there, besides = elsewhere(file, spec), _besides(spec, tuned.settings)
        also = f"; set besides: {', '.join(besides)}" if besides else ""
        return replace(row, note=f"{tuned.words}{there and f' ({there})'}{also}")

    return replace(setting, rows=[noted(row) for row in setting.rows])


def _besides(spec: Spec, tuned: Mapping[str, str]) -> list[str]:
    """The hyperparameters of a run that are neither tuned nor the method's defaults, as far as these are known."""
    from fedbench import plugins

    try:
        usual = plugins.configure(plugins.find_method(spec.method), {})
    except BadInput:  # of a file, which the results do not tell
        return []
    return [name for name, value in spec.params.items() if name not in tuned and usual.get(name) != value]


def _is_said(value: object, text: str) -> bool:
    """Whether `text` says the `value` of a hyperparameter, in whichever form: 0.01 is 1e-2."""
    said = str(value)
    with contextlib.suppress(ValueError):
        return float(said) == float(text)
    return said.lower() == text.lower()


def _uncut(failures: Sequence[Failure]) -> list[str]:
    """Why results could not be cut: a sentence for all that have the same reason."""
    groups: dict[tuple[int, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.spec.visits, failure.message.partition(": ")[2]), []).append(failure)
    found = []
    for (visits, reason), members in sorted(groups.items()):
        methods = ", ".join(sorted({failure.spec.method for failure in members}))
        many = f"{len(members)} runs of {methods} cannot be cut at {visits} visits: {reason}"
        found.append(many if len(members) > 1 else members[0].message)
    return found


def _or(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


@dataclass(frozen=True)
class Gathered:
    """The results of a plan, by column of its experiment."""

    settings: Sequence[SettingResults]  # one a column of the preset
    collection: Collection  # what is current of the results
    problems: Mapping[str, Gap]  # by identity, of the runs that are not there
    files: int  # in the whole results folder


def gather(plan: Plan, results: Path, tuned: Mapping[str, str] | None = None) -> Gathered:
    """The stored results of a `plan`: what `experiment_report` shows, and what claims are tested with.

    A longer run of the same spec answers for one that is not there.
    """
    from fedbench.runs.state import is_current

    experiment = plan.experiment
    wanted = {job.spec.identity: job for job in plan.all_jobs}
    cuts: dict[str, list[int]] = {}
    for job in wanted.values():
        cuts.setdefault(job.spec.family, []).append(job.spec.visits)

    def good(run: Run) -> bool:
        return run.spec.identity not in wanted or is_current(run, wanted[run.spec.identity])

    everything = collect(results, also=cuts, is_current=good) if results.exists() else Collection((), (), ())
    stored = [run for run in everything.runs if run.spec.identity in wanted]
    current = tuple(run for run in stored if good(run))
    failures = tuple(failure for failure in everything.failures if failure.spec.identity in wanted)
    by_identity = {run.spec.identity: run for run in current}
    problems = {run.spec.identity: OUTDATED for run in stored}
    problems |= {failure.spec.identity: Gap(Missing.FAILED, failure.message) for failure in failures}
    problems |= {identity: Gap(Missing.FAILED, message) for identity, message in plan.failed.items()}
    problems = {identity: problems[identity] for identity in wanted if identity in problems.keys() - by_identity.keys()}
    columns = experiment.chosen(plan.preset)
    rows = told_apart([list(_rows(plan, column.name, by_identity, problems, tuned or {})) for column in columns])
    made = [
        SettingResults(column.name, column.label, mine, experiment.published.get(column.name, {}))
        for column, mine in zip(columns, rows, strict=True)
    ]
    mine = replace(everything, runs=current, failures=failures)
    return Gathered(made, mine, problems, everything.files)


def experiment_report(
    plan: Plan,
    results: Path,
    out: Path,
    *,
    claims: Sequence[Claim] = (),
    extra_tables: Sequence[Table] = (),
    extra_pictures: Sequence[Picture] = (),
    tuned: Mapping[str, str] | None = None,
    data_root: Path | None = None,
    stopped: bool = False,
    download: bool = True,
) -> Report:
    """The report of an experiment's runs, beside published values, in `out`/NAME.

    `claims` stand at the top of the page, `extra_tables` and `extra_pictures` before the common ones. `tuned` says for
    methods how their hyperparameters were chosen. Partitions are drawn from the data sets, which are downloaded for it
    only with `download`.
    """
    from fedbench.reporting.figures.partitions import pictures as partition_pictures

    experiment = plan.experiment
    metric: Metric = "pooled" if experiment.metric == "pooled" else "client mean"
    wanted = {job.spec.identity: job for job in plan.all_jobs}
    gathered = gather(plan, results, tuned)
    made, mine = gathered.settings, gathered.collection
    length_words = f"preset {plan.preset}: {_lengths(plan)}"
    tables: list[Table] = []
    if "grid" in experiment.tables:
        order: tuple[Metric, Metric] = (metric, "client mean" if metric == "pooled" else "pooled")
        tables += grids(made, order, quoted=metric if experiment.published else None)
    goal = [] if experiment.target is None else [experiment.target]
    filled = [setting for setting in made if setting.runs]
    if "measures" in experiment.tables:
        tables += [ranking(setting, metric, experiment.reference) for setting in filled]
    for setting in filled:
        everything = _setting_tables(setting, metric, experiment.reference, goal)
        shown = {
            "communication": ("targets", "effort"),
            "measures": ("fairness", "effort", "targets"),
            "differences": ("differences",),
        }
        names = {part for table in experiment.tables for part in shown.get(table, ())}
        tables += [table for table in everything if any(f"{setting.name}-{name}" in table.name for name in names)]
    tables = [
        replace(table, caption=f"{table.caption} {length_words[0].upper()}{length_words[1:]}.") for table in tables
    ]
    kinds: list[Kind] = []
    for figure in experiment.figures:
        kinds += ["visits", "test"] if figure == "visits" else ["clients", "gain"] if figure == "clients" else [figure]
    asked = [(setting, kind) for setting in made for kind in kinds]
    pictures = _draw(asked, metric, processes(gathered.files), experiment.reference)
    if kinds and (picture := _ranks(made, metric)):
        pictures.append(picture)
    drawn, missing = partition_pictures(made, data_root, download, wanted)
    left = [column.label for column in experiment.columns if column not in experiment.chosen(plan.preset)]
    notes = [f"{length_words}; {len(mine.runs)} of {len(wanted)} runs are done"] if experiment.columns else []
    notes += [*_tuned_elsewhere(plan, filled), *_apart(made), *missing]
    notes += [f"not in the preset {plan.preset}: {'; '.join(left)}"] if left else []
    notes += _without_reference(made, experiment.reference)
    gaps = [f"{gap.kind}: {_words(wanted[identity].spec)}: {gap.reason}" for identity, gap in gathered.problems.items()]
    gaps += [str(gap) for gap in dict.fromkeys(plan.gaps.values()) if gap.kind is Missing.NOT_POSSIBLE]
    caption = f"{experiment.caption} Source: {experiment.paper}."
    report = write(
        f"{experiment.title}: {headline(filled)}" if filled else experiment.title,
        caption,
        out / experiment.name,
        made,
        metric,
        [*tables[:1], *extra_tables, *tables[1:]],
        [*extra_pictures, *pictures, *drawn],
        mine,
        notes,
        gaps,
        claims,
    )
    return replace(report, stopped=stopped)


def _rows(
    plan: Plan, column: str, runs: Mapping[str, Run], problems: Mapping[str, Gap], tuned: Mapping[str, str]
) -> Iterator[MethodRow]:
    """One row a method: its runs, or why there are none."""
    for method in plan.experiment.chosen_methods(plan.preset):
        ids = [job.spec.identity for job in plan.jobs.get((column, method), ())]
        cell = make_cell([runs[identity] for identity in ids if identity in runs], len(ids))
        if not cell.runs and not (cell.gap and cell.gap.kind is Missing.REFUSED):
            why = [problems[identity] for identity in ids if identity in problems]
            cell = Cell((), len(ids), plan.gaps.get((column, method)) or (why or [Gap(Missing.NOT_RUN)])[0])
        yield MethodRow(method, plan.titles[method], cell, tuned.get(method, ""))


def _lengths(plan: Plan) -> str:
    """How many visits the runs have, and in which columns where that differs."""
    columns: dict[int, list[str]] = {}
    for column in plan.experiment.chosen(plan.preset):
        columns.setdefault(plan.experiment.visits(column, plan.preset), []).append(column.label)
    if len(columns) < 2:
        visits = next(iter(columns), plan.experiment.length(plan.preset).visits)
        return f"{visits} client visits a run"
    parts = [f"{visits} in {' and '.join(map(repr, names))}" for visits, names in columns.items()]
    return f"client visits a run are {', '.join(parts)}"


def _tuned_elsewhere(plan: Plan, made: Sequence[SettingResults]) -> list[str]:
    """A note for each setting on which the experiment's hyperparameters were not tuned."""
    from fedbench.runs.plan import settings_file
    from fedbench.runs.settings_file import elsewhere

    file = settings_file(plan.experiment)
    found = {} if file is None else {setting.label: elsewhere(file, setting.runs[0].spec) for setting in made}
    return [f"{label}: {words}" for label, words in found.items() if words]


def _apart(made: Sequence[SettingResults]) -> list[str]:
    """What the columns of an experiment differ in, beside data set and clients, which their labels need not say."""
    settings = {setting.label: Setting.of(setting.runs[0].spec) for setting in made if setting.runs}
    apart = {label: setting.differences(settings.values()) for label, setting in settings.items()}
    return [f"{label}: {', '.join(words)}" for label, words in apart.items() if words]


def _words(spec: Spec) -> str:
    return f"{spec.method}, {spec.dataset}, {spec.clients} clients, {spec.visits} visits, seed {spec.seed}"


def _without_reference(made: Sequence[SettingResults], reference: str | None) -> list[str]:
    """A note for each setting that cannot be compared with the method asked for."""
    return [
        f"{setting.label}: no differences, for {reference} has no results there that can be averaged"
        for setting in made
        if reference is not None and setting.runs and pick_reference(setting, reference) is None
    ]


def _setting_tables(
    setting: SettingResults, metric: Metric, reference: str | None, goal: Sequence[float]
) -> list[Table]:
    """Everything about one setting, beside its ranking."""
    made = [difference_table(setting, reference, "seen", metric)]
    if setting.has_unseen:
        made.append(difference_table(setting, reference, "unseen", metric))
    made += [fairness(setting, reference, metric), effort(setting, metric), targets_table(setting, metric, goal)]
    return [table for table in made if table is not None]


def _draw(
    wanted: Sequence[tuple[SettingResults, Kind]], metric: Metric, spread: int, reference: str | None
) -> list[Picture]:
    """The pictures of settings that are wanted, drawn by `spread` processes."""
    if not wanted:
        return []
    from fedbench.reporting.figures import draw  # matplotlib takes a while

    tasks = (delayed(draw)(setting, kind, metric, reference) for setting, kind in wanted)
    return [picture for picture in Parallel(spread)(tasks) if picture]


def _ranks(made: Sequence[SettingResults], metric: Metric) -> Picture | None:
    from fedbench.reporting.figures.ranks import ranks

    return ranks(made, metric)
