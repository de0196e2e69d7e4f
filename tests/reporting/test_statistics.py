"""Statistics against values computed by hand."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_results import Maker, cell_of

from fedbench import storage
from fedbench.reporting.statistics import (
    LEVEL,
    Difference,
    Pairs,
    average_ranks,
    compare,
    could_be_significant,
    critical_difference,
    difference,
    holm,
    inseparable,
    losing_share,
    paired,
    signed_rank_p,
    student,
    summary,
)
from fedbench.storage.gap import Gap


def pairs_of(*seeds: list[float]) -> Pairs:
    return Pairs([np.array(seed, dtype=float) for seed in seeds], np.array([np.mean(seed) for seed in seeds]))


def test_mean_and_sample_standard_deviation() -> None:
    """Of 80, 82, 87: mean 83; squares 9 + 1 + 16 = 26 over n - 1 = 2 is 13."""
    found = summary([80, 82, 87])
    assert (found.mean, found.n) == (83, 3)
    assert found.sd == pytest.approx(13**0.5)
    assert summary([80.0]).sd is None


def test_holm_by_hand() -> None:
    """Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, made monotone .04 .06 .06 .06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


# ---------------------------------------------------------------- the signed-rank test


def test_signed_rank_by_hand() -> None:
    """Six differences of one sign: 2 of the 2^6 patterns are as extreme. Of four ties with one loss, ranks are all 2.5:
    the rank sum of the losses is 2.5, reached or undercut by 1 + 4 patterns of 16, twice."""
    assert signed_rank_p(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)
    assert signed_rank_p(np.array([1.0, 1, 1, -1])) == pytest.approx(2 * 5 / 16)
    assert signed_rank_p(np.zeros(5)) == 1


def test_zeros_are_dropped_whatever_their_number() -> None:
    """4 pairs of 30 differ, all in one direction: 2 of 2^4 patterns, and no p of these four can be below."""
    values = np.concatenate([np.zeros(26), [1.0, 2, 3, 4]])
    assert signed_rank_p(values) == pytest.approx(2 / 16)
    assert not could_be_significant(values)


def test_fifty_losses_have_one_p_tied_or_not() -> None:
    """All of 50 clients lose: 2 of 2^50 patterns are as extreme, whatever the sizes."""
    assert signed_rank_p(-np.arange(1.0, 51)) == pytest.approx(2.0**-49, rel=1e-9)
    assert signed_rank_p(-np.repeat([10.0, 20], 25)) == pytest.approx(2.0**-49, rel=1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_signed_rank_counts_the_sign_patterns(sizes: list[int]) -> None:
    """Against all 2^n patterns of the differences that are no zeros, with mean ranks for equal sizes."""
    values = np.array([float(size) for size in sizes if size])
    if not len(values):
        return
    order = np.abs(values)
    ranks = np.array([(order < one).sum() + ((order == one).sum() + 1) / 2 for one in order])
    middle = ranks.sum() / 2
    found = abs(ranks[values > 0].sum() - middle)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((0, 1), repeat=len(values))
    ]
    expected = np.mean([abs(each - middle) >= found - 1e-9 for each in sums])
    assert signed_rank_p(np.array(sizes, dtype=float)) == pytest.approx(min(1.0, expected))


def test_many_pairs_are_nearly_exact() -> None:
    """Where counting ends, the approximation agrees with the count of nearly as many pairs."""
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(0.35, 1, 101), 1)
    assert signed_rank_p(values[values != 0]) == pytest.approx(signed_rank_p(values[values != 0][:97]), rel=0.5)
    assert could_be_significant(np.ones(6))
    assert not could_be_significant(np.ones(5)), "2 / 2^5 is above .05"
    assert not could_be_significant(np.ones(6), tests=2)


# ---------------------------------------------------------------- over seeds


