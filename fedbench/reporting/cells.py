"""Results cut down to what a report needs, and sorted into cells that may be averaged."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import Parallel, cpu_count, delayed

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.storage import Failure, Result, TestScores, measures
from fedbench.storage.gap import Gap, Missing
from fedbench.storage.spec import SEEDS, Spec

Floats = npt.NDArray[np.float64]
MANY = 400  # files from which the work is spread over processes
TOGETHER = 50  # files that a process is given at a time


@dataclass(frozen=True, eq=False)
class Scores:
    """Test accuracy of some clients, in percent."""

    client: Floats  # [N]
    pooled: float  # over all their samples
    samples: Floats  # [N], test rows of each client

    @staticmethod
    def of(scores: TestScores) -> Scores:
        """The scores that belong to counts of correct rows."""
        client = 100 * np.array(measures.client_accuracies(scores))
        return Scores(client, 100 * measures.pooled_accuracy(scores), np.array(scores.total, dtype=float))

    @property
    def client_mean(self) -> float:
        """The mean over clients."""
        return float(measures.client_mean(self.client.tolist()))

    @property
    def worst_tenth(self) -> float:
        """The mean over the worst tenth of the clients, at least one."""
        return float(measures.worst_tenth(self.client.tolist()))

    @property
    def worst_client(self) -> float:
        """The accuracy of the worst client."""
        return float(measures.worst_client(self.client.tolist()))

    @property
    def client_std(self) -> float:
        """The sample standard deviation over clients."""
        return float(measures.client_std(self.client.tolist()))

    @property
    def jain_index(self) -> float:
        """Jain's fairness index, 1/N .. 1."""
        return float(measures.jain_index(self.client.tolist()))


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run. Accuracies are in percent, traffic in megabytes (10^6 bytes)."""

    spec: Spec
    path: Path
    title: str  # of the method
    code: str  # hash of the method's source
    dataset_code: str | None  # hash of the data set's source
    codes: Mapping[str, str]  # hashes of the sources of a partition and of networks that are plug-ins, by name
    partition: str  # checksum of who holds which rows
    provenance: Mapping[str, Any]
    seen: Scores
    unseen: Scores | None
    best_visits: int
    best_megabytes: float  # moved until the chosen round
    megabytes: float  # moved in the whole run
    megabytes_per_visit: float  # messages and uploads, without what a joining client is sent once
    seconds: float
    gradients: float | None  # evaluations of the whole run, in batches; None: not recorded (format 1)
    gradients_per_visit: float | None
    gradients_to_personalize: float | None  # that make one client's personal model, at the chosen round
    diverged: bool  # its last losses are no numbers
    # visits, megabytes, seconds, gradients (where recorded); accuracy (validation, pooled), client_mean (validation);
    # and, where recorded, test_accuracy and test_client_mean: of the round that validation had chosen by then
    history: Mapping[str, Floats]
    whole_seconds: float = 0.0  # of the run that is stored, of which this may be the beginning
    beside: bool = False  # other runs of the same machine overlapped with it in time

    def version(self, package: str) -> str:
        """The version of a package that it was made with."""
        return str(self.provenance.get("software", {}).get(package, "unknown"))

    @property
    def machine(self) -> str:
        """The processor or the graphics card, as far as it is recorded."""
        host = self.provenance.get("host", {})
        host = host if isinstance(host, Mapping) else {}
        device = self.provenance.get("device", "unknown device")
        return str(host.get("processor", "unknown processor") if device == "cpu" else device)

    @property
    def commit(self) -> str:
        """The commit of the sources; "not recorded" outside a checkout."""
        return str(self.provenance.get("commit") or "not recorded")

    @property
    def uncommitted(self) -> bool:
        """Whether the sources had changes that no commit holds."""
        return bool(self.provenance.get("uncommitted_changes"))

    def scores(self, unseen: bool) -> Scores | None:
        """The scores of the clients that were held out of training, or of the others."""
        return self.unseen if unseen else self.seen


def _history(result: Result) -> dict[str, Floats]:
    rows = result.history
    history = {
        "visits": np.array([row.visits for row in rows], dtype=float),
        "megabytes": np.array([measures.bytes_moved(row) / measures.MEGABYTE for row in rows]),
        "seconds": np.array([row.seconds for row in rows]),
        "accuracy": np.array([100 * row.val_accuracy for row in rows]),
        "client_mean": np.array([100 * row.val_client_mean for row in rows]),
    }
    if all(row.gradients is not None for row in rows):
        history["gradients"] = np.array([row.gradients for row in rows], dtype=float)
    if result.earlier is not None:
        bests = [*result.earlier, result.best]
        # the place of the last improvement that is not later than each row
        chosen = np.searchsorted([best.visits for best in bests], history["visits"], side="right") - 1
        history["test_accuracy"] = 100 * np.array([best.accuracy for best in bests])[chosen]
        history["test_client_mean"] = 100 * np.array([best.client_mean for best in bests])[chosen]
    return history


@cache
def title_in_code(method: str) -> str | None:
    """The title that a built-in method's source gives it, read without importing it; None for other methods."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        found = importlib.util.find_spec(f"fedbench.methods.{method.replace('-', '_')}")
        for node in ast.walk(ast.parse(Path(str(found and found.origin)).read_text())):
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["title"]:
                return str(ast.literal_eval(node.value))
    return None


