"""From cells to tables: which numbers stand where, which is best, and why something is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedbench.experiments.schema import Published
from fedbench.reporting.cells import Cell, Run, Setting, make_cell, variant_titles, variants
from fedbench.reporting.statistics import CONFIDENCE, LEVEL, Difference, compare, not_worse, summary
from fedbench.reporting.tables import Column, Entry, Table
from fedbench.storage import Failure

Metric = Literal["client mean", "pooled"]
Side = Literal["seen", "unseen"]
PACKAGES = ("fedbench", "torch", "numpy")  # whose versions can change a run's bits
GRID_WIDTH = 8  # settings side by side in one table


@dataclass(frozen=True)
class MethodRow:
    """One method of a setting; `name` chooses its colour, `title` is the line's alone (see `told_apart`)."""

    name: str
    title: str
    cell: Cell


def told_apart(lines: Sequence[MethodRow]) -> list[MethodRow]:
    """`lines` with the method's name behind every title that is there more than once, as of a subclass of FedAvg."""
    titles = [line.title for line in lines]
    return [
        replace(line, title=f"{line.title} [{line.name}]") if titles.count(line.title) > 1 else line for line in lines
    ]


@dataclass(frozen=True)
class SettingResults:
    """All results of one setting, a row for each method. `name` is the stem of its files."""

    name: str
    label: str
    rows: Sequence[MethodRow]
    published: Mapping[str, Published] = field(default_factory=dict)  # by the method's name

    @property
    def cells(self) -> dict[str, Cell]:
        """By title."""
        return {line.title: line.cell for line in self.rows}

    @property
    def runs(self) -> list[Run]:
        """Those that may be averaged."""
        return [run for line in self.rows for run in line.cell.runs]

    @property
    def has_unseen(self) -> bool:
        """Whether some run had clients that were held out of training."""
        return any(run.unseen for run in self.runs)

    @property
    def notes(self) -> list[str]:
        """What a reader of the setting's tables has to know."""
        found = []
        made_with = {f"versions of {name}": {run.version(name) for run in self.runs} for name in PACKAGES}
        made_with["kinds of device"] = {run.spec.device for run in self.runs}
        for what, values in made_with.items():
            if len(values) > 1:
                found.append(f"{self.label}: runs were made with different {what}: {', '.join(sorted(values))}")
        found += [
            f"{line.title}, seed {run.spec.seed}: training diverged; the score is of visit {run.best_visits}"
            for line in self.rows
            for run in line.cell.runs
            if run.diverged
        ]
        return found


def by_setting(runs: Sequence[Run], failures: Sequence[Failure] = ()) -> list[SettingResults]:
    """One entry a setting, the one with most runs first. A method all of whose runs there failed is a gap of it."""
    groups: dict[Setting, list[Run]] = {}
    for run in runs:
        groups.setdefault(Setting.of(run.spec), []).append(run)
    made = []
    names: set[str] = set()
    for setting, members in sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0]))):
        here = [failure for failure in failures if Setting.of(failure.spec) == setting]
        failed = {failure.spec.method: failure.message for failure in here}
        tried: dict[str, set[int]] = {}  # method -> seeds, with those that failed
        for spec in [run.spec for run in members] + [failure.spec for failure in here]:
            tried.setdefault(spec.method, set()).add(spec.seed)
        expected = max(map(len, tried.values()))
        lines = []
        for method in sorted(tried):
            rows = variants([run for run in members if run.spec.method == method])
            if not rows:
                lines.append(MethodRow(method, method, Cell((), expected, f"failed: {failed[method]}")))
                continue
            for title, row in zip(variant_titles(rows), rows, strict=True):
                lines.append(MethodRow(method, title, make_cell(row, expected)))
        stem = f"{setting.dataset}-{setting.clients}-clients-{setting.visits}-visits"
        name = next(n for i in range(len(groups) + 1) if (n := f"{stem}-{i + 1}" if i else stem) not in names)
        names.add(name)
        made.append(SettingResults(name, setting.label(groups), told_apart(lines)))
    return made


# ---------------------------------------------------------------- entries


def _gap(cell: Cell) -> Entry:
    word, colon, _ = cell.gap.partition(": ")
    reason = "; ".join([cell.gap, *cell.differences]) if colon else ""
    return Entry(gap=word or "not run", reason=reason, expected=cell.expected)


def _entry(cell: Cell, value: Callable[[Run], float | None], missing: str = "-") -> Entry:
    """Mean and spread of a value of each run; `missing` is the gap where no run has it."""
    if not cell.runs:
        return _gap(cell)
    values = [number for run in cell.runs if (number := value(run)) is not None]
    if not values:
        return Entry(gap=missing)
    found = summary(values)
    return Entry(found.mean, found.sd, n=found.n, expected=cell.expected)


