"""From a folder of results to a folder of tables, figures and one page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from joblib import Parallel, delayed

from fedbench.errors import BadInput, unknown_name
from fedbench.reporting import settings as build
from fedbench.reporting.cells import Cell, Collection, Run, collect, make_cell, processes
from fedbench.reporting.settings import MethodRow, Metric, SettingResults
from fedbench.reporting.statistics import EXPLANATION
from fedbench.reporting.tables import Table, as_csv, latex, latex_document, markdown

if TYPE_CHECKING:
    from fedbench.experiments.schema import Draw
    from fedbench.reporting.figures import Picture
    from fedbench.runs.plan import Plan
    from fedbench.storage.spec import Spec

FIGURES: tuple[Draw, ...] = ("visits", "megabytes", "seconds", "front", "clients", "unseen")
OUTDATED = ("outdated", "made by other code than is here now")
FORMS = {"md": markdown, "csv": as_csv, "tex": latex}


class Claim(Protocol):
    """A claim of the paper, tested against the results; shown at the top of the page."""

    @property
    def text(self) -> str:
        """The claim, in one sentence."""

    @property
    def verdict(self) -> str:
        """What became of it, in a word or two: "holds", "does not hold", "cannot be told", "not tested"."""

    @property
    def evidence(self) -> str:
        """The numbers behind the verdict, in one sentence."""

    @property
    def source(self) -> str:
        """Where the claim is made, and how sure that is."""


@dataclass(frozen=True)
class Report:
    """A report that was written into the folder `out`."""

    out: Path
    title: str
    tables: Sequence[Table]  # the main ones first
    pictures: Sequence[Picture]
    runs: Sequence[Run]
    warnings: Sequence[str]  # files that were left out, cells that were refused
    gaps: Sequence[str] = field(default=())  # runs that failed, cannot be made, or were made by other code
    stopped: bool = False  # by Ctrl-C, before all runs were done

    @property
    def page(self) -> Path:
        """The page that holds everything."""
        return self.out / "index.html"

    @property
    def status(self) -> int:
        """The exit status: 130 where it was stopped, 1 where something was left out or failed, else 0."""
        return 130 if self.stopped else 1 if self.warnings or self.gaps else 0


def report(
    results: str | Path = "results",
    out: str | Path = "reports",
    *,
    reference: str | None = None,
    figures: int = 3,
    partitions: bool = False,
    data_root: Path | None = None,
) -> Report:
    """Tables, statistics and figures of whatever is in `results`, in the folder `out`; begin with out/index.html.

    `reference` is the method that others are compared with, by default the best one of each setting. Figures are
    drawn for the `figures` settings that have most runs. `partitions` adds pictures of who holds which classes; they
    need the data sets, in `data_root`, and torch. Raises BadInput where there is nothing to report on.
    """
    collection = collect(Path(results))
    made = build.by_setting(collection.runs, collection.failures)
    if not made:
        others = [*(f"left out: {text}" for text in collection.left_out)]
        others += [f"failed: {failure.spec.method}: {failure.message}" for failure in collection.failures]
        raise BadInput("; ".join([f"there are no results in {results}: make some with `fedbench run`", *others]))
    if reference is not None and not any(build.pick_reference(setting, reference) for setting in made):
        known = {line.name for setting in made for line in setting.rows if line.cell.runs}
        raise unknown_name("reference method with results that can be averaged", reference, known)
    tables = build.grids(made)
    for setting in made:
        tables += _board_tables(setting, reference)
    pictures = _draw(made[:figures], FIGURES, "client mean", processes(len(collection.runs)))
    notes = _without_reference(made, reference)
    if len(made) > figures:
        notes.append(f"figures are drawn for the {figures} settings with most runs, of {len(made)}")
    if partitions:
        from fedbench.reporting.figures.partitions import pictures as partition_pictures

        drawn, missing = partition_pictures(made[:figures], data_root)
        pictures += drawn
        notes += missing
    gaps = [f"failed: {_words(failure.spec)}: {failure.message}" for failure in collection.failures]
    return _write("Results", "", Path(out), made, tables, pictures, collection, notes, gaps)


@dataclass(frozen=True)
class Gathered:
    """The results of a plan, by column of its experiment."""

    settings: Sequence[SettingResults]  # one a column of the preset
    collection: Collection  # what is current of the results
    problems: Mapping[str, tuple[str, str]]  # identity -> (a word, why), of the runs that are not there
    files: int  # in the whole results folder


def gather(plan: Plan, results: Path) -> Gathered:
    """The stored results of a `plan`: what `experiment_report` shows, and what claims are tested with."""
    experiment = plan.experiment
    wanted = {job.spec.identity: job for job in plan.all_jobs}
    everything = collect(results) if results.exists() else Collection((), (), ())
    stored = [run for run in everything.runs if run.spec.identity in wanted]
    current = tuple(run for run in stored if plan.is_current(run.spec.identity, run.code, run.dataset_code))
    failures = tuple(failure for failure in everything.failures if failure.spec.identity in wanted)
    by_identity = {run.spec.identity: run for run in current}
    problems = {run.spec.identity: OUTDATED for run in stored}
    problems |= {failure.spec.identity: ("failed", failure.message) for failure in failures}
    problems |= {identity: ("failed", message) for identity, message in plan.failed.items()}
    problems = {identity: problems[identity] for identity in wanted if identity in problems.keys() - by_identity.keys()}
    made = [
        SettingResults(
            column.name,
            column.label,
            build.told_apart(list(_lines(plan, column.name, by_identity, problems))),
            experiment.published.get(column.name, {}),
        )
        for column in experiment.chosen(plan.preset)
    ]
    return Gathered(made, Collection(current, everything.left_out, failures), problems, len(everything.runs))


def experiment_report(
    plan: Plan,
    results: Path,
    out: Path,
    *,
    claims: Sequence[Claim] = (),
    extra_tables: Sequence[Table] = (),
    extra_pictures: Sequence[Picture] = (),
    data_root: Path | None = None,
    stopped: bool = False,
    download: bool = True,
) -> Report:
    """The report of an experiment's runs, beside published values, in `out`/NAME.

    `claims` stand at the top of the page, `extra_tables` and `extra_pictures` before the common ones. Partitions are
    drawn from the data sets, which are downloaded for it only with `download`.
    """
    from fedbench.reporting.figures.partitions import pictures as partition_pictures

    experiment, length = plan.experiment, plan.experiment.length(plan.preset)
    metric: Metric = "pooled" if experiment.metric == "pooled" else "client mean"
    wanted = {job.spec.identity: job for job in plan.all_jobs}
    gathered = gather(plan, results)
    made, mine = gathered.settings, gathered.collection
    effort = f"preset {plan.preset}: {length.visits} client visits a run"
    tables: list[Table] = []
    if "grid" in experiment.tables:
        order: tuple[Metric, Metric] = (metric, "client mean" if metric == "pooled" else "pooled")
        tables += build.grids(made, order, quoted=metric if experiment.published else None)
    for setting in (setting for setting in made if setting.runs):
        if "communication" in experiment.tables:
            tables.append(build.communication(setting, metric, experiment.target))
        if "measures" in experiment.tables:
            tables.append(build.measures(setting))
        if "differences" in experiment.tables:
            tables += _differences(setting, experiment.reference)
    tables = [replace(table, caption=f"{table.caption} {effort[0].upper()}{effort[1:]}.") for table in tables]
    pictures = _draw(made, experiment.figures, metric, processes(gathered.files))
    drawn, missing = partition_pictures(made, data_root, download=download)
    left = [column.label for column in experiment.columns if column not in experiment.chosen(plan.preset)]
    notes = [f"{effort}; {len(mine.runs)} of {len(wanted)} runs are done", *missing]
    notes += [f"not in the preset {plan.preset}: {'; '.join(left)}"] if left else []
    notes += _without_reference(made, experiment.reference)
    gaps = [f"{word}: {_words(wanted[identity].spec)}: {why}" for identity, (word, why) in gathered.problems.items()]
    gaps += [why for why in dict.fromkeys(plan.gaps.values()) if why.startswith("cannot be run")]
    caption = f"{experiment.caption} Source: {experiment.paper}."
    shown = [*extra_pictures, *pictures, *drawn]
    report = _write(
        experiment.title,
        caption,
        out / experiment.name,
        made,
        [*tables[:1], *extra_tables, *tables[1:]],
        shown,
        mine,
        notes,
        gaps,
        claims,
    )
    return replace(report, stopped=stopped)


def _lines(
    plan: Plan, column: str, runs: Mapping[str, Run], problems: Mapping[str, tuple[str, str]]
) -> Iterator[MethodRow]:
    """One line a method: its runs, or why there are none."""
    for method in plan.experiment.method_names:
        ids = [job.spec.identity for job in plan.jobs.get((column, method), ())]
        cell = make_cell([runs[identity] for identity in ids if identity in runs], len(ids))
        if not cell.runs and not cell.differences:
            why = [": ".join(problems[identity]) for identity in ids if identity in problems]
            cell = Cell((), len(ids), plan.gaps.get((column, method)) or (why or ["not run"])[0])
        yield MethodRow(method, plan.titles[method], cell)


def _words(spec: Spec) -> str:
    return f"{spec.method}, {spec.dataset}, {spec.clients} clients, {spec.visits} visits, seed {spec.seed}"


def _without_reference(made: Sequence[SettingResults], reference: str | None) -> list[str]:
    """A note for each setting that cannot be compared with the method asked for."""
    return [
        f"{setting.label}: no differences, for {reference} has no results there that can be averaged"
        for setting in made
        if reference is not None and setting.runs and build.pick_reference(setting, reference) is None
    ]


def _board_tables(setting: SettingResults, reference: str | None) -> list[Table]:
    return [build.measures(setting), *_differences(setting, reference)]


def _differences(setting: SettingResults, reference: str | None) -> list[Table]:
    sides = [build.difference_table(setting, reference)]
    if setting.has_unseen:
        sides.append(build.difference_table(setting, reference, "unseen"))
    return [table for table in sides if table is not None]


def _draw(made: Sequence[SettingResults], kinds: Sequence[Draw], metric: Metric, spread: int) -> list[Picture]:
    """All pictures, drawn by `spread` processes."""
    if not kinds or not made:
        return []
    from fedbench.reporting.figures import draw  # matplotlib takes a while

    drawn = Parallel(spread)(delayed(draw)(setting, kind, metric) for setting in made for kind in kinds)
    return [picture for picture in drawn if picture]


def _write(
    title: str,
    caption: str,
    out: Path,
    made: Sequence[SettingResults],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    collection: Collection,
    notes: Sequence[str],
    gaps: Sequence[str],
    claims: Sequence[Claim] = (),
) -> Report:
    from fedbench.reporting.page import page

    refused = [
        f"{line.title}, {setting.label}: {line.cell.gap}: {'; '.join(line.cell.differences)}"
        for setting in made
        for line in setting.rows
        if line.cell.differences
    ]
    warnings = [*(f"left out: {text}" for text in collection.left_out), *refused]
    parts = [f"# {title}", caption, EXPLANATION, *(f"* {note}" for note in [*warnings, *gaps, *notes])]
    parts += [f"* **{c.verdict}**: {c.text} {c.evidence} ({c.source})" for c in claims]
    parts += [markdown(table) for table in tables]
    files: dict[str, str | bytes] = {
        **{f"tables/{table.name}.{suffix}": form(table) for table in tables for suffix, form in FORMS.items()},
        "tables/all.tex": latex_document(table.name for table in tables),
        **{f"figures/{p.name}.{suffix}": content for p in pictures for suffix, content in p.files.items()},
        "report.md": "\n\n".join(part for part in parts if part),
        "index.html": page(title, caption, made, tables, pictures, collection, [*warnings, *gaps], notes, claims),
    }
    try:
        _replace(out, files)
    except OSError as error:
        raise BadInput(f"the report cannot be written to {out}: {error.strerror}; choose another folder") from None
    return Report(out, title, tables, pictures, collection.runs, warnings, gaps)


def _replace(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files` below `out`, and remove the tables and figures that the report before had and this one has not."""
    listing = out / "tables" / "files.txt"
    before = listing.read_text().splitlines() if listing.is_file() else []
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name in before:
        if name not in files and re.fullmatch(r"(tables|figures)/[A-Za-z0-9_-]+\.(md|csv|tex|png|pdf)", name):
            (out / name).unlink(missing_ok=True)
    listing.write_text("".join(f"{name}\n" for name in files))