def read(path: Path) -> Run:
    """The run stored at `path`. Raises BadInput for a file that is no complete result, or lies in another's place."""
    return run_of(storage.read_in_place(path), path)


def run_of(result: Result, path: Path) -> Run:
    """What a report needs of a `result` that is stored at `path`."""
    best, last = result.best, result.last
    return Run(
        spec=result.spec,
        path=path,
        title=title_in_code(result.spec.method) or result.title,
        code=result.code,
        dataset_code=result.dataset_code,
        codes=result.codes,
        partition=result.partition,
        provenance=result.provenance,
        seen=Scores.of(best.test),
        unseen=Scores.of(result.unseen.best.test) if result.unseen else None,
        best_visits=best.visits,
        best_megabytes=measures.bytes_moved(best) / measures.MEGABYTE,
        megabytes=measures.bytes_moved(last) / measures.MEGABYTE,
        megabytes_per_visit=measures.bytes_per_visit(last) / measures.MEGABYTE,
        seconds=last.seconds,
        whole_seconds=last.seconds,
        gradients=last.gradients,
        gradients_per_visit=measures.gradients_per_visit(last),
        gradients_to_personalize=measures.gradients_per_personalization(best, measures.trained_clients(result)),
        diverged=result.diverged,
        history=_history(result),
    )


Found = tuple[list[Run], list[str], list[Failure]]  # runs, why files were left out, runs that could not be cut


def _attempts(paths: Sequence[Path], at: Sequence[int], also: Mapping[str, Sequence[int]]) -> Found:
    runs: list[Run] = []
    left_out: list[str] = []
    uncut: list[Failure] = []
    for path in paths:
        try:
            result = storage.read_in_place(path)
        except BadInput as error:
            left_out.append(str(error))
            continue
        if not at:
            runs.append(run_of(result, path))
        for visits in also.get(result.spec.family, ()):
            if visits < result.spec.visits:
                with contextlib.suppress(BadInput):  # then it is a run that is not there
                    runs.append(replace(run_of(result.at(visits), path), whole_seconds=result.last.seconds))
        for visits in at:
            try:
                runs.append(replace(run_of(result.at(visits), path), whole_seconds=result.last.seconds))
            except BadInput as error:
                shorter = result.spec.model_copy(update={"visits": visits})
                uncut.append(Failure(spec=shorter, details=str(error)))
    return runs, left_out, uncut


@dataclass(frozen=True)
class Collection:
    """What a results folder holds."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]  # why, of every file that could not be used
    failures: tuple[Failure, ...]
    uncut: tuple[Failure, ...] = ()  # runs that could not be cut, each with the spec that was wanted, and why
    files: int = 0


def collect(root: Path, at: Sequence[int] = (), also: Mapping[str, Sequence[int]] | None = None) -> Collection:
    """Everything under `root`; with `at`, each result as it would be after so many visits.

    `also` adds to whole results their beginnings, for families of specs, where they can be had. Where a run of just so
    many visits is stored beside a longer one, it is the one that is used. Raises BadInput where there is no folder.
    """
    if not root.exists():
        raise BadInput(f"there is no results folder {root}: make one with `fedbench run`, or name another")
    files = list(storage.files(root))
    everywhere = {
        path for path in root.rglob("*.json") if not {storage.WORK, storage.TRIALS} & {*path.relative_to(root).parts}
    }
    strays = sorted(everywhere.difference(files))
    left_out = [f"{path} does not lie where results do, in DATASET/METHOD below {root}" for path in strays]
    uncut: list[Failure] = []
    runs: dict[str, Run] = {}
    for found in _read_all(files, at, also or {}):
        for run in found[0]:
            known = runs.get(run.spec.identity)
            if known is None or _is_cut(known) > _is_cut(run):
                runs[run.spec.identity] = run
            elif _is_cut(known) == _is_cut(run) == 0:
                left_out.append(f"{run.path} is a second copy of {known.path}")
        left_out += found[1]
        uncut += found[2]
    failures = []
    for path in sorted((root / storage.WORK).glob("*.error")):
        try:
            failures.append(storage.read_failure(path))
        except BadInput as error:
            left_out.append(str(error))
    there = {(run.spec.family, run.spec.visits) for run in runs.values()} if uncut else set()
    lost = tuple(each for each in uncut if (each.spec.family, each.spec.visits) not in there)
    return Collection(_with_neighbours(runs.values()), tuple(left_out), tuple(failures), lost, len(files))


def _is_cut(run: Run) -> int:
    return int("cut_from" in run.provenance)


def processes(files: int) -> int:
    """Over how many processes a report on so many results is spread; 1 where they are too few to be worth it."""
    return min(8, cpu_count()) if files >= MANY else 1


def _read_all(paths: Sequence[Path], at: Sequence[int], also: Mapping[str, Sequence[int]]) -> Iterator[Found]:
    parts = [paths[i : i + TOGETHER] for i in range(0, len(paths), TOGETHER)]
    tasks = (delayed(_attempts)(part, at, also) for part in parts)
    yield from Parallel(processes(len(paths)), return_as="generator")(tasks)


def _with_neighbours(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs, those marked that overlapped in time with another one on the same machine.

    A run ended when it says so and began its own seconds earlier, or before that if it was interrupted.
    """
    known = list(runs)
    stored = {str(run.provenance.get("cut_from", run.spec.identity)): run for run in known}
    spans = sorted(
        (run.machine, end - run.whole_seconds, end, identity)
        for identity, run in stored.items()
        if (end := _end(run)) is not None
    )
    beside: set[str] = set()
    latest: tuple[str, float, str] | None = None  # machine, end and identity of the span that reaches farthest
    for machine, start, end, identity in spans:
        # ends are whole seconds: only an overlap of more than one is one
        if latest and latest[0] == machine and start < latest[1] - 1:
            beside |= {identity, latest[2]}
        if latest is None or latest[0] != machine or end > latest[1]:
            latest = (machine, end, identity)
    return tuple(
        replace(run, beside=True) if run.provenance.get("cut_from", run.spec.identity) in beside else run
        for run in known
    )


