"""What is computed from accuracies: spread over seeds, paired comparisons, and average ranks over settings.

All accuracies are in percent, and so are differences. A pair is one client under one seed: both methods had the same
seed, so the client holds the same rows, which the checksum of the partition proves. Clients of one run share its
training, so that they are no independent witnesses of what another seed would give: intervals, p-values and decisions
are over seeds. Letters: S seeds, N clients, P pairs, K methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from fedbench.reporting.cells import Cell
from fedbench.reporting.run import Floats
from fedbench.storage.gap import Gap, Missing

Metric = Literal["client mean", "pooled"]
LEVEL = 0.05  # of the tests, for a whole column or table
EXACT = 100  # pairs up to which the signed-rank test counts its sign patterns

EXPLANATION = (
    "Accuracies in tables are test accuracies in percent at the round that validation chose, as mean ± sample "
    "standard deviation over seeds; a single seed is given without a spread. The worst tenth is the mean over the "
    "N // 10 clients that are served worst, at least one. Methods are compared under equal seeds: the difference "
    "of two methods is computed for each seed, in the metric of the table; its mean, interval and p-value are "
    "those of Student's t over the seeds. p-values are corrected by Holm within a table, and each interval has "
    f"the level that Holm's step leaves to its comparison (at least {1 - LEVEL:.0%}), so that it excludes 0 "
    f"exactly where the corrected p is below {LEVEL}. With one seed there is no test and no interval, for clients "
    "of one run share its training: what is shown then describes these runs and no others. The share of clients "
    "won counts a tie as half. Wilcoxon's signed-rank p (two-sided, zeros dropped, Holm; exact up to "
    f"{EXACT} pairs that differ, beyond them by the normal approximation) is over pairs of one client under one "
    "seed: it takes these runs as they are, speaks of their clients alone, and decides nothing here."
)
EXPLANATION_OF_CLAIMS = (
    f"A claim holds where the interval at {1 - LEVEL:.0%} of each of its comparisons over seeds lies where it should. "
    "It does not hold where one lies elsewhere, at the level that is left to each where there are several "
    "(Bonferroni): chance makes the worst of many look bad more often than a single one."
)


def explanation(claims: bool) -> str:
    """How the numbers of a report were computed, and the answers to `claims`, if it has any."""
    return f"{EXPLANATION} {EXPLANATION_OF_CLAIMS}" if claims else EXPLANATION


@dataclass(frozen=True)
class Summary:
    """Mean and spread over seeds. `sd` is None for a single seed."""

    mean: float
    sd: float | None
    n: int


def summary(values: Sequence[float]) -> Summary:
    """The summary of one value a seed; the standard deviation has n - 1 in the denominator."""
    n = len(values)
    return Summary(float(np.mean(values)), float(np.std(values, ddof=1)) if n > 1 else None, n)


# ---------------------------------------------------------------- pairs


@dataclass(frozen=True)
class Pairs:
    """A method less another one, in percentage points."""

    clients: Sequence[Floats]  # for each seed the differences of its clients [N]
    seeds: Floats  # [S], the difference of the metric under each seed

    @property
    def all_clients(self) -> Floats:
        """The differences of all clients under all seeds [P]."""
        return np.concatenate(list(self.clients))


def paired(method: Cell, reference: Cell, unseen: bool = False, metric: Metric = "client mean") -> Pairs | Gap:
    """The differences of all pairs, or why there are none."""
    ours, theirs = method.by_seed, reference.by_seed
    common = [seed for seed in ours if seed in theirs]
    clients, seeds = [], []
    for seed in common:
        mine, other = ours[seed].scores(unseen), theirs[seed].scores(unseen)
        if mine is None or other is None:
            continue
        if ours[seed].partition != theirs[seed].partition or len(mine.client) != len(other.client):
            return Gap(Missing.NO_TEST, f"with seed {seed} the clients hold other rows, so that nothing can be paired")
        if len({run.samples for run in (ours[seed], theirs[seed]) if run.samples}) > 1:
            return Gap(Missing.NO_TEST, f"with seed {seed} the two were made of other samples of the data set")
        # equal differences must be equal numbers: the signed-rank test ranks them
        clients.append(np.round(mine.client - other.client, 9))
        seeds.append(round(mine.pooled - other.pooled, 9) if metric == "pooled" else float(clients[-1].mean()))
    if clients:
        return Pairs(clients, np.array(seeds))
    return Gap(Missing.NO_UNSEEN) if common else Gap(Missing.NO_TEST, "the two have no seed in common")


# ---------------------------------------------------------------- tests


@dataclass(frozen=True)
class Difference:
    """A method less the reference, in points. `low`, `high` and `p` are None where the seeds allow no test."""

    mean: float
    low: float | None
    high: float | None
    p: float | None  # of Student's t over seeds, two-sided; corrected once `compare` has been through
    wins: float  # share of the pairs that the method wins, 0 .. 1, ties as half
    pairs: int
    seeds: int
    clients_p: float | Gap  # of the signed-rank test over the pairs, corrected likewise

    @property
    def shown(self) -> bool:
        """Whether the difference is told from none: the interval does not hold 0."""
        return self.p is not None and self.p < LEVEL


def student(seeds: Floats, level: float = LEVEL) -> tuple[float, float, float] | None:
    """Low and high end of the interval of the mean at 1 - `level`, and two-sided p, of differences over seeds [S].

    None for one seed, and where the seeds do not differ at all, so that nothing is known of their spread.
    """
    from scipy.special import stdtr, stdtrit  # scipy.stats would take half a second

    n = len(seeds)
    error = float(np.std(seeds, ddof=1)) / n**0.5 if n > 1 else 0.0
    mean = float(np.mean(seeds))
    if error <= 1e-9:
        return None
    reach = float(stdtrit(n - 1, 1 - level / 2)) * error
    return mean - reach, mean + reach, 2 * float(stdtr(n - 1, -abs(mean) / error))


def signed_rank_p(pairs: Floats) -> float:
    """Wilcoxon's signed-rank test, two-sided, of paired differences [P].

    Pairs without a difference are dropped, equal sizes share their ranks. Up to EXACT pairs, p is the share of the 2^P
    sign patterns whose rank sum is as far from its mean as the one that was found; beyond, the normal approximation of
    that distribution (its variance, a quarter of the sum of squared ranks, holds with ties). 1 where no pair differs.
    """
    return _signed_rank_p(pairs[pairs != 0].tobytes())


@lru_cache(maxsize=10_000)  # the same pairs are tested for several tables
def _signed_rank_p(pairs: bytes) -> float:
    from scipy.special import ndtr

    values = np.frombuffer(pairs)
    if not len(values):
        return 1.0
    doubled = _doubled_ranks(np.abs(values))
    total = int(doubled.sum())
    low = int(min(doubled[values > 0].sum(), doubled[values < 0].sum()))
    if len(values) > EXACT:
        return min(1.0, 2 * float(ndtr((low - total / 2) / np.sqrt(np.sum(doubled.astype(float) ** 2) / 4))))
    patterns = np.zeros(total + 1)  # how many sign patterns have each (doubled) rank sum
    patterns[0] = 1
    for rank in doubled:
        patterns[rank:] += patterns[: total + 1 - rank].copy()
    return min(1.0, 2 * float(patterns[: low + 1].sum()) / 2.0 ** len(values))


def _doubled_ranks(sizes: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Twice the rank of each size [P], from 2; equal sizes have the mean of their ranks, and twice that is whole."""
    _, place, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: np.ndarray[tuple[int], np.dtype[np.int64]] = (2 * last - counts + 1)[place].astype(np.int64)
    return doubled


