"""What a check is: a sentence of the contract, what it expects, and how a broken one is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from fedbench.check.subject import Subject

EXACT = 1e-12  # what float64 may differ by where the order of additions differs
MESSAGES = "messages are stacked tensors"
PURE = "inputs are never modified"
SAME = "same seed same bits"


@dataclass(frozen=True)
class CheckResult:
    """How one check went. `declared` is a known deviation, which failed as it must."""

    sentence: str
    status: Literal["holds", "fails", "declared"]
    expected: str
    seen: str
    place: str = ""  # file and line of the plug-in, where a failure is known to come from there
    follows: str = ""  # the sentence that failed before, and for the same reason as far as the kit can tell
    error: str = ""  # the kind of error that was raised, if it was one

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return f"{self.status:<8}  {self.sentence}. Expected: {self.expected}. Seen: {self.seen}{where}"


class Broken(Exception):
    """A sentence does not hold. The text is what was seen, `function` the contract function to look at."""

    def __init__(self, seen: str, function: str = "") -> None:
        super().__init__(seen)
        self.function = function


class Check(NamedTuple):
    """A check: what it expects, the function that returns what it saw or raises Broken, and what it rests on.

    Where a sentence of `needs` is broken, this one may be broken for no other reason.
    """

    expected: str
    function: Callable[[Subject], str]
    needs: tuple[str, ...]


CHECKS: dict[str, Check] = {}  # by sentence, in the order in which they run


def check(
    sentence: str, expected: str, needs: tuple[str, ...] = (MESSAGES,)
) -> Callable[[Callable[[Subject], str]], Callable[[Subject], str]]:
    """Register a function as the check of `sentence`."""

    def register(function: Callable[[Subject], str]) -> Callable[[Subject], str]:
        CHECKS[sentence] = Check(expected, function, needs)
        return function

    return register


def require(holds: bool, seen: object, function: str = "") -> None:
    """Raise Broken with what was `seen` unless it `holds`."""
    if not holds:
        raise Broken(str(seen), function)
