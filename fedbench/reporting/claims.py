"""Claims of a paper, answered by results: holds, does not hold, undecided, or not tested.

What decides is the paired interval over seeds: runs with one seed have the same clients with the same rows, so the
numbers of two cells are paired by seed, and the mean of their differences d has the 95 % interval of Student's t with
n - 1 degrees of freedom. Clients of one run are not independent repetitions, and are not used as such. With one seed
there is no interval, and nothing is decided; nor where accuracies differ alike under all seeds, for that says nothing
of their spread. A claim about several cells of which some have no numbers is tested with the others: one comparison
that fails refutes it, and no number of them proves it.

A claim of m comparisons holds where all of them pass, which asks for no correction, and does not where one of them
fails. That one was looked for among m, and chance has m occasions: its interval is that of 1 - 0.05 / m (Bonferroni).

* `A > B`: holds where the interval of A - B lies above the margin, does not where it lies below it.
* `A > each of B, C`: holds where that is so for each, does not where it fails for one.
* `equal within M: A, B, ...`: holds where the intervals of all differences lie within -M .. M (two one-sided tests),
  does not where one lies outside.
* `falls with: AXIS`: each seed has the slope of a straight line through its numbers along the axis, told as the change
  over the whole axis; holds where the interval of the slopes lies below zero, does not where it lies above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedbench.experiments.parts import CERTAINTY
from fedbench.experiments.rules import ACCURACY, EXACT, CellName, Resolved, Rule, resolve
from fedbench.reporting.statistics import LEVEL, student

if TYPE_CHECKING:
    from fedbench.experiments.parts import Claim
    from fedbench.reporting.paper import Part
    from fedbench.runs.plan import Plan

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]
ORDER: tuple[Verdict, ...] = ("does not hold", "not tested", "undecided", "holds")  # what a claim of many parts is
PARTLY: dict[Verdict, str] = {  # what is said of the parts that have numbers, where others have none
    "holds": "agrees",
    "undecided": "does not decide it",
    "not tested": "cannot be compared",
}


@dataclass(frozen=True)
class Interval:
    """A mean over seeds; without `low` and `high` where there is one seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int
    level: float = LEVEL  # the share of intervals that miss what they estimate

    def __str__(self) -> str:
        """The estimate in words, in the unit of the numbers."""
        if self.low is None or self.high is None:
            seeds = "one seed" if self.seeds == 1 else f"the same for {self.seeds} seeds"
            return f"{_number(self.mean)} ({seeds})"
        sure = f" at {100 * (1 - self.level):.3g} %" if self.level != LEVEL else ""
        return f"{_number(self.mean)} [{_number(self.low)}, {_number(self.high)}]{sure} over {self.seeds} seeds"


def _number(value: float) -> str:
    text = f"{value:+.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:+.1e}"
    return text.replace("-", "\u2212")


@dataclass(frozen=True)
class Answer:
    """A claim and what became of it."""

    text: str
    verdict: Verdict
    evidence: str  # the number that decides it
    source: str


def interval(values: Sequence[float], exact: bool = False, level: float = LEVEL) -> Interval:
    """The mean of one number a seed and its interval at 1 - `level` by Student's t.

    There is none for one seed, nor for equal numbers, unless these are `exact`.
    """
    numbers = np.asarray(values, dtype=float)
    n, mean = len(numbers), float(np.mean(numbers))
    if found := student(numbers, level):
        return Interval(mean, found[0], found[1], n, level)
    low, high = (float(numbers.min()), float(numbers.max())) if exact and n > 1 else (None, None)
    return Interval(mean, low, high, n)


def answers(plan: Plan, part: Part) -> list[Answer]:
    """What the results of a `plan`, and the numbers that a `part` of the report computed, say of each claim."""
    return [_answer(claim, plan, part) for claim in plan.experiment.claims]


def _answer(claim: Claim, plan: Plan, part: Part) -> Answer:
    meaning = CERTAINTY[claim.certainty][1]
    source = f"{claim.where}; {meaning}. Rule: {claim.rule}."
    rule = claim.parsed
    cells = resolve(rule, plan.experiment)
    missing = {cell for cell in cells.cells if not part.values.get(cell)}
    there = Resolved(
        [pair for pair in cells.pairs if missing.isdisjoint(pair)],
        [line for line in cells.series if missing.isdisjoint(line)],
    )
    if not there.cells:
        return Answer(claim.text, "not tested", _missing(plan, missing, part), source)
    asked = len(cells.pairs) + len(cells.series)
    verdict, evidence = decide(rule, there.pairs, there.series, part.values, part.places, asked)
    effort = sorted({plan.visits(cell.column) for cell in there.cells if cell.column})
    evidence += f", after {_list(effort)} visits." if effort else "."
    if missing and verdict != "does not hold":
        evidence = f"{_missing(plan, missing, part)} What there is {PARTLY[verdict]}: {evidence}"
        verdict = "not tested"
    return Answer(claim.text, verdict, evidence, source)


