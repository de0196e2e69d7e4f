"""Tables as data: columns, entries and their texts, before any form on paper or screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedbench.experiments.parts import CERTAINTY, Published
from fedbench.storage.gap import Gap

INSEPARABLE, UNCOMMITTED, UNLIKE = "†", "‡", "*"
MARKS = {
    INSEPARABLE: "over these seeds no difference to the best was shown (the interval of the paired difference, in the "
    "metric of the column, holds 0), which does not say that the two are equal; only client means and pooled "
    "accuracies are tested",
    UNCOMMITTED: "made from sources with uncommitted changes",
    UNLIKE: "not comparable: times of different machines or commits, or taken beside other runs",
}
PUBLISHED = "Second line: the published value, in brackets ours less the published one; " + "; ".join(
    f"{mark or 'no mark'}: {meaning}" for mark, meaning in CERTAINTY.values()
)


@dataclass(frozen=True)
class Column:
    """What a column shows."""

    label: str
    digits: int = 2
    marked: bool = True  # the greatest value is marked as the best
    signed: bool = False  # a difference
    significant: bool = False  # `digits` counts significant digits instead of decimals
    plot: Literal["", "interval", "lead"] = (
        ""  # what the page draws beside it: a difference, or what is behind the best
    )


@dataclass(frozen=True)
class Entry:
    """One place of a table: a value, or the gap that says why there is none."""

    value: float | None = None
    sd: float | None = None  # over seeds
    low: float | None = None  # of an interval
    high: float | None = None
    n: int = 0  # seeds
    expected: int = 0
    best: bool = False
    second: bool = False
    marks: str = ""  # keys of MARKS
    gap: Gap | None = None
    published: Published | None = None
    link: str = ""  # the place of the page that lists its runs

    @property
    def behind(self) -> float | None:
        """The value less the published one."""
        if self.value is None or self.published is None or self.published.mean is None:
            return None
        return self.value - self.published.mean


@dataclass(frozen=True)
class Table:
    """Rows of entries, one an entry of `columns`. `name` is also the stem of its files."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Entry]]]
    corner: str = "method"
    notes: Sequence[str] = field(default=())

    @property
    def entries(self) -> list[Entry]:
        """All entries, row after row."""
        return [entry for _, row in self.rows for entry in row]

    @property
    def has_published(self) -> bool:
        """Whether any entry stands beside a published value."""
        return any(entry.published for entry in self.entries)

    @property
    def uneven(self) -> bool:
        """Whether entries are over different numbers of seeds, which each of them then tells."""
        return len({entry.n for entry in self.entries if entry.n}) > 1

    @property
    def all_notes(self) -> list[str]:
        """The notes, and why entries are gaps or have no published value, each reason once with where it holds."""
        reasons = self._places(lambda entry: str(entry.gap) if entry.gap and entry.gap.reason else "")
        unquoted = self._places(lambda entry: entry.published.absent if entry.published else "")
        return [
            *dict.fromkeys(self.notes),
            *(f"{where}: {why}" for why, where in reasons.items()),
            *(f"no published value for {where}: {why}" for why, where in unquoted.items()),
        ]

    def _places(self, why: Callable[[Entry], str]) -> dict[str, str]:
        """For each reason, where it holds, in words."""
        found: dict[str, dict[str, list[str]]] = {}  # reason -> column -> rows
        for label, entries in self.rows:
            for column, entry in zip(self.columns, entries, strict=True):
                if why(entry):
                    found.setdefault(why(entry), {}).setdefault(column.label, []).append(label)
        return {
            reason: "; ".join(
                f"{'all methods' if len(rows) == len(self.rows) > 1 else ', '.join(rows)} in {column!r}"
                for column, rows in places.items()
            )
            for reason, places in found.items()
        }


def number(value: float, column: Column) -> str:
    """`value` with the digits of its column, a true minus sign, and a plus sign for a difference."""
    if column.significant:
        text = f"{value:,.0f}" if abs(value) >= 10 ** (column.digits - 1) else f"{value:.{column.digits}g}"
        if "e" in text:
            text = "0" if value == 0 else text
    else:
        text = f"{value:{'+' if column.signed else ''}.{column.digits}f}"
    return text.replace("-", "\u2212")


def amount(value: float) -> str:
    """A count or a cost with four significant digits, and never fewer than its whole part has."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def body(entry: Entry, column: Column, uneven: bool = False) -> str:
    """The entry as text, without emphasis; a gap says what it is. In an `uneven` table it tells its seeds."""
    if entry.value is None:
        return str(entry.gap.kind) if entry.gap else "-"
    text = number(entry.value, column)
    if entry.sd is not None:
        text += f" ± {number(entry.sd, Column('', column.digits, significant=column.significant))}"
    if entry.low is not None and entry.high is not None:
        text += f" [{number(entry.low, column)}, {number(entry.high, column)}]"
    text += seeds_of(entry, uneven)
    return text + (f" {entry.marks}" if entry.marks else "")


def seeds_of(entry: Entry, uneven: bool) -> str:
    """How many seeds an entry has, where that is not the same everywhere or less than it should be."""
    if entry.n < entry.expected:
        return f" (n={entry.n} of {entry.expected})"
    return f" (n={entry.n})" if uneven and entry.n else ""


def quoted(entry: Entry) -> str:
    """The published value with its certainty mark, and the difference to it."""
    if entry.published is None:
        return ""
    if entry.published.mean is None:
        return "-"
    text = f"{entry.published.mean:.2f}"
    text += f" ± {entry.published.std:.2f}" if entry.published.std is not None else ""
    mark = CERTAINTY[entry.published.certainty][0]
    text += f" {mark}" if mark else ""
    return text + (f" ({number(entry.behind, Column('', signed=True))})" if entry.behind is not None else "")


def spread_words(entries: Iterable[Entry]) -> str:
    """What the numbers of a table are, by the seeds that they are over."""
    counts = sorted({entry.n for entry in entries if entry.n})
    if len(counts) > 1:
        return f"mean ± standard deviation over n seeds, {counts[0]} to {counts[-1]} as each cell says"
    if counts == [1]:
        return "one seed"
    return f"mean ± standard deviation over {f'{counts[0]} ' if counts else ''}seeds"


def marks_of(table: Table) -> Mapping[str, str]:
    """The marks that stand in a table, with their meaning."""
    return {mark: meaning for mark, meaning in MARKS.items() if any(mark in entry.marks for entry in table.entries)}


def key(table: Table) -> str:
    """What emphasis and marks in a table mean; empty where it has none."""
    of = " of those over most seeds" if table.uneven else ""
    parts = [f"Bold: the highest of the column{of}."] if any(entry.best for entry in table.entries) else []
    parts += [f"{mark} {meaning}." for mark, meaning in marks_of(table).items()]
    parts += [PUBLISHED + "."] if table.has_published else []
    return " ".join(parts)


def legend(table: Table) -> str:
    """What the numbers are, and what the marks mean."""
    return " ".join(part for part in (table.caption, key(table)) if part)
