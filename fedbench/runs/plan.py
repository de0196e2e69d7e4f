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

from fedbench.errors import BadInput, canonical
from fedbench.experiments.parts import Column, Experiment
from fedbench.experiments.schema import UNREAD, Mistake, all_settings, load, mistakes
from fedbench.storage import Facts, Index, files
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

    def visits(self, column: str) -> int:
        """The client visits of a run in the column of that name."""
        found = next(each for each in self.experiment.columns if each.name == column)
        return self.experiment.visits(found, self.preset)

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
    remote: bool = False,
) -> Plan:
    """The runs of `experiment`. A column that cannot be run here is a gap with its reason.

    `check_data` also makes every partition, which reads the data. Raises BadInput for an unknown method or data set.
    """
    from fedbench import plugins
    from fedbench.runs.comparison import Comparison, check_possible
    from fedbench.runs.pool import split_done

    length = experiment.length(preset)
    found, wrong = _find_all(experiment)
    if wrong:
        raise mistakes(experiment._path, experiment._text, wrong)
    titles = {name: plugins.find_method(where).cls.title for name, where in found.items()}
    jobs: dict[tuple[str, str], Sequence[Job]] = {}
    gaps: dict[tuple[str, str], Gap] = {}
    chosen, methods = experiment.chosen(preset), experiment.chosen_methods(preset)
    for column in experiment.columns:
        left_out = experiment.method_names if column not in chosen else set(experiment.method_names) - set(methods)
        gaps |= {(column.name, method): Gap(Missing.NOT_IN_PRESET, preset) for method in left_out}
        if column not in chosen:
            continue
        gaps |= {
            (column.name, method): Gap(Missing.NOT_APPLICABLE, why)
            for method, why in column.not_applicable.items()
            if method in methods
        }
        here = [method for method in methods if method not in column.not_applicable]
        try:
            made = Comparison(
                methods=[found[method] for method in here],
                seeds=seed_list(length.seeds),
                dataset=beside(experiment, column.dataset),
                clients=column.clients,
                partition=column.partition and beside(experiment, column.partition),
                network=_networks_beside(experiment, column),
                novel_clients=column.novel_clients,
                adapt_visits=column.adapt_visits,
                visits=experiment.visits(column, preset),
                evaluate_every=length.evaluate_every,
                settings=_settings(experiment, column, [found[method] for method in here]),
                device=device,
                settings_file=settings_file(experiment),
                data_root=data_root,
                results=results,
                keep_models=experiment.keep_models,
                remote=remote,
            ).jobs()
            if check_data:
                check_possible(split_done(made)[1])
        except BadInput as error:
            gaps |= {(column.name, method): Gap(Missing.NOT_POSSIBLE, str(error)) for method in here}
            continue
        for method in here:
            jobs[column.name, method] = [job for job in made if job.spec.method == method]
    return Plan(experiment, preset, jobs, gaps, titles)


def _settings(experiment: Experiment, column: Column, methods: Sequence[str]) -> dict[str, str]:
    """The settings of a column that are of the `methods` run there, which are found by these texts.

    Those of the column go before the experiment's, what it says of `all` methods included.
    """
    from fedbench import plugins

    known = [plugins.find_method(method) for method in methods]
    having = {f"{plugin.name}.{each.name}" for plugin in known for each in plugins.hyperparameters(plugin.cls)}
    having |= {f"all.{name.partition('.')[2]}" for name in having}
    general = {
        key: value
        for key, value in experiment.settings.items()
        if f"all.{key.partition('.')[2]}" not in column.settings
    }
    return {key: str(value) for key, value in {**general, **column.settings}.items() if key in having}


def settings_file(experiment: Experiment) -> Path | None:
    """Where the experiment's tuned hyperparameters are."""
    return None if experiment.settings_file is None else experiment.folder / experiment.settings_file


def efforts(experiment: Experiment) -> dict[str, str]:
    """How each method's hyperparameters were found, for tables: `tuned, 16 trials, 9,600 visits` or `defaults`."""
    from fedbench.runs.settings_file import NOT_TUNED, read_settings

    file = settings_file(experiment)
    known = {} if file is None else read_settings(file)
    words = {}
    for method, text in zip(experiment.method_names, experiment.methods, strict=True):
        own = _set_by(experiment, beside(experiment, text))
        words[method] = known.get(method, NOT_TUNED).words + (
            f"; set by the experiment: {', '.join(own)}" if own else ""
        )
    return words


