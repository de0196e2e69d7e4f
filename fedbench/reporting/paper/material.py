"""What the parts of a report are made of: the results of a plan, their models, partitions and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.errors import BadInput
from fedbench.experiments.rules import ACCURACY, CellName
from fedbench.reporting.cells import differences
from fedbench.reporting.run import run_of
from fedbench.reporting.tables import Column, Entry, Table
from fedbench.storage.gap import Gap, Missing

if TYPE_CHECKING:
    from fedbench.dataset import Data
    from fedbench.experiments.parts import Column as Setting
    from fedbench.partitions import Partition
    from fedbench.reporting.figures import Picture
    from fedbench.runs.job import Job
    from fedbench.runs.plan import Plan
    from fedbench.storage import Best, Result

BySeed = Mapping[int, float]


@dataclass
class Part:
    """What a part adds to a report, and the numbers that rules of claims may name."""

    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    values: dict[CellName, dict[int, float]] = field(default_factory=dict)  # cell -> seed -> value
    places: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)  # (axis, column) -> seed -> place

    def add(self, other: Part) -> None:
        """Take over everything of `other`."""
        self.tables += other.tables
        self.pictures += other.pictures
        self.values |= other.values
        self.places |= other.places


@dataclass(frozen=True)
class Stored:
    """A result that is there: its job, its file, and what it says."""

    job: Job
    path: Path
    result: Result

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.result.spec.seed


@dataclass(frozen=True)
class Material:
    """The results of a plan, read once, and what they were made from."""

    plan: Plan
    data_root: Path | None = None
    download: bool = True

    @cached_property
    def stored(self) -> dict[tuple[str, str], list[Stored]]:
        """The results that are there and current, by column and method, in the order of the seeds.

        They are those of the tables, also where a file of models that should be beside them is missing: parts that need
        it say so. Those that differ in more than the seed are left out, as in tables, which say so too.
        """
        from fedbench.runs.state import look

        found: dict[tuple[str, str], list[Stored]] = {}
        for place, jobs in self.plan.jobs.items():
            for job in jobs:
                there = look(replace(job, keep_models=False))
                if there.state == "done" and there.path is not None:
                    found.setdefault(place, []).append(Stored(job, there.path, there.read(job)))
        return {
            place: results
            for place, results in found.items()
            if not differences([run_of(each.result, each.path) for each in results])
        }

    @property
    def columns(self) -> list[Setting]:
        """The columns of the preset that have results."""
        return [
            column
            for column in self.plan.experiment.chosen(self.plan.preset)
            if any(name == column.name for name, _ in self.stored)
        ]

    @property
    def methods(self) -> list[str]:
        """The methods that have results."""
        return [name for name in self.plan.experiment.method_names if any(name == method for _, method in self.stored)]

    def title(self, method: str) -> str:
        """What readers know the method by."""
        return self.plan.titles[method]

    def accuracy(self, best: Best, clients: Sequence[int] | None = None) -> float:
        """The accuracy in %, in the metric of the experiment, over some places among the clients (default: all)."""
        return accuracy(best, self.plan.experiment.metric, clients)

    def values(self) -> dict[CellName, dict[int, float]]:
        """The quantities that every experiment has."""
        found: dict[CellName, dict[int, float]] = {}
        for (column, method), results in self.stored.items():
            for each in results:
                result, seed = each.result, each.seed
                last = result.last
                numbers = {
                    ACCURACY: self.accuracy(result.best),
                    "megabytes-per-visit": (last.bytes_down + last.bytes_up) / last.visits / 1e6,
                }
                if result.unseen is not None:
                    numbers["unseen"] = self.accuracy(result.unseen.best)
                    numbers["gap"] = numbers[ACCURACY] - numbers["unseen"]
                for quantity, value in numbers.items():
                    found.setdefault(CellName(quantity, method, column), {})[seed] = value
        return found

    def places(self) -> dict[tuple[str, str], dict[int, float]]:
        """Where columns stand on the axis of the experiment, for each seed that has results there."""
        axis, found = self.plan.experiment.axis, dict[tuple[str, str], dict[int, float]]()
        for (name, _), results in self.stored.items():
            column = next(column for column in self.plan.experiment.columns if column.name == name)
            if axis is not None and column.x is not None:
                found.setdefault((axis, name), {}).update({each.seed: float(column.x) for each in results})
        return found

    def data(self, stored: Stored) -> Data:
        """The samples that a result was made from. Raises BadInput where they are not there."""
        from fedbench import plugins
        from fedbench.runs.prepare import load_data

        job = stored.job
        file = job.data_root / f"{job.spec.dataset}.npz"
        if plugins.find_dataset(job.dataset).cls.cached and not self.download and not file.exists():
            raise BadInput(f"{file} is not there")
        return load_data(job.dataset, job.data_root)

    def partition(self, stored: Stored) -> Partition:
        """Who holds which rows. Raises BadInput where the data are not there or are others."""
        from fedbench.runs.prepare import make_partition

        self.data(stored)
        job, spec = stored.job, stored.result.spec
        made = make_partition(job.dataset, job.data_root, job.partition or spec.partition, spec.clients, spec.seed)
        if made.checksum() != stored.result.partition:
            raise BadInput(f"the data in {job.data_root} give another partition than {stored.path} was made with")
        return made


def accuracy(best: Best, metric: str, clients: Sequence[int] | None = None) -> float:
    """Test accuracy in %, pooled over samples or the mean over clients, of some places among the clients."""
    correct, total = np.array(best.test.correct, dtype=float), np.array(best.test.total, dtype=float)
    if clients is not None:
        correct, total = correct[list(clients)], total[list(clients)]
    return float(100 * (correct.sum() / total.sum() if metric == "pooled" else (correct / total).mean()))


def entry(values: BySeed, expected: int, gap: Missing = Missing.NOT_RUN) -> Entry:
    """Mean and standard deviation over seeds."""
    if not values:
        return Entry(gap=Gap(gap), expected=expected)
    numbers = list(values.values())
    sd = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return Entry(float(np.mean(numbers)), sd, n=len(numbers), expected=expected)


def problem_table(name: str, title: str, problems: Sequence[str]) -> Table:
    """A table of nothing that says why."""
    rows = [(problem, [Entry(gap=Gap(Missing.NOT_POSSIBLE))]) for problem in dict.fromkeys(problems)]
    return Table(name, title, "What could not be computed.", [Column("")], rows, corner="why")
