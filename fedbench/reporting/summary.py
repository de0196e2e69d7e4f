"""What a report says first: what was compared, and what came out, in a sentence for each setting."""

from __future__ import annotations

from collections.abc import Sequence

from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Difference, Metric, compare
from fedbench.reporting.tables import body, ranking
from fedbench.reporting.tables.model import Column


def headline(settings: Sequence[SettingResults]) -> str:
    """What was compared, as in "9 methods on digits, 10 clients, 400 visits"."""
    titles = list(dict.fromkeys(row.title for setting in settings for row in setting.rows))
    methods = " and ".join(titles) if len(titles) <= 2 else f"{len(titles)} methods"
    if len(settings) == 1:
        return f"{methods} on {settings[0].label}"
    datasets = list(dict.fromkeys(run.spec.dataset for setting in settings for run in setting.runs[:1]))
    where = ", ".join(datasets[:4]) + (f" and {len(datasets) - 4} more data sets" if len(datasets) > 4 else "")
    return f"{methods} in {len(settings)} settings of {where}" if datasets else f"{methods} in {len(settings)} settings"


def answer(setting: SettingResults, metric: Metric) -> str:
    """The best method of a setting, its lead over the next one with its interval, the seeds and the effort.

    Where the seeds show no lead, it says so; with one seed it describes and decides nothing.
    """
    table = ranking(setting, metric)
    filled = [(title, row) for title, row in table.rows if row[0].value is not None]
    if not filled:
        return "No results that can be averaged."
    best, first = filled[0]
    column = Column("", 2)
    reached = f"{best} {body(first[0], column).rstrip(' ‡')} % ({metric})"
    visits = sorted({run.spec.visits for run in setting.runs})
    effort = f"{visits[0]:,} client visits a run" if len(visits) == 1 else "runs of several lengths"
    if len(filled) == 1:
        return f"Only {reached}, with {_seeds(setting)} and {effort}: nothing to compare with."
    found = compare(setting.cells, best, metric=metric)
    title = filled[1][0]
    lead = found.get(title)
    if not isinstance(lead, Difference):
        return f"Highest is {reached}; {title}, the next, cannot be paired with it. {_seeds(setting)}, {effort}."
    if lead.seeds == 1:
        return (
            f"Highest is {reached}, {-lead.mean:.2f} points above {title}; 1 seed: descriptive only, no difference is "
            f"shown. {effort[0].upper()}{effort[1:]}."
        )
    if lead.p is None or lead.low is None or lead.high is None:
        return f"No difference could be shown: {reached} and {title} differ alike under all seeds. {effort}."
    interval = f"{-lead.mean:.2f} points [{-lead.high:.2f}, {-lead.low:.2f}]".replace("-", "\u2212")
    close = [name for name, value in found.items() if isinstance(value, Difference) and not value.shown]
    over = f"over {lead.seeds} seeds at {effort}"
    if lead.shown:
        return f"Best is {reached}, {interval} above {title}, {over}."
    rest = [name for name in close if name != title]
    others = f", {', '.join(rest[:-1])} or {rest[-1]}" if len(rest) > 1 else f" or {rest[0]}" if rest else ""
    return f"No difference could be shown between the highest, {reached}, and {title} ({interval}){others}, {over}."


def _seeds(setting: SettingResults) -> str:
    counts = setting.seeds
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return "1 seed" if counts == [1] else f"{counts[0]} seeds"
