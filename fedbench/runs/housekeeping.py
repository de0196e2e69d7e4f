"""What may go from a results folder: errors of runs, kept states, checkpoints of code that is no more, rubbish."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedbench import plugins
from fedbench.errors import BadInput
from fedbench.runs.checkpoint import belonging
from fedbench.runs.provenance import software
from fedbench.runs.status import is_held, plan_of
from fedbench.storage import TRIALS, WORK, read, read_failure

Kind = Literal["errors", "plans", "checkpoints", "states", "rubbish"]
KINDS: tuple[Kind, ...] = ("errors", "plans", "checkpoints", "states", "rubbish")


SHARED = ("stop-", "shared-")  # what names of files begin with that all runs of a process have in common


@dataclass(frozen=True)
class Leftover:
    """A file that no run is in need of, and why."""

    kind: Kind
    path: Path
    size: int  # bytes
    why: str


def leftovers(results: Path, methods: Sequence[str] = ()) -> list[Leftover]:
    """What may be removed from `results`; nothing of a run that is going on.

    Every kept state may go, for a longer run begins anew without it. A checkpoint is of use as long as its method's
    code is that of a method which has a name, or of one of the files `methods`. Raises BadInput where there is no such
    folder.
    """
    if not results.is_dir():
        raise BadInput(f"there is no folder {results}: nothing to clean")
    codes = {plugin.code for plugin in map(_found, [*plugins.names("method"), *methods]) if plugin is not None}
    found = []
    for folder in (results / WORK, results / TRIALS / WORK):
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        busy = any(path.suffix == ".lock" and is_held(path) for path in paths)
        for path in paths:
            told = _told(path, codes)
            if busy and path.name.startswith(SHARED):
                continue
            if told is not None and not is_held(_lock(folder, path)):
                with contextlib.suppress(OSError):
                    found.append(Leftover(told[0], path, path.stat().st_size, told[1]))
    for folder in (results, results / TRIALS):
        for path in _half_written(folder):
            found.append(Leftover("rubbish", path, path.stat().st_size, "half-written"))
        for path in _models_of_none(folder):
            found.append(Leftover("rubbish", path, path.stat().st_size, "models that no result names any more"))
    return found


def remove(found: Sequence[Leftover]) -> list[Leftover]:
    """Remove these files and return those that could not be removed, or are of a run that has begun meanwhile."""
    left = []
    for each in found:
        if is_held(_lock(each.path.parent, each.path)):
            left.append(each)
            continue
        try:
            each.path.unlink(missing_ok=True)
        except OSError:
            left.append(each)
    return left


def _found(text: str) -> plugins.Plugin | None:
    try:
        return plugins.find_method(text)
    except BadInput:
        if text.endswith(".py"):
            raise
        return None  # a broken installed plug-in


def _told(path: Path, codes: set[str]) -> tuple[Kind, str] | None:
    """What kind of leftover a file of the work folder is, and why; None for one that is of use."""
    if path.suffix == ".error":
        try:
            failure = read_failure(path)
        except BadInput:
            return "rubbish", "not the record of a failed run"
        spec = failure.spec
        return "errors", f"{spec.method}, {spec.dataset}, seed {spec.seed}: {failure.message}"
    if path.suffix == ".plan":
        runs = plan_of(path)
        if any(is_held(path.with_name(f"{run.identity}.lock")) for run in runs):
            return None
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        return "plans", f"of {count}, of which none is going on; `status` counts those that are missing"
    if path.suffix == ".state":
        return "states", _useless(path, codes) or "kept for a longer run, which would begin anew without it"
    if path.suffix == ".checkpoint":
        why = _useless(path, codes)
        return None if why is None else ("checkpoints", why)
    if path.suffix == ".progress" or path.name.startswith(SHARED):
        return "rubbish", "left by a process that was killed"
    return ("rubbish", "half-written") if path.name.endswith(".partial") else None


def _useless(path: Path, codes: set[str]) -> str | None:
    """Why a checkpoint or state will not be used any more, as far as it can be told without its run."""
    belongs_to = belonging(path)
    if belongs_to is None:
        return "damaged"
    if belongs_to.get("code") not in codes:
        return "of other code than any method has now"
    return None if belongs_to.get("software") == software() else "of another version of fedbench, torch or numpy"


def _lock(work: Path, path: Path) -> Path:
    """The lock of the run that the file at `path` is of."""
    return work / f"{path.name.lstrip('.').split('.')[0]}.lock"


def _half_written(results: Path) -> Iterator[Path]:
    for path in results.glob("*/*/.*.partial"):
        if not is_held(_lock(results / WORK, path)):
            yield path


def _models_of_none(results: Path) -> Iterator[Path]:
    """Kept models whose run was made again without keeping them, or whose result was removed."""
    for path in results.glob("*/*/*.safetensors"):
        result = path.with_suffix(".json")
        if is_held(_lock(results / WORK, path)):
            continue  # models are written before the result that names them
        with contextlib.suppress(BadInput):  # a damaged result may name them
            if not result.exists() or read(result).models is None:
                yield path
