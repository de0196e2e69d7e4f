"""What stands in one place of a table: a value, the gap that it is, whether it is the best, and its marks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedbench.reporting.cells import Cell
from fedbench.reporting.run import Run
from fedbench.reporting.settings import MethodRow, SettingResults
from fedbench.reporting.statistics import Metric, inseparable, summary
from fedbench.reporting.tables.model import INSEPARABLE, UNCOMMITTED, Column, Entry, Table
from fedbench.storage.gap import Gap, Missing

Side = Literal["seen", "unseen"]
Value = Callable[[Run], float | None]


@dataclass(frozen=True)
class Shown:
    """A column of a table of one setting: where its values come from, and what is said of them."""

    column: Column
    value: Value
    metric: Metric | None = None  # an accuracy, of which those that cannot be told from the best are marked
    side: Side = "seen"
    spread: bool = True  # over seeds; that of a cost is of no interest
    missing: Missing = Missing.NOT_RECORDED


def entry_of(cell: Cell, value: Value, missing: Missing = Missing.NOT_RECORDED, link: str = "") -> Entry:
    """Mean and spread of a value of each run; where no run has it, the gap is `missing`."""
    if not cell.runs:
        return Entry(gap=cell.gap or Gap(Missing.NOT_RUN), expected=cell.expected, link=link)
    values = [number for run in cell.runs if (number := value(run)) is not None]
    if not values:
        return Entry(gap=Gap(missing), link=link)
    found = summary(values)
    return Entry(found.mean, found.sd, n=found.n, expected=cell.expected, link=link)


def metric_value(metric: Metric, side: Side = "seen") -> Value:
    """The accuracy of a run in percent; None where it had no unseen clients."""

    def value(run: Run) -> float | None:
        scores = run.scores(side == "unseen")
        if scores is None:
            return None
        return scores.pooled if metric == "pooled" else scores.client_mean

    return value


def whole(entries: Mapping[str, Entry]) -> dict[str, float]:
    """The values of the entries that have most seeds: one seed more or less moves a mean more than most methods do."""
    most = max((entry.n for entry in entries.values() if entry.value is not None), default=0)
    return {title: entry.value for title, entry in entries.items() if entry.value is not None and entry.n == most}


def best_of(entries: Mapping[str, Entry]) -> str | None:
    """The title with the greatest value (the first of equals) of those that have most seeds, if there is a choice."""
    known = whole(entries)
    choice = [title for title, entry in entries.items() if entry.value is not None]
    return max(known, key=lambda title: known[title]) if len(choice) > 1 else None


def _marked(
    setting: SettingResults, entries: dict[str, Entry], side: Side = "seen", metric: Metric | None = None
) -> dict[str, Entry]:
    """The entries with the greatest and the second value marked, and with the marks that belong to accuracies."""
    best = best_of(entries)
    close: set[str] = set()
    known = whole(entries)
    values = sorted(set(known.values()), reverse=True)
    if best is not None and metric is not None:
        close = inseparable(setting.cells, best, side == "unseen", metric)
    made = {}
    for title, entry in entries.items():
        top = best is not None and title in known and entry.value == values[0]
        marks = INSEPARABLE if title in close and not top else ""
        if metric is not None and any(run.uncommitted for run in setting.cells[title].runs):
            marks += UNCOMMITTED
        second = best is not None and len(values) > 1 and title in known and entry.value == values[1]
        made[title] = replace(entry, best=top, second=second, marks=marks)
    return made


def column_of(setting: SettingResults, shown: Shown) -> dict[str, Entry]:
    """The entries of a column of one setting, by the titles of its rows; those of accuracies are marked."""
    entries = {row.title: entry_of(row.cell, shown.value, shown.missing, setting.anchor(row)) for row in setting.rows}
    if not shown.spread:
        entries = {title: replace(entry, sd=None) for title, entry in entries.items()}
    return _marked(setting, entries, shown.side, shown.metric) if shown.column.marked else entries


def table_of(
    setting: SettingResults,
    name: str,
    title: str,
    caption: str,
    columns: Sequence[tuple[Column, Mapping[str, Entry]]],
    rows: Sequence[MethodRow] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """A table of one setting. A row tells why it is empty in its first column only."""
    rows = setting.rows if rows is None else rows

    def cell(place: int, entry: Entry) -> Entry:
        return replace(entry, gap=Gap(entry.gap.kind)) if place and entry.gap else entry

    return Table(
        name=f"{setting.name}-{name}",
        title=title,
        caption=caption,
        columns=[column for column, _ in columns],
        rows=[(row.title, [cell(i, entries[row.title]) for i, (_, entries) in enumerate(columns)]) for row in rows],
        notes=[*setting.notes, *notes],
    )


def ranked_rows(setting: SettingResults, metric: Metric, side: Side = "seen") -> list[MethodRow]:
    """The rows by their mean accuracy, the highest first; gaps last."""
    value = metric_value(metric, side)

    def place(row: MethodRow) -> float:
        found = entry_of(row.cell, value).value
        return -found if found is not None else 1.0

    return sorted(setting.rows, key=place)
