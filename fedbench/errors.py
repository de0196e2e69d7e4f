"""The one error that a user can cause: it names the culprit, the value and the remedy in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Something the user gave cannot be used; the command line prints the message and exits with status 2."""


def canonical(name: str) -> str:
    """`name` as names are compared: `pFedHN-PC`, `pfedhn_pc` and `PFEDHN pc` are one."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a `name` that is not among `known`, with the nearest match (or matches) and the whole list."""
    names, given = sorted(known), canonical(name)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    nearness = [difflib.SequenceMatcher(None, each, given).ratio() for each in close]
    near = [repr(each) for each, ratio in zip(close, nearness, strict=True) if ratio == max(nearness)]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return BadInput(f"there is no {kind} called {name!r}.{hint} Known: {', '.join(names)}")
