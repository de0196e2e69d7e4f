"""What results are about, told from the beginning of their files: an index that is made anew whenever it is wanted.

A result begins with its spec and the hashes of its code; its numbers, which are long, come behind. What the index says
is never believed against the file: who uses a result reads it whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from fedbench.storage.spec import Spec

HEAD = 16_384  # bytes; a head is a few hundred
END = '\n "partition":'  # the key behind the head


@dataclass(frozen=True)
class Head:
    """The beginning of a result."""

    path: Path
    spec: Spec
    code: str


def head(path: Path) -> Head | None:
    """The beginning of the result at `path`; None for any other file."""
    try:
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
    for path in sorted(folder.glob("*.json")):
        if path.is_file() and (found := head(path)):
            families.setdefault(found.spec.family, []).append(found)
    return {family: sorted(each, key=lambda found: found.spec.visits) for family, each in families.items()}
