"""Results cut down to what a report needs, and sorted into cells that may be averaged."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.storage import Failure, HistoryRow, Row, TestScores
from fedbench.storage.spec import SEEDS, Spec

Floats = npt.NDArray[np.float64]
MEGABYTE = 1e6  # bytes
MANY = 400  # files from which the work is spread over processes
TOGETHER = 50  # files that a process is given at a time


@dataclass(frozen=True, eq=False)
class Scores:
    """Test accuracy of some clients, in percent."""

    client: Floats  # [N]
    pooled: float  # over all their samples

    @staticmethod
    def of(scores: TestScores) -> Scores:
        """From counts of correct rows."""
        correct, total = np.array(scores.correct, dtype=float), np.array(scores.total, dtype=float)
        return Scores(100 * correct / total, float(100 * correct.sum() / total.sum()))

    @property
    def client_mean(self) -> float:
        """The mean over clients."""
        return float(self.client.mean())

    @property
    def worst_decile(self) -> float:
        """The accuracy that one client in ten does not exceed (linear interpolation)."""
        return float(np.quantile(self.client, 0.1))

    @property
    def client_sd(self) -> float:
        """The standard deviation over clients (ddof = 1; 0 for one client)."""
        return float(self.client.std(ddof=1)) if len(self.client) > 1 else 0.0


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run. Accuracies are in percent, traffic in megabytes (10^6 bytes)."""

    spec: Spec
    path: Path
    title: str  # of the method
    code: str  # hash of the method's source
    dataset_code: str | None  # hash of the data set's source
    partition: str  # checksum of who holds which rows
    provenance: Mapping[str, Any]
    seen: Scores
    unseen: Scores | None
    best_visits: int
    best_megabytes: float  # moved until the chosen round
    megabytes: float  # moved in the whole run
    seconds: float
    diverged: bool  # its last losses are no numbers
    history: Mapping[str, Floats]  # visits, megabytes, seconds, accuracy (validation, pooled), client_mean (validation)

    def version(self, package: str) -> str:
        """The version of a package that it was made with."""
        return str(self.provenance.get("software", {}).get(package, "unknown"))

    @property
    def megabytes_per_visit(self) -> float:
        """Messages and uploads, without what a joining client is sent once."""
        moved = self.megabytes - self.history["welcome"][-1]
        return float(moved / max(1.0, self.history["visits"][-1]))

    def scores(self, unseen: bool) -> Scores | None:
        """Of the clients that were held out of training, or of the others."""
        return self.unseen if unseen else self.seen


def _moved(row: Row) -> float:
    return (row.bytes_down + row.bytes_up + row.bytes_welcome) / MEGABYTE


def _history(rows: Sequence[HistoryRow]) -> dict[str, Floats]:
    return {
        "visits": np.array([row.visits for row in rows], dtype=float),
        "megabytes": np.array([_moved(row) for row in rows]),
        "welcome": np.array([row.bytes_welcome / MEGABYTE for row in rows]),
        "seconds": np.array([row.seconds for row in rows]),
        "accuracy": np.array([100 * row.val_accuracy for row in rows]),
        "client_mean": np.array([100 * row.val_client_mean for row in rows]),
    }


@cache
def title_in_code(method: str) -> str | None:
    """The title that a built-in method's source gives it, read without importing it; None for other methods."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        found = importlib.util.find_spec(f"fedbench.methods.{method.replace('-', '_')}")
        for node in ast.walk(ast.parse(Path(str(found and found.origin)).read_text())):
            named = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["title"]
            if named and isinstance(node.value, ast.Constant):  # type: ignore[attr-defined]
                return str(node.value.value)  # type: ignore[attr-defined]
    return None


def read(path: Path) -> Run:
    """The run stored at `path`. Raises BadInput for a file that is no complete result, or lies in another's place."""
    result = storage.read_in_place(path)
    history = _history(result.history)
    return Run(
        spec=result.spec,
        path=path,
        title=title_in_code(result.spec.method) or result.title,
        code=result.code,
        dataset_code=result.dataset_code,
        partition=result.partition,
        provenance=result.provenance,
        seen=Scores.of(result.best.test),
        unseen=Scores.of(result.unseen.best.test) if result.unseen else None,
        best_visits=result.best.visits,
        best_megabytes=_moved(result.best),
        megabytes=float(history["megabytes"][-1]),
        seconds=result.last.seconds,
        diverged=result.diverged,
        history=history,
    )


def _attempts(paths: Sequence[Path]) -> list[Run | str]:
    found: list[Run | str] = []
    for path in paths:
        try:
            found.append(read(path))
        except BadInput as error:
            found.append(str(error))
    return found


