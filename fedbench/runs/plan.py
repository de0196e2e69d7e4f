"""The runs of an experiment: planned, run where they are missing, rendered beside published values.

torch is imported where runs are planned, so that reading an experiment does without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import BadInput
from fedbench.experiments.schema import Experiment, all_settings, load, names
from fedbench.storage.gap import Gap, Missing
from fedbench.storage.spec import seed_list

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fedbench.reporting import Report
    from fedbench.runs.job import Job
    from fedbench.storage.spec import Spec


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment: for each column and method one a seed, or the reason why there are none."""

    experiment: Experiment
    preset: str
    jobs: Mapping[tuple[str, str], Sequence[Job]]  # (column, method)
    gaps: Mapping[tuple[str, str], Gap]
    titles: Mapping[str, str]  # of the methods
    failed: dict[str, str] = field(default_factory=dict)  # identity -> message, once it has been run

    def is_current(self, identity: str, code: str, dataset_code: str | None) -> bool:
        """Whether the run `identity`, made by method and data set of these hashes, is one of the plugins of now."""
        from fedbench import plugins

        job = next(job for job in self.all_jobs if job.spec.identity == identity)
        data = plugins.find_dataset(job.dataset).code
        return code == plugins.find_method(job.method).code and dataset_code in (data, None)

    @property
    def all_jobs(self) -> list[Job]:
        """Every run once, one seed after the other, so that a comparison is there early."""
        by_seed = [jobs[i] for i in range(self.experiment.length(self.preset).seeds) for jobs in self.jobs.values()]
        return list({job.spec.identity: job for job in by_seed}.values())


def plan(
    experiment: Experiment,
    preset: str = "laptop",
    *,
    data_root: Path | None = None,
    results: Path = Path("results"),
    device: str = "auto",
    check_data: bool = True,
) -> Plan:
    """The runs of `experiment`. A column that cannot be run here is a gap with its reason.

    `check_data` also makes every partition, which reads the data. Raises BadInput for an unknown method or data set.
    """
    from fedbench import plugins
    from fedbench.runs.comparison import Comparison, check_possible

    length = experiment.length(preset)
    found = _find_all(experiment)
    titles = {name: plugins.find_method(where).cls.title for name, where in found.items()}
    jobs: dict[tuple[str, str], Sequence[Job]] = {}
    gaps: dict[tuple[str, str], Gap] = {}
    chosen = experiment.chosen(preset)
    for column in experiment.columns:
        if column not in chosen:
            gap = Gap(Missing.NOT_IN_PRESET, preset)
            gaps |= {(column.name, method): gap for method in experiment.method_names}
            continue
        gaps |= {
            (column.name, method): Gap(Missing.NOT_APPLICABLE, why) for method, why in column.not_applicable.items()
        }
        here = [method for method in experiment.method_names if method not in column.not_applicable]
        try:
            made = Comparison(
                methods=[found[method] for method in here],
                seeds=seed_list(length.seeds),
                dataset=column.dataset,
                clients=column.clients,
                partition=column.partition,
                network=column.network,
                novel_clients=column.novel_clients,
                adapt_visits=column.adapt_visits,
                visits=length.visits,
                evaluate_every=length.evaluate_every,
                settings={
                    key: str(value)
                    for key, value in {**experiment.settings, **column.settings}.items()
                    if key.partition(".")[0] in here
                },
                device=device,
                data_root=data_root,
                results=results,
            ).jobs()
            if check_data:
                check_possible(made)
        except BadInput as error:
            gaps |= {(column.name, method): Gap(Missing.NOT_POSSIBLE, str(error)) for method in here}
            continue
        for method in here:
            jobs[column.name, method] = [job for job in made if job.spec.method == method]
    return Plan(experiment, preset, jobs, gaps, titles)


def _find_all(experiment: Experiment) -> dict[str, str]:
    """Where each method is found, by name.

    Raises BadInput, with its line, for whatever else of the file is unknown: a data set, a partition, a network, a
    hyperparameter or its value.
    """
    from fedbench import plugins

    @contextlib.contextmanager
    def at(*where: str | int) -> Iterator[None]:
        try:
            yield
        except BadInput as error:
            raise experiment.mistake(where, str(error)) from None

    folder = experiment._path.resolve().parent
    found: dict[str, str] = {}
    for text, name in zip(experiment.methods, experiment.method_names, strict=True):
        found[name] = text
        with at("methods"):
            if text.endswith(".py"):
                file = (folder / text).resolve()
                if file.parent != folder:
                    raise BadInput(f"{text} must lie beside the experiment file, in {folder}")
                found[name] = str(file)
            plugins.find_method(found[name])
    for index, column in enumerate(experiment.columns):
        with at("columns", index, "dataset"):
            dataset = plugins.find_dataset(column.dataset).cls
        with at("columns", index, "partition"):
            plugins.parse_partition(column.partition or dataset.partition, dataset)
        with at("columns", index, "network"):
            plugins.parse_networks(column.network or dataset.network, column.clients)
    for where, key, value in all_settings(experiment):
        method, _, field_name = key.partition(".")
        with at(*where):
            plugins.configure(plugins.find_method(found[method]), {field_name: str(value)})
    return found


