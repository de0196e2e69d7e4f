"""What a report says first: what was compared, and what came out, in a sentence for each setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedbench.reporting.cells import short_partition
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Difference, Metric, compare
from fedbench.reporting.tables import body, ranking
from fedbench.reporting.tables.model import Column

NOTHING = "There are no results that can be averaged."


def headline(settings: Sequence[SettingResults]) -> str:
    """What was compared, as in "9 methods on digits, 10 clients, 400 visits, classes (per_client=2)"."""
    titles = list(dict.fromkeys(row.title for setting in settings for row in setting.rows))
    count = len({row.name for setting in settings for row in setting.rows})
    methods = (
        f"{len(titles)} variants of {count} method{'s'[: count > 1]}" if count < len(titles) else f"{count} methods"
    )
    methods = " and ".join(titles) if len(titles) <= 2 else methods
    if len(settings) == 1:
        parts = {short_partition(run.spec.partition, ()) for run in settings[0].runs}
        return ", ".join([f"{methods} on {settings[0].label}", *sorted(parts)])
    datasets = list(dict.fromkeys(run.spec.dataset for setting in settings for run in setting.runs[:1]))
    where = ", ".join(datasets[:4]) + (f" and {len(datasets) - 4} more data sets" if len(datasets) > 4 else "")
    return f"{methods} in {len(settings)} settings of {where}" if datasets else f"{methods} in {len(settings)} settings"


def answer(setting: SettingResults, metric: Metric) -> str:
    """The best method of a setting, its lead over the next one with its interval, the seeds and the effort.

    Where the seeds show no lead, it says so; with one seed it describes and decides nothing.
    """
    filled = [(title, row[0]) for title, row in ranking(setting, metric).rows if row[0].value is not None]
    if not filled:
        return NOTHING
    (best, first), *others = filled
    reached = f"{body(replace(first, n=0, expected=0, marks=''), Column(''))} % ({metric})"
    visits = sorted({run.spec.visits for run in setting.runs})
    effort = f"{visits[0]:,} visits a run" if len(visits) == 1 else "runs of several lengths"
    if not others:
        return f"Only {best} has results: {reached}; {_seeds(len(setting.filled[0].cell.runs))}, {effort}."
    second = others[0][0]
    found = compare(setting.cells, best, metric=metric)
    lead = found.get(second)
    if not isinstance(lead, Difference):
        why = "which cannot be paired with it"
        return f"{best} is highest with {reached}; next is {second}, {why}. {effort[0].upper()}{effort[1:]}."
    if ahead := [name for name, value in found.items() if isinstance(value, Difference) and value.mean > 0]:
        more = f"{_list(ahead)} {'has' if len(ahead) == 1 else 'have'} more over the seeds in common"
        return f"{best} is highest over its own seeds with {reached}, but {more}; {effort}."
    points = f"{round(-lead.mean, 2) + 0.0:.2f} points"  # zero has no sign
    over = f"{_seeds(lead.seeds)}, {effort}"
    if lead.seeds == 1:
        return f"1 seed: descriptive only. {best} is highest with {reached}, {points} above {second}; {effort}."
    if lead.low is not None and lead.high is not None:
        points += f" [{-lead.high:.2f}, {-lead.low:.2f}]"
    points = points.replace("-", "\u2212")
    close = [name for name, value in found.items() if isinstance(value, Difference) and not value.shown]
    if lead.shown:
        less = f" No difference to {_list(close)} could be shown, though lower on the average." if close else ""
        return f"{best} {'is highest' if close else 'is best'}: {reached}, {points} above {second}; {over}.{less}"
    rest = [name for name in close if name != second]
    nor = f", nor to {_list(rest)}" if rest else ""
    return f"No difference could be shown: {best} is highest with {reached}, {points} above {second}{nor}; {over}."


def _list(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} others"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