def metric_value(metric: Metric, side: Side) -> Callable[[Run], float | None]:
    """The accuracy of a run in percent; None where it had no unseen clients."""

    def value(run: Run) -> float | None:
        scores = run.scores(side == "unseen")
        if scores is None:
            return None
        return scores.pooled if metric == "pooled" else scores.client_mean

    return value


def best_of(entries: Mapping[str, Entry]) -> str | None:
    """The title of the entry with the greatest value (the first of equals), if there are two to choose from."""
    known = {title: entry.value for title, entry in entries.items() if entry.value is not None}
    return max(known, key=lambda title: known[title]) if len(known) > 1 else None


def _mark(setting: SettingResults, entries: dict[str, Entry], side: Side | None) -> dict[str, Entry]:
    """With the greatest values marked, and of accuracies on a `side` those that are not significantly worse."""
    best = best_of(entries)
    if best is None:
        return entries
    close = not_worse(setting.cells, best, side == "unseen") if side else set()
    return {
        title: replace(entry, best=True) if entry.value == entries[best].value else replace(entry, close=title in close)
        for title, entry in entries.items()
    }


def _what(entries: Iterable[Entry]) -> str:
    """What the numbers of a table are, by the greatest number of seeds."""
    most = max((entry.expected for entry in entries), default=1)
    return f"mean ± standard deviation over {most} seeds" if most > 1 else "one seed"


# ---------------------------------------------------------------- tables


def grids(
    all_settings: Sequence[SettingResults],
    metrics: Sequence[Metric] = ("client mean", "pooled"),
    quoted: Metric | None = None,
) -> list[Table]:
    """Methods by settings, one table for each metric, and for seen and unseen clients.

    Published values stand in the table of the metric `quoted` for seen clients.
    """
    made = []
    chunks = [all_settings[i : i + GRID_WIDTH] for i in range(0, len(all_settings), GRID_WIDTH)]
    for number, chunk in enumerate(chunks):
        for side in ("seen", "unseen") if any(setting.has_unseen for setting in chunk) else ("seen",):
            for metric in metrics:
                part = f"-{number + 1}" if len(chunks) > 1 else ""
                name = f"accuracy-{metric.replace(' ', '-')}-{side}{part}"
                made.append(_grid(name, chunk, metric, side, quoted == metric and side == "seen"))
    return made


def _grid(name: str, chunk: Sequence[SettingResults], metric: Metric, side: Side, quote: bool) -> Table:
    titles = list(dict.fromkeys(line.title for setting in chunk for line in setting.rows))
    columns = []
    for setting in chunk:
        value = metric_value(metric, side)
        entries = {line.title: _entry(line.cell, value, "no unseen clients") for line in setting.rows}
        entries = _mark(setting, entries, side)
        if quote:
            entries = {
                line.title: replace(entries[line.title], published=setting.published.get(line.name))
                for line in setting.rows
            }
        columns.append([entries.get(title, Entry(gap="not run")) for title in titles])
    what = _what(entry for column in columns for entry in column)
    about = {"client mean": "mean over clients", "pooled": "pooled over all samples"}[metric]
    return Table(
        name=name,
        title=f"Accuracy on {side} clients, {about}",
        caption=f"Test accuracy in %, {what}.",
        columns=[Column(setting.label) for setting in chunk],
        rows=[(title, [column[i] for column in columns]) for i, title in enumerate(titles)],
        notes=[note for setting in chunk for note in setting.notes],
    )


def measures(setting: SettingResults) -> Table:
    """Methods by everything that was measured in one setting."""
    shown: list[tuple[Column, Callable[[Run], float | None], Side | None]] = [
        (Column("client mean, %"), metric_value("client mean", "seen"), "seen"),
        (Column("pooled, %"), metric_value("pooled", "seen"), "seen"),
        (Column("worst decile, %"), lambda run: run.seen.worst_decile, None),
        (Column("sd over clients, %", marked=False), lambda run: run.seen.client_sd, None),
    ]
    if setting.has_unseen:
        shown += [
            (Column("unseen, client mean, %"), metric_value("client mean", "unseen"), "unseen"),
            (Column("unseen, pooled, %"), metric_value("pooled", "unseen"), "unseen"),
        ]
    costs: list[tuple[Column, Callable[[Run], float | None]]] = [
        (Column("best at visit", 0, False), lambda run: run.best_visits),
        (Column("MB / visit", 3, False, significant=True), lambda run: run.megabytes_per_visit),
        (Column("MB / run", 3, False, significant=True), lambda run: run.megabytes),
        (Column("seconds / run", 3, False, significant=True), lambda run: run.seconds),
    ]
    by_column = []
    for column, value, side in shown:
        entries = {line.title: _entry(line.cell, value, "none") for line in setting.rows}
        by_column.append(_mark(setting, entries, side) if column.marked else entries)
    for _, value in costs:  # a spread of costs is of no interest
        by_column.append({line.title: replace(_entry(line.cell, value, "none"), sd=None) for line in setting.rows})
    return Table(
        name=f"{setting.name}-measures",
        title=setting.label,
        caption="Test accuracy at the round chosen on validation, "
        f"{_what(entry for entries in by_column for entry in entries.values())}; costs: means.",
        columns=[column for column, _, _ in shown] + [column for column, _ in costs],
        rows=_rows(setting, by_column),
        notes=setting.notes,
    )


