"""Why there is no number where a table has a place for one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Missing(StrEnum):
    """The kinds of gaps; the value is what a table shows."""

    NOT_RUN = "not run"
    FAILED = "failed"
    OUTDATED = "outdated"  # made by other code, or of other samples, than are here now
    REFUSED = "refused"  # runs that must not be averaged
    NOT_CUT = "not cut"  # a run that does not tell what a shorter one would have been
    NOT_APPLICABLE = "not applicable"
    NOT_POSSIBLE = "cannot be run"
    NOT_IN_PRESET = "not in the preset"
    NOT_REACHED = "not reached"  # an accuracy that no run had
    NOT_RECORDED = "not recorded"  # results of an older format do not have it
    NO_UNSEEN = "no unseen clients"
    NO_TEST = "no test"  # one seed, or too few pairs


@dataclass(frozen=True)
class Gap:
    """A gap of some kind, and the reason at length, which may be empty."""

    kind: Missing
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else str(self.kind)
