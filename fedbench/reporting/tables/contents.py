"""Which numbers stand in which table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedbench.reporting.run import Run
from fedbench.reporting.settings import SettingResults, pick_reference
from fedbench.reporting.statistics import LEVEL, Difference, Metric, Pairs, compare, losing_share, paired
from fedbench.reporting.tables.entries import (
    Shown,
    Side,
    best_of,
    column_of,
    entry_of,
    metric_value,
    ranked_rows,
    table_of,
)
from fedbench.reporting.tables.model import UNLIKE, Column, Entry, Table, spread_words
from fedbench.storage.gap import Gap, Missing

GRID_WIDTH = 8  # settings side by side in one table
ABOUT: dict[Metric, str] = {"client mean": "mean over clients", "pooled": "pooled over all samples"}
SPREAD_OF_TRAFFIC = 1.25  # methods send alike where the one that sends most sends no more times as much as the least


# ---------------------------------------------------------------- accuracy


def grids(
    settings: Sequence[SettingResults],
    metrics: Sequence[Metric] = ("client mean", "pooled"),
    quoted: Metric | None = None,
) -> list[Table]:
    """Methods by settings, one table for each metric, and for seen and unseen clients.

    Published values stand in the table of the metric `quoted` for seen clients.
    """
    made = []
    chunks = [settings[i : i + GRID_WIDTH] for i in range(0, len(settings), GRID_WIDTH)]
    for number, chunk in enumerate(chunks):
        sides: list[Side] = ["seen", "unseen"] if any(setting.has_unseen for setting in chunk) else ["seen"]
        for side in sides:
            for metric in metrics:
                part = f"-{number + 1}" if len(chunks) > 1 else ""
                name = f"accuracy-{metric.replace(' ', '-')}-{side}{part}"
                made.append(_grid(name, chunk, metric, side, quoted == metric and side == "seen"))
    return made


def _grid(name: str, chunk: Sequence[SettingResults], metric: Metric, side: Side, quote: bool) -> Table:
    titles = list(dict.fromkeys(row.title for setting in chunk for row in setting.rows))
    columns = []
    for setting in chunk:
        shown = Shown(Column(setting.label), metric_value(metric, side), metric, side, missing=Missing.NO_UNSEEN)
        entries = column_of(setting, shown)
        if quote:
            entries = {
                row.title: replace(entries[row.title], published=setting.published.get(row.name))
                for row in setting.rows
            }
        columns.append([entries.get(title, Entry(gap=Gap(Missing.NOT_RUN))) for title in titles])
    places = dict(zip(titles, _average_places(columns), strict=True))
    order = sorted(range(len(titles)), key=lambda i: places[titles[i]])
    return Table(
        name=name,
        title=f"Accuracy on {side} clients, {ABOUT[metric]}",
        caption=f"Test accuracy in %, {spread_words(entry for column in columns for entry in column)}.",
        columns=[Column(setting.label, plot="lead") for setting in chunk],
        rows=[(titles[i], [column[i] for column in columns]) for i in order],
        notes=[note for setting in chunk for note in setting.notes],
    )


def _average_places(columns: Sequence[Sequence[Entry]]) -> list[float]:
    """The mean place of each row in the columns where it has a value, 0 for the highest; 1 where it has none."""
    places: list[list[float]] = [[] for _ in columns[0]]
    for column in columns:
        known = sorted((entry.value for entry in column if entry.value is not None), reverse=True)
        for row, entry in zip(places, column, strict=True):
            if entry.value is not None:
                row.append(known.index(entry.value) / len(known))
    return [sum(row) / len(row) if row else 1.0 for row in places]


def ranking(setting: SettingResults, metric: Metric, wanted: str | None = None) -> Table:
    """The methods of one setting, the best first, with their differences to a reference (by default the best)."""
    other: Metric = "client mean" if metric == "pooled" else "pooled"
    reference = reference_of(setting, metric, wanted)
    columns = [
        (shown.column, column_of(setting, shown))
        for shown in (
            Shown(Column(f"{metric}, %"), metric_value(metric), metric),
            Shown(Column(f"{other}, %"), metric_value(other), other),
            Shown(Column("worst tenth, %"), lambda run: run.seen.worst_tenth),
            Shown(Column("MB / visit", 3, False, significant=True), lambda run: run.megabytes_per_visit, spread=False),
            Shown(
                Column("gradients / visit", 3, False, significant=True),
                lambda run: run.gradients_per_visit,
                spread=False,
            ),
        )
    ]
    if reference is not None:
        column = Column(f"difference to {reference}, points", marked=False, signed=True, plot="interval")
        columns.insert(1, (column, _differences(setting, reference, metric)))
    words = spread_words(entry for entry in columns[0][1].values())
    caption = f"Test accuracy in %, {words}, at the round that validation chose."
    if reference is not None:
        caption += f" Differences in {metric}, with intervals over seeds of at least 95 %, corrected by Holm."
    title = f"Ranking: {setting.label}"
    return table_of(setting, "ranking", title, caption, columns, ranked_rows(setting, metric))


def reference_of(setting: SettingResults, metric: Metric, wanted: str | None) -> str | None:
    """The title to compare with: that of the method `wanted`, else the best in `metric`; None for a single row."""
    if wanted is not None:
        return pick_reference(setting, wanted)
    return best_of({row.title: entry_of(row.cell, metric_value(metric)) for row in setting.filled})


def _differences(setting: SettingResults, reference: str, metric: Metric, side: Side = "seen") -> dict[str, Entry]:
    found = compare(setting.cells, reference, side == "unseen", metric)
    entries = {}
    for row in setting.rows:
        value, link = found.get(row.title), setting.anchor(row)
        if isinstance(value, Difference):
            entries[row.title] = Entry(value.mean, low=value.low, high=value.high, n=value.seeds, link=link)
        elif row.title == reference:
            entries[row.title] = Entry(0.0, link=link)
        else:
            entries[row.title] = Entry(gap=value or row.cell.gap or Gap(Missing.NOT_RUN), link=link)
    return entries


def difference_table(
    setting: SettingResults, wanted: str | None = None, side: Side = "seen", metric: Metric = "client mean"
) -> Table | None:
    """Every method less a reference method, paired; None where there is nothing to compare."""
    reference = reference_of(setting, metric, wanted)
    if reference is None:
        return None
    found = compare(setting.cells, reference, side == "unseen", metric)
    rows = [row for row in ranked_rows(setting, metric, side) if row.title in found]
    if not rows:
        return None
    columns: list[tuple[Column, Callable[[Difference], Entry]]] = [
        (
            Column("difference, points", marked=False, signed=True, plot="interval"),
            lambda d: Entry(d.mean, low=d.low, high=d.high),
        ),
        (Column("p (Holm)", 2, False, significant=True), _tested),
        (Column("seeds", 0, False), lambda d: Entry(d.seeds)),
        (Column("clients won, %", 0, False), lambda d: Entry(100 * d.wins)),
        (Column("pairs", 0, False), lambda d: Entry(d.pairs)),
        (
            Column("Wilcoxon p of clients (Holm)", 2, False, significant=True),
            lambda d: Entry(gap=d.clients_p) if isinstance(d.clients_p, Gap) else Entry(d.clients_p),
        ),
    ]
    body: list[tuple[Column, dict[str, Entry]]] = []
    for column, make in columns:
        entries = {}
        for row in rows:
            value = found[row.title]
            entries[row.title] = make(value) if isinstance(value, Difference) else Entry(gap=value)
            entries[row.title] = replace(entries[row.title], link=setting.anchor(row))
        body.append((column, entries))
    unseen = " on unseen clients" if side == "unseen" else ""
    return table_of(
        setting,
        f"differences{'-unseen' if side == 'unseen' else ''}",
        f"Difference to {reference}{unseen}: {setting.label}",
        f"Test accuracy ({metric}) less that of {reference}, in percentage points. Interval and p are over seeds, "
        f"corrected together (Holm): the interval excludes 0 exactly where p is below {LEVEL}. Wilcoxon's p takes "
        "these runs as they are and speaks of their clients alone; it decides nothing here.",
        body,
        rows,
    )


def _tested(value: Difference) -> Entry:
    if value.p is not None:
        return Entry(value.p)
    reason = "1 seed: descriptive only" if value.seeds == 1 else "the seeds do not differ, so that no spread is known"
    return Entry(gap=Gap(Missing.NO_TEST, reason))


# ---------------------------------------------------------------- fairness


def fairness(setting: SettingResults, wanted: str | None = None, metric: Metric = "client mean") -> Table:
    """How evenly the clients of one setting are served, and how many lose against a reference (by default Local)."""
    shown = [
        Shown(Column("client mean, %"), metric_value("client mean"), "client mean"),
        Shown(Column("worst tenth, %"), lambda run: run.seen.worst_tenth),
        Shown(Column("worst client, %"), lambda run: run.seen.worst_client),
        Shown(Column("sd over clients, %", marked=False), lambda run: run.seen.client_std),
        Shown(Column("Jain index", 4), lambda run: run.seen.jain_index),
    ]
    if setting.has_unseen:
        shown += [
            Shown(Column(f"unseen, {name}, %"), metric_value(name, "unseen"), name, "unseen", missing=Missing.NO_UNSEEN)
            for name in ("client mean", "pooled")
        ]
    columns = [(each.column, column_of(setting, each)) for each in shown]
    reference = pick_reference(setting, wanted or "local")
    if reference is not None and len(setting.filled) > 1:
        entries = {}
        for row in setting.rows:
            pairs = paired(row.cell, setting.cells[reference])
            if row.title == reference:
                entries[row.title] = Entry(0.0, link=setting.anchor(row))
            elif isinstance(pairs, Pairs):
                share, seeds = 100 * losing_share(pairs.all_clients), len(pairs.seeds)
                entries[row.title] = Entry(share, n=seeds, expected=row.cell.expected, link=setting.anchor(row))
            else:
                entries[row.title] = Entry(gap=row.cell.gap or pairs)
        columns.append((Column(f"clients below {reference}, %", 0, False), entries))
    return table_of(
        setting,
        "fairness",
        f"Fairness: {setting.label}",
        f"Test accuracy over clients, {spread_words(columns[0][1].values())}. Worst tenth: mean of the N // 10 clients "
        "that are served worst, at least one. Jain index: 1 where all clients have the same accuracy, 1/N where only "
        "one has any.",
        columns,
        ranked_rows(setting, metric),
    )


# ---------------------------------------------------------------- effort


def effort(setting: SettingResults, metric: Metric = "client mean") -> Table:
    """What the methods of one setting cost: visits, gradient evaluations, traffic, time."""
    shown = [
        Shown(Column("chosen at visit", 0, False), lambda run: run.best_visits, spread=False),
        Shown(Column("gradients / visit", 3, False, significant=True), lambda run: run.gradients_per_visit),
        Shown(Column("gradients / run", 3, False, significant=True), lambda run: run.gradients),
        Shown(
            Column("gradients to personalize a client", 3, False, significant=True),
            lambda run: run.gradients_to_personalize,
        ),
        Shown(Column("MB / visit", 3, False, significant=True), lambda run: run.megabytes_per_visit),
        Shown(Column("MB / run", 3, False, significant=True), lambda run: run.megabytes),
        Shown(Column("MB until chosen", 3, False, significant=True), lambda run: run.best_megabytes),
        Shown(Column("seconds / run", 3, False, significant=True), lambda run: run.seconds),
    ]
    columns = [(each.column, column_of(setting, replace(each, spread=False))) for each in shown]
    if setting.unlike_times:
        columns[-1] = (columns[-1][0], _unlike(columns[-1][1]))
    return table_of(
        setting,
        "effort",
        f"Effort: {setting.label}",
        f"{_visits_words(setting)} Gradient evaluations are counted in batches; those that personalize are made at "
        "every evaluation for each client and are no part of a visit. MB are 10^6 bytes. Means over seeds.",
        columns,
        ranked_rows(setting, metric),
        [setting.unlike_times] if setting.unlike_times else [],
    )


def _visits_words(setting: SettingResults) -> str:
    visits = sorted({run.spec.visits for run in setting.runs})
    return f"{visits[0]:,} client visits a run." if len(visits) == 1 else ""


def _unlike(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {
        title: replace(entry, marks=entry.marks + UNLIKE) if entry.value is not None else entry
        for title, entry in entries.items()
    }


def sends_alike(setting: SettingResults) -> bool:
    """Whether all methods that send anything send about as much a visit, so that traffic tells no more than visits."""
    sent = [run.megabytes_per_visit for run in setting.runs if run.megabytes_per_visit > 0]
    return not sent or max(sent) <= SPREAD_OF_TRAFFIC * min(sent)


def usual_targets(setting: SettingResults, metric: Metric) -> list[float]:
    """Three round accuracies that tell methods apart: below the best validation accuracy that any method reaches."""
    curve = "accuracy" if metric == "pooled" else "client_mean"
    best = max((float(run.history[curve].max()) for run in setting.runs), default=0.0)
    top = 5 * int(0.99 * best / 5)
    return [float(target) for target in (top - 15, top - 5, top) if target > 0]


def targets(setting: SettingResults, metric: Metric, wanted: Sequence[float] = ()) -> Table | None:
    """Visits, traffic and time until validation accuracy first reaches some targets in percent; None without any."""
    goals = wanted or usual_targets(setting, metric)
    if not goals:
        return None
    curve = "accuracy" if metric == "pooled" else "client_mean"
    units = (("visits", "visits", 0, False), ("megabytes", "MB", 3, True), ("seconds", "s", 3, True))
    columns: list[tuple[Column, dict[str, Entry]]] = []
    for target in goals:
        for name, unit, digits, significant in units:

            def price(run: Run, target: float = target, name: str = name) -> float | None:
                reached = np.flatnonzero(run.history[curve] >= target)
                return float(run.history[name][reached[0]]) if len(reached) else None

            column = Column(f"{unit} to {target:g} %", digits, False, significant=significant)
            entries = column_of(setting, Shown(column, price, spread=False, missing=Missing.NOT_REACHED))
            columns.append((column, _unlike(entries) if name == "seconds" and setting.unlike_times else entries))
    return table_of(
        setting,
        "targets",
        f"Effort to reach an accuracy: {setting.label}",
        f"Client visits, traffic in both directions (MB, 10^6 bytes) and run time until the validation accuracy "
        f"({metric}) of an evaluation first reaches a target. Means over the seeds that reach it.",
        columns,
        ranked_rows(setting, metric),
        [setting.unlike_times] if setting.unlike_times else [],
    )