@dataclass(frozen=True)
class Collection:
    """What a results folder holds; `left_out` says of every file that could not be used why."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]
    failures: tuple[Failure, ...]


def collect(root: Path) -> Collection:
    """Everything under `root`. Raises BadInput where there is no such folder."""
    if not root.exists():
        raise BadInput(f"there is no results folder {root}: make one with `fedbench run`, or name another")
    runs: dict[str, Run] = {}
    files = list(storage.files(root))
    everywhere = {
        path for path in root.rglob("*.json") if not {storage.WORK, storage.TRIALS} & {*path.relative_to(root).parts}
    }
    strays = sorted(everywhere.difference(files))
    left_out = [f"{path} does not lie where results do, in DATASET/METHOD below {root}" for path in strays]
    for run in _read_all(files):
        if isinstance(run, str):
            left_out.append(run)
        else:
            runs[run.spec.identity] = run
    failures = []
    for path in sorted((root / storage.WORK).glob("*.error")):
        try:
            failures.append(storage.read_failure(path))
        except BadInput as error:
            left_out.append(str(error))
    return Collection(tuple(runs.values()), tuple(left_out), tuple(failures))


def processes(files: int) -> int:
    """Over how many processes a report on so many results is spread; 1 where they are too few to be worth it."""
    return min(8, cpu_count()) if files >= MANY else 1


def _read_all(paths: Sequence[Path]) -> Iterator[Run | str]:
    parts = [paths[i : i + TOGETHER] for i in range(0, len(paths), TOGETHER)]
    for part in Parallel(processes(len(paths)), return_as="generator")(delayed(_attempts)(part) for part in parts):
        yield from part


# ---------------------------------------------------------------- cells


class Setting(NamedTuple):
    """What runs must have in common to stand in one table."""

    dataset: str
    clients: int
    novel_clients: int
    visits: int
    network: str
    partition: str
    adapt_visits: int
    evaluate_every: int
    dtype: str

    @staticmethod
    def of(spec: Spec) -> Setting:
        """The setting of a run."""
        return Setting(*(getattr(spec, name) for name in Setting._fields))

    def label(self, others: Iterable[Setting]) -> str:
        """A name that tells it from `others`, short where it can be."""
        text = f"{self.dataset}, {self.clients - self.novel_clients} clients"
        text += f" + {self.novel_clients} unseen" if self.novel_clients else ""
        text += f", {self.visits} visits"
        twins = [other for other in others if other[:4] == self[:4]]
        rest = [
            f"{name.replace('_', ' ')} {getattr(self, name)}"
            for name in self._fields[4:]
            if len({getattr(other, name) for other in twins}) > 1
        ]
        return ", ".join([text, *rest])


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one method in one setting, one a seed, that differ in nothing else; or why there are none."""

    runs: tuple[Run, ...] = ()
    expected: int = 0  # seeds
    gap: str = ""  # why the cell is empty
    differences: tuple[str, ...] = ()  # why the runs that there are were not averaged

    @property
    def by_seed(self) -> dict[int, Run]:
        """The runs."""
        return {run.spec.seed: run for run in self.runs}


def seed_order(seed: int) -> tuple[int, int]:
    """The package's own seeds first, in their order."""
    return (SEEDS.index(seed), 0) if seed in SEEDS else (len(SEEDS), seed)


def make_cell(runs: Iterable[Run], expected: int) -> Cell:
    """The cell of `runs`, refused where they differ in more than the seed or were made by different code."""
    runs = tuple(sorted(runs, key=lambda run: seed_order(run.spec.seed)))
    if found := differences(runs):
        return Cell((), expected, "refused: the runs differ in more than the seed", tuple(found))
    return Cell(runs, expected, "" if runs else "not run")


def differences(runs: Sequence[Run]) -> list[str]:
    """What, beside the seed, is not the same in all `runs`: a sentence for each thing that differs."""
    things = [_facts(run) for run in runs]
    found = []
    for name in sorted({name for facts in things for name in facts}):
        seeds: dict[str, list[str]] = {}
        for run, facts in zip(runs, things, strict=True):
            if name in facts or name != "data set's code":
                seeds.setdefault(str(facts.get(name, "absent")), []).append(str(run.spec.seed))
        if len(seeds) > 1:
            found.append(f"{name}: " + "; ".join(f"{v} (seed {', '.join(s)})" for v, s in seeds.items()))
    return found


def _facts(run: Run) -> dict[str, object]:
    spec = run.spec.model_dump(exclude={"params", "seed"})
    facts = {**spec, **run.spec.params, "fedbench version": run.version("fedbench"), "method's code": run.code}
    return facts | {"data set's code": run.dataset_code} if run.dataset_code else facts  # unknown of older results


def variants(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of one method in one setting, cut into rows of a table.

    Runs that differ in their settings are rows of their own where each two of the rows have a seed in common: then
    they were made to be compared. Where they have none, they look like one row of mixed settings, and stay together,
    to be refused.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.spec.model_copy(update={"seed": 0}).identity, []).append(run)
    seeds = [{run.spec.seed for run in group} for group in groups.values()]
    if all(a & b for a, b in combinations(seeds, 2)):
        return list(groups.values())
    return [list(runs)]


def variant_titles(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The method's title, and for each of several variants what makes it differ from the others."""
    if len(groups) == 1:
        return [groups[0][0].title]
    facts = [_facts(group[0]) for group in groups]
    names = dict.fromkeys(name for f in facts for name in f if not name.endswith("code"))
    values = [{name: str(f.get(name, "absent")) for name in names} for f in facts]
    differing = [name for name in names if len({v[name] for v in values}) > 1]
    return [
        f"{group[0].title} ({', '.join(f'{name}={v[name]}' for name in differing)})"
        for group, v in zip(groups, values, strict=True)
    ]
