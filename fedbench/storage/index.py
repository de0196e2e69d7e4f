"""What results are about, without reading all of them in full.

Two helps, both made anew whenever they are wanted and never believed against the files. `heads` reads the beginnings of
the files of one folder, which name the spec; who uses a result reads it whole. An `Index` remembers the facts of files
that were read whole and checked once, in `.work/index.json`: they hold for a file that has the same size, inode and
times, to the nanosecond, as then. A file that was written a moment before it was read could change once more without a
trace in its times, so it is read again the next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedbench import __version__
from fedbench.errors import BadInput
from fedbench.storage.disk import WORK, read, read_bytes, write_bytes
from fedbench.storage.schema import Result
from fedbench.storage.spec import Spec

HEAD = 16_384  # bytes; a head is a few hundred
END = '\n "partition":'  # the key behind the head
SETTLED = 2e9  # nanoseconds after which a file's times tell of every later change
FORMAT = 3  # of the index; another one is made anew

Stamp = tuple[int, int, int, int]  # size, inode, mtime and ctime of a file: other content has another stamp


def stamp(path: Path) -> Stamp | None:
    """What tells whether the file at `path` is the one that was read; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  a third faster than Path.stat, ten thousand times
    except OSError:
        return None
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True)
class Head:
    """The beginning of a result."""

    path: Path
    spec: Spec
    code: str


def head(path: Path) -> Head | None:
    """The beginning of the result at `path`; None for any other file."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            text = file.read(HEAD).decode("utf-8", "replace")
        facts = json.loads(text[: text.index(END)].rstrip().removesuffix(",") + "}")
        return Head(path, Spec.model_validate(facts["spec"]), str(facts["code"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError, RecursionError):
        return None


def heads(folder: Path) -> dict[str, list[Head]]:
    """The heads of all results in one `folder`, by the family of their spec, the shortest first."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return {}
    return _heads(folder, changed)


@lru_cache(maxsize=64)
def _heads(folder: Path, changed: int) -> dict[str, list[Head]]:
    families: dict[str, list[Head]] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.endswith(".json")):
            path = f"{folder}/{name}"
            if (found := _seen.get(path)) is None and (read_now := head(Path(path))):
                found = read_now.spec.family, read_now
                if name == f"{read_now.spec.identity}.json":
                    _seen[path] = found
            if found:
                families.setdefault(found[0], []).append(found[1])
    return {family: sorted(each, key=lambda found: found.spec.visits) for family, each in families.items()}


# A file that has the name of its spec tells the same spec as long as it is there, and who uses it reads it whole: a
# folder that has one more result is not read again.
_seen: dict[str, tuple[str, Head]] = {}


@dataclass(frozen=True)
class Facts:
    """What a checked result says of its run, as far as that decides whether it answers for a job, and how long it took.

    `cuts` are the visits for which `Result.at` gives an answer.
    """

    identity: str
    family: str
    code: str
    dataset_code: str | None
    codes: dict[str, str]
    samples: str | None
    partition: str  # the checksum of who held which rows
    models: str | None  # the name of the file with the models
    cuts: tuple[int, ...]
    likeness: tuple[str, str, str, str]  # device, network, data set, method
    visits: int
    seconds: float

    @staticmethod
    def of(result: Result) -> Facts:
        """The facts of a result."""
        spec = result.spec
        whole = result.depends_on_length or result.unseen is not None or result.earlier is None
        return Facts(
            identity=spec.identity,
            family=spec.family,
            code=result.code,
            dataset_code=result.dataset_code,
            codes=result.codes,
            samples=result.samples,
            partition=result.partition,
            models=result.models.file if result.models else None,
            cuts=() if whole else tuple(row.visits for row in result.history if row.visits),
            likeness=(spec.device, spec.network, spec.dataset, spec.method),
            visits=spec.visits,
            seconds=result.last.seconds,
        )


class Index:
    """The facts of the results under `root`. `save` keeps them for the next process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, tuple[Stamp, Facts]] = {}
        self.fresh = False  # whether there is something to save
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            stored = json.loads(read_bytes(self.path))
            entries = stored["entries"]
            if stored["about"] == _about(entries):
                self.known = {name: (_stamp(each[0]), _facts(each[1])) for name, each in entries.items()}

    @property
    def path(self) -> Path:
        """The file that the index is kept in."""
        return self.root / WORK / "index.json"

    def facts(self, path: Path) -> Facts:
        """The facts of the result at `path`. Raises BadInput for a file that is no complete result."""
        name, now = os.path.relpath(path, self.root), stamp(path)
        if now is None:
            raise BadInput(f"{path} cannot be read: there is no such file")
        if name in self.known and self.known[name][0] == now:
            return self.known[name][1]
        began = time.time_ns()
        facts = Facts.of(read(path))
        if now == stamp(path) and began - max(now[2:]) > SETTLED:
            self.known[name] = now, facts
            self.fresh = True
        return facts

    def save(self) -> None:
        """Keep the index, where it has grown; a folder that cannot be written to keeps nothing."""
        if not self.fresh:
            return
        entries = {
            name: [now, asdict(facts)] for name, (now, facts) in self.known.items() if (self.root / name).is_file()
        }
        with contextlib.suppress(OSError):
            text = json.dumps({"about": _about(entries), "entries": entries}, separators=(",", ":"))
            write_bytes(self.path, text.encode())
            self.fresh = False


def _about(entries: dict[str, Any]) -> list[Any]:
    """What an index must say of itself to be used: its format, the version that wrote it, and that it is whole."""
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return [FORMAT, __version__, hashlib.sha256(text.encode()).hexdigest()]


def _stamp(stored: list[int]) -> Stamp:
    size, inode, changed, moved = stored
    return size, inode, changed, moved


def _facts(stored: dict[str, Any]) -> Facts:
    device, network, dataset, method = stored["likeness"]
    return Facts(**{**stored, "cuts": tuple(stored["cuts"]), "likeness": (device, network, dataset, method)})