def _list(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def _missing(plan: Plan, cells: Set[CellName], part: Part) -> str:
    first = min(cells)
    name = " ".join(
        filter(None, [first.quantity, first.method and f"of {first.method}", first.column and f"in {first.column}"])
    )
    there = part.values.get(first._replace(quantity=ACCURACY))
    why = plan.gaps.get(
        (first.column, first.method), "its results do not give it" if there else "no results that can be averaged"
    )
    more = f", and {len(cells) - 1} more" if len(cells) > 1 else ""
    return f"There is no {name} ({why}){more}."


def decide(
    rule: Rule,
    pairs: Sequence[tuple[CellName, CellName]],
    series: Sequence[Sequence[CellName]],
    values: Mapping[CellName, Mapping[int, float]],
    places: Mapping[tuple[str, str], Mapping[int, float]],
    asked: int,
) -> tuple[Verdict, str]:
    """The verdict on a rule of which every cell has numbers, and the part that decides it with its interval.

    `values` are numbers by cell and seed, `places` where a column stands on an axis, by (axis, column) and seed. Of the
    comparisons of a claim, `asked` in all, those without numbers are not among `pairs` and `series`.
    """
    found: list[tuple[Verdict, float, str]] = []  # of each part: its verdict, how far it is from failing, in words
    refuting = LEVEL / asked
    for a, b in pairs:
        if rule.kind == "less":
            a, b = b, a
        seeds = [seed for seed in values[a] if seed in values[b]]
        name = f"{a.words([b])} less {b.words([a])}{_common(a, b)}"
        if not seeds:
            found.append(("not tested", 0.0, f"{name}: no seed in common"))
            continue
        differences = [values[a][seed] - values[b][seed] for seed in seeds]
        exact = {a.quantity, b.quantity} <= EXACT
        # "within 1" has the 1 in it, "above 1" has not
        within = np.nextafter(rule.margin, np.inf)
        low, high = (-within, within) if rule.kind == "equal" else (rule.margin, np.inf)
        verdict, over = _judged(differences, low, high, refuting, exact)
        found.append((verdict, min(over.mean - low, high - over.mean), f"{name}: {over}"))
    for line in series:
        name = " ".join(filter(None, [line[0].quantity, line[0].method and f"of {line[0].method}"]))
        changes, ends = _changes(rule.axis, line, values, places)
        if not changes:
            found.append(("not tested", 0.0, f"{name}: no seed has two places on the axis {rule.axis}"))
            continue
        low, high = (0.0, np.inf) if rule.kind == "rises" else (-np.inf, 0.0)
        verdict, over = _judged(changes, low, high, refuting)
        where = f"{rule.axis} from {ends[0]:.3g} to {ends[1]:.3g}"
        found.append((verdict, min(over.mean - low, high - over.mean), f"change of {name} along {where}: {over}"))
    worst = min(found, key=lambda part: (ORDER.index(part[0]), part[1]))
    many = f" (the closest of {len(found)} comparisons)" if len(found) > 1 else ""
    return worst[0], worst[2] + many


def _judged(
    numbers: Sequence[float], low: float, high: float, refuting: float, exact: bool = False
) -> tuple[Verdict, Interval]:
    """Whether the mean of one number a seed lies between `low` and `high`, with the interval that was asked.

    Inside is what the interval at 1 - LEVEL says, outside what the one at 1 - `refuting` says.
    """
    over = interval(numbers, exact)
    if low < over.mean < high:
        if over.low is None or over.high is None or not (low < over.low and over.high < high):
            return "undecided", over
        return "holds", over
    against = interval(numbers, exact, refuting)
    if against.low is None or against.high is None or not (against.high < low or high < against.low):
        return "undecided", against
    return "does not hold", against


def _common(a: CellName, b: CellName) -> str:
    """What two cells share, in words."""
    shared = [x for x, y in zip(a, b, strict=True) if x == y and x not in ("", "accuracy")]
    return f", {' '.join(shared)}" if shared else ""


def _changes(
    axis: str,
    line: Sequence[CellName],
    values: Mapping[CellName, Mapping[int, float]],
    places: Mapping[tuple[str, str], Mapping[int, float]],
) -> tuple[list[float], tuple[float, float]]:
    """What a straight line through the numbers of each seed that all cells of a series have changes by; and the axis.

    Over the whole axis, which is the same for all seeds, so that the unit of the axis does not matter.
    """
    points = []
    for seed in values[line[0]]:
        if not all(seed in values[cell] and seed in places.get((axis, cell.column), {}) for cell in line):
            continue
        x = np.array([places[axis, cell.column][seed] for cell in line])
        if np.ptp(x) > 0:
            points.append((x, np.array([values[cell][seed] for cell in line])))
    if not points:
        return [], (0.0, 0.0)
    ends = float(min(x.min() for x, _ in points)), float(max(x.max() for x, _ in points))
    span = ends[1] - ends[0]
    return [float(np.polyfit((x - ends[0]) / span, y, 1)[0]) for x, y in points], ends
