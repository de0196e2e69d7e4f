"""What is computed from accuracies: spread over seeds, and paired comparisons over seeds and clients.

All accuracies are in percent, and so are differences. A pair is one client of one seed: both methods had the same
seed, so the client holds the same rows, which the checksum of the partition proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fedbench.reporting.cells import Cell, Floats

LEVEL = 0.05  # of the tests
CONFIDENCE = 0.95  # of the intervals
RESAMPLES = 1000

EXPLANATION = (
    "Accuracies in tables are test accuracies in percent at the round that validation chose, as mean ± sample standard "
    "deviation over seeds; a single seed is given without a spread, and n says where seeds are missing. "
    "Methods are compared in pairs, a pair being one client under one seed, by the mean difference with "
    f"its {CONFIDENCE:.0%} percentile bootstrap interval ({RESAMPLES} resamples of the pairs, fixed seed) and the "
    f"two-sided Wilcoxon signed-rank test, whose p-values are corrected by Holm within a column or table (level "
    f"{LEVEL}). Clients of one run share its training, so pairs are not fully independent and intervals over "
    "few seeds are rather too narrow; the win rate counts a tie as half."
)


@dataclass(frozen=True)
class Summary:
    """Mean and spread over seeds. `sd` is None for a single seed."""

    mean: float
    sd: float | None
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Of one value a seed; the standard deviation has n - 1 in the denominator."""
    n = len(values)
    return Summary(float(np.mean(values)), float(np.std(values, ddof=1)) if n > 1 else None, n)


@dataclass(frozen=True)
class Difference:
    """A method less the reference, over pairs of clients. `low` and `high` are None where there is one pair."""

    mean: float
    low: float | None
    high: float | None
    p: float  # Wilcoxon signed-rank, two-sided; corrected once `holm` has been applied
    wins: float  # share of pairs that the method wins, 0 .. 1, ties as half
    pairs: int
    seeds: int


@dataclass(frozen=True)
class Pairs:
    """Differences of paired clients [P], in percent, of so many seeds."""

    values: Floats
    seeds: int


def paired(method: Cell, reference: Cell, unseen: bool = False) -> Pairs | str:
    """The differences of all pairs; a text that says why, where there are none."""
    ours, theirs = method.by_seed, reference.by_seed
    common = [seed for seed in ours if seed in theirs]
    parts = []
    for seed in common:
        mine, other = ours[seed].scores(unseen), theirs[seed].scores(unseen)
        if mine is None or other is None:
            continue
        if ours[seed].partition != theirs[seed].partition or len(mine.client) != len(other.client):
            return f"not paired: with seed {seed} the clients hold other rows"
        # equal differences must be equal numbers: the test ranks them
        parts.append(np.round(mine.client - other.client, 9))
    if parts:
        return Pairs(np.concatenate(parts), len(parts))
    return "not paired: no unseen clients" if common else "not paired: no seed in common"


def difference(found: Pairs) -> Difference:
    """What the table of differences says of some pairs."""
    from scipy import stats  # takes half a second, and those who only read results have no need of it

    pairs = found.values
    low = high = None
    if len(pairs) > 1:
        interval = stats.bootstrap(
            (pairs,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            batch=max(1, 2_000_000 // len(pairs)),
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    wins = float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    return Difference(float(pairs.mean()), low, high, p_value(pairs), wins, len(pairs), found.seeds)


def p_value(pairs: Floats) -> float:
    """Of Wilcoxon's signed-rank test, two-sided, on paired differences [P]; pairs that tie are left out."""
    return _p_value(pairs.tobytes())


@lru_cache(maxsize=10_000)  # the same pairs are tested for several tables
def _p_value(pairs: bytes) -> float:
    from scipy import stats

    values = np.frombuffer(pairs)
    return float(stats.wilcoxon(values).pvalue) if values.any() else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times m - i + 1, made monotone, at most 1."""
    corrected = np.empty(len(p))
    largest = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]


def compare(cells: Mapping[str, Cell], reference: str, unseen: bool = False) -> dict[str, Difference | str]:
    """Every other cell less `cells[reference]`, p-values corrected over all of them; a text where that cannot be."""
    found: dict[str, Difference | str] = {}
    for name, cell in cells.items():
        if name != reference:
            pairs = paired(cell, cells[reference], unseen)
            found[name] = pairs if isinstance(pairs, str) else difference(pairs)
    tested = {name: value for name, value in found.items() if isinstance(value, Difference)}
    for (name, value), p in zip(tested.items(), holm([value.p for value in tested.values()]), strict=True):
        found[name] = replace(value, p=p)
    return found


def not_worse(cells: Mapping[str, Cell], best: str, unseen: bool = False) -> set[str]:
    """The cells that are not significantly worse than the one called `best`; p-values corrected over all.

    A cell with so few pairs that even the clearest outcome (p = 2 / 2^pairs) would not be significant is not among
    them: nothing can be said of it. One that is significantly better on most clients, though not in the mean, is.
    """
    found = {name: paired(cell, cells[best], unseen) for name, cell in cells.items() if name != best and cell.runs}
    pairs = {name: value.values for name, value in found.items() if isinstance(value, Pairs)}
    p = dict(zip(pairs, holm([p_value(values) for values in pairs.values()]), strict=True))
    enough = {name for name, values in pairs.items() if len(pairs) * 2.0 ** (1 - len(values)) < LEVEL}
    return {name for name in enough if p[name] >= LEVEL or np.median(pairs[name]) > 0}
