"""What a results folder holds and what is going on in it, whoever runs it: this process, another, another machine.

Everything is read off files: results, the plan that a submitting process leaves, notes of progress, locks, records of
failures. torch is not imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import BadInput
from fedbench.storage import WORK, Facts, Index, files, read_bytes, read_failure, write_bytes

if TYPE_CHECKING:
    from fedbench.runs.job import Job

FRESH = 30.0  # seconds for which a note is believed where locks cannot be asked
# what comes of reading as JSON of a certain form what may be anything
NO_JSON = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Planned:
    """A run that was planned and had no result then."""

    identity: str
    method: str
    dataset: str
    seed: int
    visits: int
    likeness: tuple[str, str, str, str]  # device, network, data set, method
    family: str
    cut: int  # the visits at which a longer run of its family answers for it
    since: int  # nanoseconds since the epoch; a result from before is one that is to be made again


@dataclass(frozen=True)
class Running:
    """A run that is going on: where, how far, since when."""

    identity: str
    name: str  # method, data set, seed
    where: str  # host, process, device
    visits: int
    total: int
    since: float  # seconds since the epoch
    seconds_left: float | None
    best: float | None  # validation accuracy so far, 0 .. 1


@dataclass(frozen=True)
class Failed:
    """A run that ended with an error and has no result since."""

    identity: str
    name: str
    message: str
    family: str
    cut: int  # its visits, where longer runs of its family may answer for it
    since: int  # nanoseconds since the epoch


@dataclass(frozen=True)
class Status:
    """`seconds_left` is with as many runs at a time as there are now, or one; None where nothing like it has run."""

    done: Mapping[tuple[str, str], int]  # complete results by data set and method
    damaged: Sequence[Path]
    running: Sequence[Running]
    failed: Sequence[Failed]
    missing: Sequence[Planned]  # planned, and neither done nor running nor failed
    seconds_left: float | None


def status(results: str | Path = "results") -> Status:
    """What is done, running, failed and missing in `results`. Raises BadInput where there is no such folder."""
    root = Path(results)
    index, damaged = Index(root), []
    done: dict[str, tuple[Facts, int]] = {}  # with the time of the file
    for path in files(root):
        try:
            facts = index.facts(path)
            done[facts.identity] = facts, path.stat().st_mtime_ns
        except (BadInput, FileNotFoundError):
            damaged.append(path)
    index.save()
    running = {each.identity: each for each in _running(root / WORK)}
    failures = [each for each in _failed(root) if each.identity not in running]
    plan = planned(root)
    families = {each.family for each in plan} | {each.family for each in failures}
    answered: dict[tuple[str, int], int] = {}  # when the newest result was written that answers
    for facts, written in done.values():
        for cut in {facts.visits, *facts.cuts} if facts.family in families else ():
            answered[facts.family, cut] = max(written, answered.get((facts.family, cut), written))

    def is_open(run: Planned | Failed) -> bool:
        return answered.get((run.family, run.cut), -1) < run.since

    failed = {each.identity: each for each in failures if is_open(each)}
    missing = [each for each in plan if not (each.identity in running or each.identity in failed) and is_open(each)]
    again = {*running, *failed, *(each.identity for each in missing)}  # they may have a result all the same
    by_method: dict[tuple[str, str], int] = {}
    for facts in (facts for identity, (facts, _) in done.items() if identity not in again):
        key = facts.likeness[2], facts.likeness[3]
        by_method[key] = by_method.get(key, 0) + 1
    speeds = Speeds(facts for facts, _ in done.values())
    left: list[float | None] = [each.seconds_left for each in running.values()]
    left += [speeds.seconds(each.likeness, each.visits) for each in missing]
    told = [each for each in left if each is not None]
    seconds = sum(told) / max(1, len(running)) if len(told) == len(left) else None
    return Status(by_method, damaged, list(running.values()), list(failed.values()), missing, seconds)


class Speeds:
    """Seconds of a visit, from stored runs that are as like as possible."""

    def __init__(self, stored: Iterable[Facts]) -> None:
        self.known: dict[tuple[str, ...], list[float]] = {}
        for facts in stored:
            for likeness in _closest_first(facts.likeness):
                self.known.setdefault(likeness, []).append(facts.seconds / max(1, facts.visits))

    def seconds(self, likeness: tuple[str, str, str, str], visits: int) -> float | None:
        """How long a run of so many visits takes; None where nothing like it is stored."""
        for each in _closest_first(likeness):
            if each in self.known:
                return visits * sum(self.known[each]) / len(self.known[each])
        return None


def _closest_first(likeness: tuple[str, str, str, str]) -> Iterator[tuple[str, ...]]:
    """What runs have in common that take alike long for a visit, the closest first."""
    device, network, dataset, method = likeness
    yield device, network, dataset, method
    yield device, network, method
    yield device, network


# ---------------------------------------------------------------- the plan


@contextlib.contextmanager
def announced(jobs: Sequence[Job]) -> Iterator[None]:
    """While inside, and afterwards as long as one of them has no result, `jobs` are known as planned.

    A plan of which everything is done is removed, whoever left it.
    """
    if not jobs:
        yield
        return
    rows = []
    for job in jobs:
        spec = job.spec
        likeness = (spec.device, spec.network, spec.dataset, spec.method)
        row = (spec.identity, spec.method, spec.dataset, spec.seed, job.total_visits, likeness)
        rows.append((*row, spec.family, spec.visits))
    name = hashlib.sha256(json.dumps(sorted(row[0] for row in rows)).encode()).hexdigest()[:16]
    path = jobs[0].results / WORK / f"{name}.plan"
    with contextlib.suppress(OSError):
        write_bytes(path, json.dumps(rows).encode())
    try:
        yield
    finally:
        from fedbench.runs.state import look

        outdated = {job.spec.identity for job in jobs if look(job).state != "done"}
        for each in path.parent.glob("*.plan"):  # those of processes that were killed among them
            root, left = path.parent.parent, plan_of(each)
            stored = ((root / run.dataset / run.method / f"{run.identity}.json").is_file() for run in left)
            if left and all(stored) and not outdated & {run.identity for run in left}:
                with contextlib.suppress(OSError):
                    each.unlink()


def planned(root: Path) -> list[Planned]:
    """The runs that were planned and were not all done when their process ended."""
    runs = [run for path in (root / WORK).glob("*.plan") for run in plan_of(path)]
    return list({run.identity: run for run in sorted(runs, key=lambda run: run.since)}.values())


def plan_of(path: Path) -> list[Planned]:
    """The runs of the plan at `path`; none where it is no plan."""
    found = []
    with contextlib.suppress(*NO_JSON):
        since = path.stat().st_mtime_ns
        for identity, method, dataset, seed, visits, likeness, family, cut in json.loads(read_bytes(path)):
            device, network = map(str, likeness[:2])
            alike = (device, network, str(dataset), str(method))
            facts = (str(identity), str(method), str(dataset), int(seed), int(visits), alike)
            found.append(Planned(*facts, family=str(family), cut=int(cut), since=since))
    return found


# ---------------------------------------------------------------- running and failed


def _running(folder: Path) -> Iterator[Running]:
    for path in sorted(folder.glob("*.progress")):
        with contextlib.suppress(*NO_JSON):
            note = json.loads(read_bytes(path))
            if not is_held(path.with_suffix(".lock"), path.stat().st_mtime):
                continue
            visits, total = int(note["visits"]), int(note["total"])
            rate = _number(note["seconds"]) / visits if visits else None
            yield Running(
                identity=path.stem,
                name=str(note["name"]),
                where=str(note["where"]),
                visits=visits,
                total=total,
                since=_number(note["since"]),
                seconds_left=None if rate is None else rate * (total - visits),
                best=None if note["best"] is None else _number(note["best"]),
            )


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def is_held(lock: Path, noted: float = 0.0) -> bool:
    """Whether some process holds `lock`; where that cannot be asked, whether the note is fresh."""
    try:
        import fcntl

        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, and given back at once
            except BlockingIOError:
                return True
        return False
    except (ImportError, OSError):
        return time.time() - noted < FRESH


def _failed(root: Path) -> Iterator[Failed]:
    """The runs that a failure is recorded of."""
    for path in sorted((root / WORK).glob("*.error")):
        with contextlib.suppress(BadInput, OSError):
            since = path.stat().st_mtime_ns
            failure = read_failure(path)
            spec = failure.spec
            name = f"{spec.method}, {spec.dataset}, seed {spec.seed}"
            yield Failed(spec.identity, name, failure.message, spec.family, spec.visits, since)


__all__ = ["Failed", "Planned", "Running", "Speeds", "Status", "announced", "plan_of", "planned", "status"]
