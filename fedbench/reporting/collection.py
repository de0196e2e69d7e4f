"""The results of a folder, whole or cut, with the reasons for every file that is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from joblib import Parallel, cpu_count, delayed

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.reporting.run import Run, run_of
from fedbench.storage import Failure, Result, Spec

MANY = 400  # files from which the work is spread over processes
TOGETHER = 50  # files that a process is given at a time

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
                    runs.append(_beginning(result, visits, path))
        for visits in at:
            try:
                runs.append(_beginning(result, visits, path))
            except BadInput as error:
                shorter = result.spec.model_copy(update={"visits": visits})
                uncut.append(Failure(spec=shorter, details=str(error), title=result.title))
    return runs, left_out, uncut


def _beginning(result: Result, visits: int, path: Path) -> Run:
    """What the `result` at `path` was after so many visits. Raises BadInput where that cannot be told."""
    cut = run_of(result.at(visits), path)
    return replace(cut, whole_seconds=result.last.seconds, whole_visits=result.spec.visits)


@dataclass(frozen=True)
class Collection:
    """What a results folder holds."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]  # why, of every file that could not be used
    failures: tuple[Failure, ...]
    uncut: tuple[Failure, ...] = ()  # runs that could not be cut, each with the spec that was wanted, and why
    files: int = 0
    apart: tuple[str, ...] = ()  # a sentence for each results folder below this one, which is no part of it


def collect(
    root: Path,
    at: Sequence[int] = (),
    also: Mapping[str, Sequence[int]] | None = None,
    is_current: Callable[[Run], bool] = lambda run: True,
) -> Collection:
    """Everything under `root`; with `at`, each result as it would be after so many visits.

    `also` adds to whole results their beginnings, for families of specs, where they can be had. Where a run of just so
    many visits is stored beside longer ones, it is the one that is used, else the shortest, unless only another one
    `is_current`. Raises BadInput where there is no folder.
    """
    if not root.exists():
        raise BadInput(f"there is no results folder {root}: make one with `fedbench run`, or name another")
    files, at = list(storage.files(root)), list(dict.fromkeys(at))
    everywhere = {
        path for path in root.rglob("*.json") if not {storage.WORK, storage.TRIALS} & {*path.relative_to(root).parts}
    }
    apart: dict[Path, int] = {}
    left_out: list[str] = []
    for path in sorted(everywhere.difference(files)):
        inner = path.parents[2] if len(path.parts) > 3 else root
        head = storage.head(path)
        if head is not None and storage.result_path(inner, head.spec) == path:
            apart[inner] = apart.get(inner, 0) + 1
        else:
            left_out.append(f"{path} does not lie where results do, in DATASET/METHOD below {root}")
    uncut: list[Failure] = []
    runs: dict[str, Run] = {}
    places: dict[str, tuple[bool, int]] = {}  # the less, the better
    for found in _read_all(files, at, also or {}):
        for run in found[0]:
            known, place = runs.get(run.spec.identity), (not is_current(run), run.whole_visits)
            if known is None or place < places[run.spec.identity]:
                runs[run.spec.identity], places[run.spec.identity] = run, place
            elif not _is_cut(known) and not _is_cut(run):
                left_out.append(f"{run.path} is a second copy of {known.path}")
        left_out += found[1]
        uncut += found[2]
    failures = []
    home = _home(root)
    for path in sorted((home / storage.WORK).glob("*.error")):
        try:
            failure = storage.read_failure(path)
        except BadInput as error:
            left_out.append(str(error))
        else:
            inside = storage.result_path(home, failure.spec).absolute().is_relative_to(root.absolute())
            if inside and not (storage.has_result_since(path, home, failure.spec) or _is_answered(failure.spec, home)):
                failures.append(failure)
    there = {(run.spec.family, run.spec.visits) for run in runs.values()} if uncut else set()
    lost = tuple(each for each in uncut if (each.spec.family, each.spec.visits) not in there)
    return Collection(
        _with_neighbours(runs.values()), tuple(left_out), tuple(failures), lost, len(files), _apart(apart)
    )


def _apart(folders: Mapping[Path, int]) -> tuple[str, ...]:
    return tuple(
        f"{folder} is a results folder of its own and no part of this: `fedbench report {folder}` shows its "
        f"{'one run' if count == 1 else f'{count} runs'}"
        for folder, count in folders.items()
    )


def _home(root: Path) -> Path:
    """The folder of results that `root` is, or that it is a data set's or a method's part of."""
    inside = (root, *root.absolute().parents[:2])
    return next((place for place in inside if (place / storage.WORK).is_dir()), root)


def _is_answered(spec: Spec, root: Path) -> bool:
    """Whether a longer run in `root` tells what one of this `spec`, which failed, would have come to."""
    for head in storage.heads(storage.result_path(root, spec).parent).get(spec.family, ()):
        if head.spec.visits > spec.visits:
            with contextlib.suppress(BadInput):
                storage.read_in_place(head.path).at(spec.visits)
                return True
    return False


def _is_cut(run: Run) -> bool:
    return "cut_from" in run.provenance


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
    families: dict[str, list[Run]] = {}
    for run in stored.values():
        families.setdefault(run.spec.family, []).append(run)
    spans = sorted(
        (run.machine, end - run.whole_seconds + _inherited(run, families[run.spec.family]), end, identity)
        for identity, run in stored.items()
        if (end := _end(run)) is not None
    )
    beside: set[str] = set()
    latest: tuple[str, float, str] | None = None  # machine, end and identity of the span that reaches farthest
    for machine, start, end, identity in spans:
        # ends are whole seconds: only an overlap of more than one is one
        if latest and latest[0] == machine and min(end, latest[1]) - start > 1:
            beside |= {identity, latest[2]}
        if latest is None or latest[0] != machine or end > latest[1]:
            latest = (machine, end, identity)
    return tuple(
        replace(run, beside=True) if run.provenance.get("cut_from", run.spec.identity) in beside else run
        for run in known
    )


def _inherited(run: Run, family: Sequence[Run]) -> float:
    """The seconds of the longest run of its family that `run` went on from: its history begins with that one's."""
    took = {each.whole_seconds for each in family if each.whole_seconds < run.whole_seconds}
    return max(took.intersection(run.history["seconds"].tolist()), default=0.0)


def _end(run: Run) -> float | None:
    try:
        return datetime.fromisoformat(str(run.provenance["finished"])).timestamp()
    except (KeyError, ValueError):
        return None