def reproduce(
    name: str,
    *,
    preset: str = "laptop",
    jobs: int | None = None,
    data_root: Path | None = None,
    results: Path = Path("results"),
    out: Path = Path("reports"),
    device: str = "auto",
    run: bool = True,
    console: Console | None = None,
) -> Report:
    """Run what is missing of the experiment `name` and render it, beside published values, into `out`/NAME.

    Runs that are stored are not repeated and interrupted ones go on; with `run` = False nothing is run. `jobs` is the
    number of runs at a time, by default one a core. A run that fails leaves a gap with its message and does not disturb
    the others. Raises BadInput where no run is possible at all.
    """
    from joblib import cpu_count  # those that this process may use
    from rich.console import Console

    from fedbench.reporting.compose import experiment_report
    from fedbench.runs import pool
    from fedbench.runs.comparison import check_writable
    from fedbench.runs.display import Display

    console = console or Console()
    made = plan(load(name), preset, data_root=data_root, results=results, device=device, check_data=run)
    everything = made.all_jobs
    if not everything:
        raise BadInput(f"no run of {name} is possible: {'; '.join(map(str, dict.fromkeys(made.gaps.values())))}")
    stopped = False
    if run:
        done, todo = pool.split_done(everything)
        if todo:
            check_writable(results)
        console.print(f"{made.experiment.title}: {len(done)} of {len(everything)} runs are done", markup=False)
        with Display(todo, console) as display:
            processes = min(jobs or cpu_count(), max(1, len(todo)))
            outcomes = pool.run(todo, processes, display.progress, display.outcome)
        made.failed.update({o.job.spec.identity: o.message for o in outcomes if o.ending == "failed"})
        stopped = any(outcome.ending == "stopped" for outcome in outcomes)
    return experiment_report(made, results, out, data_root=data_root, stopped=stopped, download=run)


@dataclass(frozen=True)
class Status:
    """How far an experiment is. `seconds_left` is of one process, None where nothing like it has been run yet."""

    name: str
    title: str
    runs: int
    done: int
    seconds_left: float | None


def status(
    name: str, preset: str = "laptop", *, data_root: Path | None = None, results: Path = Path("results")
) -> Status:
    """The number of runs of an experiment and of those done; the others are estimated from stored runs like them."""
    from fedbench import storage
    from fedbench.runs import pool

    experiment = load(name)
    jobs = plan(experiment, preset, data_root=data_root, results=results, check_data=False).all_jobs
    done, todo = pool.split_done(jobs)
    speeds: dict[tuple[str, ...], list[float]] = {}
    for path in storage.files(results) if todo and results.is_dir() else ():
        try:
            stored = storage.read(path)
        except BadInput:
            continue
        for likeness in _likenesses(stored.spec):
            speeds.setdefault(likeness, []).append(stored.last.seconds / max(1, stored.last.visits))
    left: float | None = 0.0
    for job in todo:
        known = next((speeds[likeness] for likeness in _likenesses(job.spec) if likeness in speeds), None)
        left = None if known is None or left is None else left + job.spec.visits * sum(known) / len(known)
    return Status(experiment.name, experiment.title, len(jobs), len(done), left)


def _likenesses(spec: Spec) -> Iterator[tuple[str, ...]]:
    """What runs have in common that take alike long for a visit, the closest first."""
    yield spec.device, spec.network, spec.dataset, spec.method
    yield spec.device, spec.network, spec.method
    yield spec.device, spec.network
    yield (spec.device,)


def experiments_table(
    name: str | None = None,
    preset: str = "laptop",
    *,
    data_root: Path | None = None,
    results: Path = Path("results"),
) -> Table:
    """One row an experiment: its title, how many runs it has, how many are done, and the time for the others."""
    from rich.table import Table

    from fedbench.runs.display import duration

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("name", "title", "runs", "done", "left"):
        table.add_column(head, justify="right" if head in ("runs", "done", "left") else "left")
    for each in names() if name is None else [name]:
        state = status(each, preset, data_root=data_root, results=results)
        left = "unknown" if state.seconds_left is None else duration(state.seconds_left)
        table.add_row(state.name, state.title, str(state.runs), str(state.done), left)
    table.caption = (
        f"preset {preset}; time for one process, from the stored runs most like these (unknown: there are none)"
    )
    return table