def _rows(setting: SettingResults, by_column: Sequence[Mapping[str, Entry]]) -> list[tuple[str, list[Entry]]]:
    """A row tells why it is empty in its first column only."""
    return [
        (
            line.title,
            [replace(e[line.title], reason="") if i else e[line.title] for i, e in enumerate(by_column)],
        )
        for line in setting.rows
    ]


def pick_reference(setting: SettingResults, wanted: str | None) -> str | None:
    """The title of the line to compare with: that of the method `wanted`, else the best client mean."""
    filled = [line for line in setting.rows if line.cell.runs]
    for line in filled:
        if wanted in (line.name, line.title):
            return line.title
    if wanted is not None:
        return None
    return best_of({line.title: _entry(line.cell, metric_value("client mean", "seen")) for line in filled})


def difference_table(setting: SettingResults, wanted: str | None = None, side: Side = "seen") -> Table | None:
    """Every method less a reference method, paired; None where there is nothing to compare."""
    reference = pick_reference(setting, wanted)
    if reference is None:
        return None
    cells = {line.title: line.cell for line in setting.rows if line.cell.runs}
    found = compare(cells, reference, side == "unseen")
    columns = [
        Column("difference, points", signed=True),
        Column("p (Holm)", 2, False, significant=True),
        Column("clients won, %", 0, False),
        Column("pairs", 0, False),
        Column("seeds", 0, False),
    ]
    rows = []
    for line in setting.rows:
        if line.title == reference or line.title not in cells:
            continue
        value = found[line.title]
        if isinstance(value, Difference):
            entries = [
                Entry(value.mean, low=value.low, high=value.high),
                Entry(value.p),
                Entry(100 * value.wins),
                Entry(value.pairs),
                Entry(value.seeds),
            ]
        else:
            entries = [Entry(gap="-", reason=value)] + [Entry(gap="-")] * 4
        rows.append((line.title, entries))
    if not rows:
        return None
    return Table(
        name=f"{setting.name}-differences{'-unseen' if side == 'unseen' else ''}",
        title=f"{setting.label}: difference to {reference}" + (" on unseen clients" if side == "unseen" else ""),
        caption=(
            f"Per-client test accuracy less that of {reference}, in percentage points, with a {CONFIDENCE:.0%} "
            f"bootstrap interval; Wilcoxon signed-rank p with Holm's correction (significant below {LEVEL}); "
            "share of clients on which the method is better, ties as half."
        ),
        columns=columns,
        rows=rows,
        notes=setting.notes,
    )


def communication(setting: SettingResults, metric: Metric, target: float | None) -> Table:
    """What each method moves, and how much until its validation accuracy first reaches `target` percent."""
    curve = "accuracy" if metric == "pooled" else "client_mean"

    def price(run: Run) -> float | None:
        if target is None:
            return None
        reached = np.flatnonzero(run.history[curve] >= target)
        return float(run.history["megabytes"][reached[0]]) if len(reached) else None

    shown: list[tuple[Column, Callable[[Run], float | None]]] = [
        (Column(f"{metric}, %"), metric_value(metric, "seen")),
        (Column("MB / visit", 3, False, significant=True), lambda run: run.megabytes_per_visit),
        (Column("MB / run", 3, False, significant=True), lambda run: run.megabytes),
        (Column("MB until best", 3, False, significant=True), lambda run: run.best_megabytes),
    ]
    if target is not None:
        shown.append((Column(f"MB until {target:g} %", 3, False, significant=True), price))
    by_column = []
    for column, value in shown:
        entries = {line.title: _entry(line.cell, value, "not reached") for line in setting.rows}
        costs = {title: replace(entry, sd=None) for title, entry in entries.items()}
        by_column.append(_mark(setting, entries, "seen") if column.marked else costs)
    return Table(
        name=f"{setting.name}-communication",
        title=f"Communication: {setting.label}",
        caption="Traffic in both directions in MB (10^6 bytes), means over seeds (of a target: those that reach it).",
        columns=[column for column, _ in shown],
        rows=_rows(setting, by_column),
        notes=setting.notes,
    )