def test_students_interval_by_hand() -> None:
    """Of 1, 2, 3: mean 2, standard error 1 / sqrt 3, t(2, .975) = 4.302653: 2 ± 2.484138. t = 2 sqrt 3 = 3.464102,
    whose two-sided p with two degrees of freedom is 1 - t / sqrt(t^2 + 2) = 1 - 3.464102 / 3.741657 = .0741799."""
    low, high, p = student(np.array([1.0, 2, 3])) or (0, 0, 0)
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert p == pytest.approx(0.0741799, abs=1e-6)
    assert student(np.array([2.0])) is None
    assert student(np.array([2.0, 2.0])) is None


def test_an_interval_is_of_seeds_and_not_of_clients() -> None:
    """A thousand clients that agree to the digit within each seed do not narrow what two seeds say: seed means 0 and 2,
    standard error 1, t(1, .975) = 12.7062."""
    found = difference(pairs_of([0.0] * 1000, [2.0] * 1000))
    assert found.mean == 1
    assert (found.low, found.high) == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-3)
    assert not found.shown


def test_difference_by_hand() -> None:
    """Seeds of (2, 0) and (-1, 3): mean 1; two wins, one tie and one loss of four are 62.5 %."""
    found = difference(pairs_of([2, 0], [-1, 3]))
    assert (found.mean, found.wins, found.pairs, found.seeds) == (1, 0.625, 4, 2)
    assert losing_share(np.array([2.0, 0, -1, 3])) == 0.25


def test_one_seed_describes_and_tests_nothing() -> None:
    """However many clients win."""
    found = difference(pairs_of([5.0] * 100))
    assert (found.mean, found.low, found.high, found.p, found.shown) == (5, None, None, None, False)
    assert isinstance(found.clients_p, Gap)
    assert "descriptive only" in found.clients_p.reason


def test_too_few_pairs_are_said_to_be_too_few() -> None:
    """Two seeds of 15 clients, of which four differ in all: the least possible p is .125."""
    found = difference(pairs_of([1.0, 2] + [0] * 13, [3.0, 4] + [0] * 13))
    assert isinstance(found.clients_p, Gap)
    assert "too few pairs" in found.clients_p.reason
    enough = difference(pairs_of([1.0, 2, 5] + [0] * 12, [3.0, 4, 6] + [0] * 12))
    assert enough.clients_p == pytest.approx(2 / 64)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=5))
def test_interval_and_decision_agree(seeds: list[list[float]]) -> None:
    """An interval excludes 0 exactly where the corrected p is below the level, for any number of comparisons."""
    found = _compared([np.round(each, 3) for each in seeds])
    for value in found.values():
        if value.p is not None and value.low is not None and value.high is not None and abs(value.p - LEVEL) > 1e-6:
            assert (value.low > 0 or value.high < 0) == value.shown
            assert value.low <= value.mean <= value.high


def test_an_interval_has_the_level_of_its_step_also_where_p_is_1() -> None:
    """Eight comparisons over three seeds, none of them near to being shown: all corrected p are 1, and the one of the
    i-th smallest p has its interval at 1 - .05 / (8 - i + 1) all the same."""
    seeds = [np.array([-1.0, 0.3, shift]) for shift in np.linspace(1.6, 0.9, 8)]
    raw = [(student(each) or (0, 0, 0))[2] for each in seeds]
    assert min(raw) > 1 / 8
    found = _compared(seeds)
    for place, i in enumerate(np.argsort(raw)):
        low, high, _ = student(seeds[i], LEVEL / (8 - place)) or (0, 0, 0)
        assert (found[str(i)].low, found[str(i)].high, found[str(i)].p) == pytest.approx((low, high, 1))