def _end(run: Run) -> float | None:
    try:
        return datetime.fromisoformat(str(run.provenance["finished"])).timestamp()
    except (KeyError, ValueError):
        return None


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
        """A name that says in what it differs from `others`: everything that is not the same in all of them."""
        trained = self.clients - self.novel_clients
        text = f"{self.dataset}, {trained} client{'' if trained == 1 else 's'}"
        text += f" + {self.novel_clients} unseen" if self.novel_clients else ""
        text += f", {self.visits} visits"
        return ", ".join([text, *self.differences(others)])

    def differences(self, others: Iterable[Setting]) -> list[str]:
        """What is not the same in all of `others`, beside data set, clients and visits."""
        return list(self._differences(list(others)))

    def _differences(self, others: Sequence[Setting]) -> Iterator[str]:
        def differs(name: str) -> bool:
            return len({getattr(other, name) for other in others}) > 1

        if differs("partition"):
            yield short_partition(self.partition, [other.partition for other in others])
        if differs("network") and len({(other.dataset, other.network) for other in others}) > len(
            {other.dataset for other in others}
        ):
            yield f"network {self.network}"
        if self.novel_clients and differs("adapt_visits"):
            yield f"{self.adapt_visits} visits to adapt"
        if differs("evaluate_every"):
            yield f"evaluated every {self.evaluate_every} visits"
        if differs("dtype"):
            yield self.dtype


def short_partition(text: str, others: Sequence[str]) -> str:
    """The kind of a partition, its first setting, and those in which it differs from others of its kind."""
    kind, _, rest = text.partition(":")
    settings = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    same_kind = [
        dict(part.partition("=")[::2] for part in other.partition(":")[2].split(",") if part)
        for other in others
        if other.partition(":")[0] == kind
    ]
    shown = [
        f"{name}={value}"
        for place, (name, value) in enumerate(settings.items())
        if place == 0 or any(other.get(name) != value for other in same_kind)
    ]
    return f"{kind} ({', '.join(shown)})" if shown else kind


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one method in one setting, one a seed, that differ in nothing else; or why there are none."""

    runs: tuple[Run, ...] = ()
    expected: int = 0  # seeds
    gap: Gap | None = None  # why the cell is empty

    @property
    def by_seed(self) -> dict[int, Run]:
        """The runs by their seeds."""
        return {run.spec.seed: run for run in self.runs}


def seed_order(seed: int) -> tuple[int, int]:
    """The package's own seeds first, in their order."""
    return (SEEDS.index(seed), 0) if seed in SEEDS else (len(SEEDS), seed)


def make_cell(runs: Iterable[Run], expected: int) -> Cell:
    """The cell of `runs`, refused where they differ in more than the seed or were made by different code."""
    runs = tuple(sorted(runs, key=lambda run: seed_order(run.spec.seed)))
    if found := differences(runs):
        reason = f"the runs differ in more than the seed: {'; '.join(found)}"
        return Cell((), expected, Gap(Missing.REFUSED, reason))
    return Cell(runs, expected, None if runs else Gap(Missing.NOT_RUN))


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
    facts |= {f"code of {name}": code for name, code in run.codes.items()}
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
