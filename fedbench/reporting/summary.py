"""What a report says first: what was compared, and what came out, in a sentence for each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedbench.reporting.cells import short_partition
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Difference, Metric, compare
from fedbench.reporting.tables import body, ranking, whole
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
    filled = {title: row[0] for title, row in ranking(setting, metric).rows if row[0].value is not None}
    if not filled:
        return NOTHING
    most = whole(filled)
    best, *others = sorted(filled, key=lambda title: (title not in most, -(filled[title].value or 0.0)))
    first = filled[best]
    reached = f"{body(replace(first, n=0, expected=0, marks=''), Column(''))} % ({metric})"
    visits = sorted({run.spec.visits for run in setting.runs})
    effort = f"{visits[0]:,} visits a run" if len(visits) == 1 else "runs of several lengths"
    if not others:
        return f"Only {best} has results: {reached}; {_seeds(first.n)}, {effort}."
    found = compare(setting.cells, best, metric=metric)
    told = {name: value for name, value in found.items() if isinstance(value, Difference)}
    ahead = [name for name, value in told.items() if value.mean > 0]
    notes = []
    if fewer := [name for name in ahead if name not in most]:
        notes.append(f"{_list(fewer)} {_has(fewer)} more over the seeds in common, which are fewer.")
    if apart := [name for name in others if name not in told]:
        notes.append(f"{_list(apart)} cannot be compared with it.")
    text = _lead(best, others, reached, effort, told, [name for name in ahead if name in most], first.n)
    return " ".join([text, *notes])


def _lead(
    best: str,
    others: Sequence[str],
    reached: str,
    effort: str,
    told: Mapping[str, Difference],
    ahead: Sequence[str],
    seeds: int,
) -> str:
    """What is said of `best`, which has `reached` so much over so many `seeds`, and of the next of `others`.

    `told` are the differences to it, as far as there are any; `ahead` are those that have more, over as many seeds.
    """
    second = next((name for name in others if name in told), None)
    if second is None:
        return f"{best} is highest with {reached}; {effort}."
    if ahead:
        more = f"{_list(ahead)} {_has(ahead)} more over the seeds in common"
        return f"{best} is highest over its own seeds with {reached}, but {more}; {effort}."
    lead = told[second]
    points = f"{round(-lead.mean, 2) + 0.0:.2f} points"  # zero has no sign
    over = f"{_seeds(lead.seeds)}{' in common' if lead.seeds < seeds else ''}, {effort}"
    where = f"{points} above {second}" if lead.mean else f"level with {second}"
    if lead.seeds == 1:
        common = " in common" if lead.seeds < seeds else ""
        return f"1 seed{common}: descriptive only. {best} is highest with {reached}, {where}; {effort}."
    if lead.low is not None and lead.high is not None:
        ends = f"[{-lead.high:.2f}, {-lead.low:.2f}]".replace("-", "\u2212")
        where = f"{points} {ends} above {second}"
    elif lead.mean:
        where += ", the same for all seeds, so that nothing is known of their spread"
    close = [name for name, value in told.items() if not value.shown and value.mean <= 0]
    if lead.shown:
        less = f" No difference to {_list(close)} could be shown, though lower on the average." if close else ""
        beaten = [name for name, value in told.items() if value.shown and value.mean < 0]
        is_ = "is best" if len(beaten) == len(others) else "is highest"
        return f"{best} {is_}: {reached}, {where}; {over}.{less}"
    rest = [name for name in close if name != second]
    nor = f", nor to {_list(rest)}" if rest else ""
    return f"No difference could be shown: {best} is highest with {reached}, {where}{nor}; {over}."


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _list(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} others"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