def _compared(seeds: list[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> dict[str, Difference]:
    from fedbench.reporting.statistics import _corrected

    return _corrected({str(i): Pairs([np.array([v]) for v in each], each) for i, each in enumerate(seeds)})


# ---------------------------------------------------------------- cells


def test_pairs_are_clients_of_common_seeds(tmp_path: Path, make: Maker) -> None:
    ours = cell_of(tmp_path, make("fedper", 42, correct=[8, 6]), make("fedper", 27, correct=[7, 7]))
    theirs = cell_of(tmp_path, make("fedavg", 42, correct=[5, 6]), make("fedavg", 13, correct=[1, 1]))
    assert isinstance(pairs := paired(ours, theirs), Pairs)
    assert pairs.all_clients.tolist() == pytest.approx([30, 0])
    assert pairs.seeds.tolist() == pytest.approx([15])
    assert isinstance(paired(ours, theirs, unseen=True), Gap)
    alone = cell_of(tmp_path, make("fedavg", 13, correct=[5, 6]))
    assert "no seed in common" in str(paired(ours, alone))
    other = cell_of(tmp_path, make("local", 42, correct=[5, 6], partition="other rows"))
    assert "other rows" in str(paired(ours, other))


def test_equal_differences_are_ties_whatever_rounding_made_of_them(tmp_path: Path, make: Maker) -> None:
    """Of ten clients with ten rows each, accuracies differ by 10 or 30 points: 0.8 - 0.7 and 0.3 - 0.2 are one rank."""
    ours = cell_of(tmp_path, make("fedper", correct=[8, 3, 7, 9, 1, 4, 6, 9, 5, 2]))
    theirs = cell_of(tmp_path, make("fedavg", correct=[7, 2, 6, 8, 0, 3, 5, 6, 4, 3]))
    assert isinstance(pairs := paired(ours, theirs), Pairs)
    assert sorted(set(pairs.all_clients.tolist())) == [-10, 10, 30]


def test_a_table_is_decided_in_its_own_metric(tmp_path: Path, make: Maker) -> None:
    """Two clients of 100 and 300 rows. In client means seeds differ by 5, 8 and 6 points, which is shown; pooled, the
    differences are 0, 6 and -6 points, which is not."""

    def run(method: str, seed: int, correct: tuple[int, int]) -> storage.Result:
        result = make(method, seed, correct=[0, 0])
        test = storage.TestScores(correct=list(correct), total=[100, 300], loss=[0.5, 0.5])
        best = result.best.model_copy(update={"test": test})
        result = result.model_copy(update={"best": best})
        return result.model_copy(update={"digest": storage.digest(result.model_dump(mode="json"))})

    base = [(50, 150)] * 3
    better = [(65, 135), (62, 162), (80, 96)]  # client means +5, +8, +6; pooled 0, +6, -6
    cells = {
        "base": cell_of(tmp_path, *(run("local", s, c) for s, c in zip((42, 27, 13), base, strict=True))),
        "better": cell_of(tmp_path, *(run("fedper", s, c) for s, c in zip((42, 27, 13), better, strict=True))),
    }
    by_mean = compare(cells, "base")["better"]
    pooled = compare(cells, "base", metric="pooled")["better"]
    assert isinstance(by_mean, Difference)
    assert isinstance(pooled, Difference)
    assert by_mean.mean == pytest.approx(19 / 3)
    assert pooled.mean == pytest.approx(0)
    assert by_mean.shown
    assert not pooled.shown
    assert inseparable(cells, "better") == set()
    assert inseparable(cells, "better", metric="pooled") == {"base"}


def test_with_one_seed_nothing_is_called_inseparable(tmp_path: Path, make: Maker) -> None:
    cells = {name: cell_of(tmp_path, make(name, correct=[9, 8])) for name in ("fedper", "fedavg")}
    assert inseparable(cells, "fedper") == set()


# ---------------------------------------------------------------- ranks


def test_average_ranks_by_hand() -> None:
    """Settings rank a, b, c as 1 2 3, 2 1 3 and (tie of a and b) 1.5 1.5 3."""
    found = average_ranks({"a": [9.0, 5, 7], "b": [8.0, 6, 7], "c": [1.0, 1, 1]})
    assert found == pytest.approx({"a": 1.5, "b": 1.5, "c": 3})


def test_critical_difference_is_that_of_the_tables() -> None:
    """q at .05 is 2.343 for three methods and 2.569 for four (Demsar 2006, table 5): 2.343 sqrt(12 / 60) for ten
    settings, 2.569 sqrt(20 / 84) for fourteen."""
    assert critical_difference(3, 10) == pytest.approx(2.343 * (12 / 60) ** 0.5, abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(2.569 * (20 / 84) ** 0.5, abs=1e-3)
