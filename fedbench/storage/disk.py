"""Results on disk: one JSON file a run, complete or absent, and read without executing anything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from filelock import FileLock
from pydantic import ValidationError

from fedbench.errors import BadInput
from fedbench.storage.given import given_path
from fedbench.storage.schema import Failure, Result, digest, shown
from fedbench.storage.spec import Spec

LARGEST = 64 * 2**20  # bytes of a result or of the record of a failure; those of 3,000 clients have a tenth of it
LONG_NUMBER = re.compile(rb"[\s:,\[]-?[0-9]{20}")  # beyond 64 bits, and beyond what Python turns into text
NEWLINE = re.compile(r"\n\s+")
TRIALS = "tuning"  # the folder inside the results that holds the runs of searches, apart from what tables average
IDENTITY = re.compile(r"[0-9a-f]{16}")
WORK = ".work"  # the folder inside the results that holds checkpoints, locks, progress and errors of runs


def result_path(root: Path, spec: Spec) -> Path:
    """Where the result of `spec` belongs."""
    return root / spec.dataset / spec.method / f"{spec.identity}.json"


def work_path(root: Path, spec: Spec, suffix: str) -> Path:
    """A file of a run in the making: `suffix` is lock, checkpoint, progress or error."""
    return root / WORK / f"{spec.identity}.{suffix}"


def run_lock(root: Path, spec: Spec) -> FileLock:
    """The lock of a run in the making, which whoever may write to the folder can take: results are shared."""
    return FileLock(work_path(root, spec, "lock"), mode=0o666)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` at the end.

    Whatever happens, the file at `path` is the old one or the whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by `tempfile`, whose files only their owner may read: results are shared
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`, all of it or nothing."""
    with replacing(path) as file:
        file.write(content)


def write(root: Path, result: Result) -> Path:
    """Store `result` and return its path."""
    path = result_path(root, result.spec)
    text = json.dumps(result.model_dump(mode="json"), indent=1)
    # a list of numbers on one line: a file of many clients stays readable
    text = re.sub(r"\[\n\s+([^\[\]{}\"]+?)\n\s+\]", lambda found: f"[{re.sub(NEWLINE, ' ', found[1])}]", text)
    write_bytes(path, f"{text}\n".encode())
    return path


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises BadInput for any other: one that waits, as a named pipe does, or never ends, as a device may, or is too large
    to be what it is taken for. Raises OSError where it cannot be read.
    """
    # without O_NONBLOCK, opening a pipe that nobody writes to never returns
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{path} is not a regular file")
        # room is made for what is asked for: the size, which some files of the system give as 0
        content = file.read((found.st_size or min(largest, LARGEST)) + 1) if found.st_size <= largest else b""
        if found.st_size > largest or len(content) > largest:
            raise BadInput(f"{path} has more than {largest / 2**20:g} MB, which is too much for what it is taken for")
    return content


def read(path: Path) -> Result:
    """The result at `path`. Raises BadInput for a file that is no complete result."""
    try:
        content = read_bytes(path)
        if LONG_NUMBER.search(content):
            raise BadInput(f"{path} is not a fedbench result: it has a number of 20 digits or more")
        result = Result.model_validate_json(content)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors(include_input=False, include_context=False)[0]
        where = shown(".".join(map(str, problem["loc"])), 100) or "the file"
        raise BadInput(f"{path} is not a fedbench result: {where}: {shown(problem['msg'].lower(), 300)}") from None
    if digest(result.model_dump(mode="json")) != result.digest:
        raise BadInput(f"{path} is damaged or was edited: its numbers do not match its digest")
    return result


def read_in_place(path: Path) -> Result:
    """The result at `path`, where results lie: DATASET/METHOD/IDENTITY.json. Raises BadInput for one of another run."""
    result = read(path)
    if result_path(Path(), result.spec).parts != path.absolute().parts[-3:]:
        spec = result.spec
        belongs = f"{spec.dataset}/{spec.method}/{spec.identity}.json"
        raise BadInput(f"{path} holds the run that belongs to {belongs}: put it there, or remove it")
    return result


def write_failure(root: Path, spec: Spec, details: str) -> None:
    """Keep why the run `spec` failed, until it succeeds; a folder that cannot be written to keeps nothing."""
    failure = Failure(spec=spec, details=details)
    with contextlib.suppress(OSError):
        write_bytes(work_path(root, spec, "error"), (failure.model_dump_json(indent=1) + "\n").encode())


def read_failure(path: Path) -> Failure:
    """The failure at `path`. Raises BadInput for another file."""
    try:
        content = read_bytes(path)
        if LONG_NUMBER.search(content):
            raise BadInput(f"{path} is not the record of a failed run")
        return Failure.model_validate_json(content)
    except (OSError, ValidationError):
        raise BadInput(f"{path} is not the record of a failed run") from None


def has_result_since(failure: Path, root: Path, spec: Spec) -> bool:
    """Whether the run of `spec`, whose failure is recorded in a file, has a result under `root` that is no older."""
    result = result_path(root, spec)
    return result.is_file() and result.stat().st_mtime_ns >= failure.stat().st_mtime_ns


def files(root: Path) -> Iterator[Path]:
    """All result files under `root`, sorted: a results folder, that of one data set or method in it, or one file."""
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise BadInput(f"there are no results in {root}: there is no such folder")
    for folder in (root, *root.glob("*/"), *root.glob("*/*/")):  # what may not be read would look as if it were empty
        if WORK not in folder.parts and not os.access(folder, os.R_OK | os.X_OK):
            raise BadInput(f"{folder} may not be read: ask its owner, or choose another folder of results")
    found = [path for path in root.glob("*/*/*.json") if WORK not in path.relative_to(root).parts]
    inside = [path for form in ("*.json", "*/*.json") for path in root.glob(form)]
    yield from sorted(found + [path for path in inside if IDENTITY.fullmatch(path.stem)])


def find_result(text: str, root: Path) -> Path:
    """The result file that `text` names: a path, or the identity of a result under `root`, or its beginning.

    Raises BadInput where there is none, or more than one.
    """
    path = given_path(text, "the result")
    if path.suffix == ".json" or path.is_file():
        return path
    if path.is_dir():
        raise BadInput(f"{text} is a folder, and one result is wanted: give a file in it, or an identity")
    if not re.fullmatch(r"[0-9a-f]{4,16}", text):
        raise BadInput(f"{text!r} is neither a result file nor an identity: give a path, or 4 to 16 of its hex digits")
    found = [path for path in files(root) if path.stem.startswith(text)]
    if len(found) != 1:
        several = f"{len(found)} results begin with {text}: give more digits" if found else f"none is called {text}"
        trials = root / TRIALS
        tuned = not found and trials.is_dir() and any(path.stem.startswith(text) for path in files(trials))
        another = f"it is a trial of `fedbench tune`: --results {trials}" if tuned else "choose another with --results"
        raise BadInput(f"{several} (in the folder {root}; {another})")
    return found[0]