def _set_by(experiment: Experiment, method: str) -> list[str]:
    """The hyperparameters of a method that the experiment sets, each with the columns, unless it is set in all."""
    from fedbench import plugins

    plugin = plugins.find_method(method)
    mine = (plugin.name, "all")

    def sets(settings: Mapping[str, object], name: str) -> bool:
        return any(canonical(owner) in mine and of == name for owner, _, of in (key.partition(".") for key in settings))

    found = []
    for name in (each.name for each in plugins.hyperparameters(plugin.cls)):
        columns = [column.name for column in experiment.columns if sets(column.settings, name)]
        if sets(experiment.settings, name) or (columns and len(columns) == len(experiment.columns)):
            found.append(name)
        elif columns:
            found.append(f"{name} (in {' and '.join(columns)})")
    return found


def beside(experiment: Experiment, text: str) -> str:
    """`text`, which names a plug-in or begins with its file, with the file's whole path.

    Raises BadInput for a file that does not lie beside the experiment's.
    """
    name, dot_py, rest = text.partition(".py")
    if not dot_py or rest[:1] not in ("", ":", "*"):
        return text
    file = (experiment.folder / f"{name}.py").resolve()
    if file.parent != experiment.folder:
        raise BadInput(f"{name}.py must lie beside the experiment file, in {experiment.folder}")
    return f"{file}{rest}"


def _networks_beside(experiment: Experiment, column: Column) -> str | None:
    text = column.networks
    return text if text is None else ",".join(beside(experiment, part.strip()) for part in text.split(","))


def plugin_mistakes(experiment: Experiment) -> list[Mistake]:
    """What is wrong with the plug-ins, hyperparameters, partitions and networks that `experiment` names."""
    return _find_all(experiment)[1]


def _find_all(experiment: Experiment) -> tuple[dict[str, str], list[Mistake]]:
    """Where each method is found, by name, and what else of the file is unknown: data sets, partitions, settings."""
    from fedbench import plugins

    wrong: list[Mistake] = []

    @contextlib.contextmanager
    def at(*where: str | int) -> Iterator[None]:
        try:
            yield
        except BadInput as error:
            wrong.append(Mistake(where, str(error)))

    found: dict[str, str] = {}
    with at("settings_file"):
        efforts(experiment)
    for index, (text, name) in enumerate(zip(experiment.methods, experiment.method_names, strict=True)):
        with at("methods", index):
            if name != UNREAD:
                found[name] = plugins.find_method(beside(experiment, text)).where
    for index, column in enumerate(experiment.columns):
        dataset = None
        with at("columns", index, "dataset"):
            dataset = plugins.find_dataset(beside(experiment, column.dataset)).cls
        if dataset is not None:
            with at("columns", index, "partition"):
                plugins.parse_partition(column.partition and beside(experiment, column.partition), dataset)
            with at("columns", index, "network"):
                networks = _networks_beside(experiment, column)
                plugins.parse_networks(dataset.network if networks is None else networks, column.clients)
    for where, key, value in all_settings(experiment):
        method, _, field_name = key.partition(".")
        having = [name for name in found if name == method]
        if method == "all":
            plugin_fields = {
                name: {h.name for h in plugins.hyperparameters(plugins.find_method(found[name]).cls)} for name in found
            }
            having = [name for name in found if field_name in plugin_fields[name]]
            if not having:
                wrong.append(Mistake(where, f"{key}: none of the methods has a field {field_name}"))
        for name in having:
            with at(*where):
                plugins.configure(plugins.find_method(found[name]), {field_name: str(value)})
    return found, wrong


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

    experiment = load(name, plugin_mistakes)
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
        known = speeds.seconds((spec.device, spec.network, spec.dataset, spec.method), job.total_visits)
        left = None if known is None or left is None else left + known
    return Status(experiment.name, experiment.title, len(jobs), len(done), left)