def could_be_significant(pairs: Floats, tests: int = 1) -> bool:
    """Whether the signed-rank test on so many pairs that differ can fall below LEVEL when `tests` are made."""
    return tests * 2.0 ** (1 - int(np.count_nonzero(pairs))) < LEVEL


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times m - i + 1, made monotone, at most 1."""
    corrected = np.empty(len(p))
    largest = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]


def difference(found: Pairs) -> Difference:
    """What some pairs say when they are the only comparison."""
    return _corrected({"": found})[""]


def compare(
    cells: Mapping[str, Cell], reference: str, unseen: bool = False, metric: Metric = "client mean"
) -> dict[str, Difference | Gap]:
    """Every other cell less `cells[reference]`, corrected over all of them; a gap where that cannot be."""
    found = {
        name: paired(cell, cells[reference], unseen, metric)
        for name, cell in cells.items()
        if name != reference and cell.runs
    }
    tested = _corrected({name: pairs for name, pairs in found.items() if isinstance(pairs, Pairs)})
    return {name: tested[name] if isinstance(pairs, Pairs) else pairs for name, pairs in found.items()}


def _corrected(found: Mapping[str, Pairs]) -> dict[str, Difference]:
    """The differences of all `found`, with p-values and intervals for so many comparisons at once."""
    tests = {name: test for name, pairs in found.items() if (test := student(pairs.seeds))}
    p = dict(zip(tests, holm([test[2] for test in tests.values()]), strict=True))
    steps = {name: len(p) - rank for rank, name in enumerate(sorted(p, key=lambda name: tests[name][2]))}
    made = {}
    for name, pairs in found.items():
        values = pairs.all_clients
        made[name] = Difference(
            mean=float(pairs.seeds.mean()),
            low=None,
            high=None,
            p=None,
            wins=float(np.mean((values > 0) + 0.5 * (values == 0))),
            pairs=len(values),
            seeds=len(pairs.seeds),
            clients_p=Gap(Missing.NO_TEST, "1 seed: descriptive only"),
        )
        if name in tests:
            raw, level = tests[name][2], LEVEL / steps[name]
            if raw < level and p[name] >= LEVEL:
                # a step before this one has failed, so that p was multiplied by more: the level is divided by as much
                level = LEVEL * raw / p[name]
            again = student(pairs.seeds, level)
            assert again is not None
            made[name] = replace(made[name], low=again[0], high=again[1], p=p[name])
    several = {name: pairs.all_clients for name, pairs in found.items() if len(pairs.seeds) > 1}
    ranked = {name: values for name, values in several.items() if could_be_significant(values, len(several))}
    by_rank = dict(zip(ranked, holm([signed_rank_p(values) for values in ranked.values()]), strict=True))
    for name in several:
        made[name] = replace(
            made[name], clients_p=by_rank.get(name, Gap(Missing.NO_TEST, "too few pairs that differ for any result"))
        )
    return made


def inseparable(cells: Mapping[str, Cell], best: str, unseen: bool = False, metric: Metric = "client mean") -> set[str]:
    """The cells of which the seeds show no difference to the one called `best`; empty where there is one seed only."""
    found = compare(cells, best, unseen, metric)
    return {
        name
        for name, value in found.items()
        if isinstance(value, Difference) and value.p is not None and not (value.shown and value.mean < 0)
    }


def losing_share(pairs: Floats) -> float:
    """The share of clients, 0 .. 1, that have less than under the reference; ties lose nothing."""
    return float(np.mean(pairs < 0))


# ---------------------------------------------------------------- ranks


def average_ranks(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean rank of each method over settings, 1 for the greatest value; equals share the mean of their ranks.

    `values` has one value a setting for each method, in one order of settings.
    """
    table = np.array(list(values.values()))  # [K, settings]
    ranks = np.stack([_doubled_ranks(-column) / 2 for column in table.T])
    return dict(zip(values, ranks.mean(axis=0).tolist(), strict=True))


def critical_difference(methods: int, settings: int) -> float:
    """Nemenyi's critical difference of average ranks at LEVEL: q sqrt(K (K + 1) / (6 settings)).

    q is the quantile of the studentized range with infinite degrees of freedom, divided by the root of two. Source:
    Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - LEVEL, methods, np.inf)) / 2**0.5
    return float(q * (methods * (methods + 1) / (6 * settings)) ** 0.5)
