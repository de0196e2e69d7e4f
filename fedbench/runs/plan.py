"""The runs of an experiment: planned, and how many of them are done.

torch is imported where runs are planned, so that reading an experiment does without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import BadInput
from fedbench.experiments.schema import Experiment, all_settings, load
from fedbench.storage.gap import Gap, Missing
from fedbench.storage.spec import seed_list

if TYPE_CHECKING:
    from fedbench.runs.job import Job


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

        job = self.by_identity[identity]
        data = plugins.find_dataset(job.dataset).code
        return code == plugins.find_method(job.method).code and dataset_code in (data, None)

    @property
    def all_jobs(self) -> list[Job]:
        """Every run once, one seed after the other, so that a comparison is there early."""
        return list(self.by_identity.values())

    @cached_property
    def by_identity(self) -> dict[str, Job]:
        """The runs by identity, in that order."""
        by_seed = [jobs[i] for i in range(self.experiment.length(self.preset).seeds) for jobs in self.jobs.values()]
        return {job.spec.identity: job for job in by_seed}


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
    from fedbench.runs.pool import split_done

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
                check_possible(split_done(made)[1])
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
    from fedbench.runs import pool
    from fedbench.runs.status import Speeds
    from fedbench.storage import Facts, Index, files

    experiment = load(name)
    jobs = plan(experiment, preset, data_root=data_root, results=results, check_data=False).all_jobs
    done, todo = pool.split_done(jobs)
    index, stored = Index(results), list[Facts]()
    for path in files(results) if todo and results.is_dir() else ():
        with contextlib.suppress(BadInput):
            stored.append(index.facts(path))
    speeds = Speeds(stored)
    left: float | None = 0.0
    for job in todo:
        spec = job.spec
        known = speeds.seconds((spec.device, spec.network, spec.dataset, spec.method), spec.visits)
        left = None if known is None or left is None else left + known
    return Status(experiment.name, experiment.title, len(jobs), len(done), left)
