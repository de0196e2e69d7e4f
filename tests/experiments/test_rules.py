"""Rules of claims: what they say, which cells they are about, and what numbers make of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedbench.errors import BadInput
from fedbench.experiments.parts import Claim, Experiment
from fedbench.experiments.rules import CellName, Rule, parse_rule, resolve
from fedbench.experiments.schema import load
from fedbench.reporting.claims import answers, decide, interval
from fedbench.reporting.paper import Part

FILE = """\
title = "Mine"
paper = "none"
caption = "none"
metric = "pooled"
axis = "k"
methods = ["fedavg", "local", "pfedhn"]
extras = ["distance"]

[presets.smoke]
visits = 20
seeds = 2

[[columns]]
name = "k-5"
label = "k = 5"
dataset = "digits"
clients = 10
x = 5

[[columns]]
name = "k-15"
label = "k = 15"
dataset = "digits"
clients = 10
x = 15

[[columns]]
name = "other"
label = "no place on the axis"
dataset = "digits"
clients = 5
"""


@pytest.fixture
def mine(tmp_path: Path) -> Experiment:
    (tmp_path / "mine.toml").write_text(FILE)
    return load(str(tmp_path / "mine.toml"))


def cell(method: str, column: str, quantity: str = "accuracy") -> CellName:
    return CellName(quantity, method, column)


# ---------------------------------------------------------------- what a text says


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a > b", Rule("greater", ("a",), ("b",))),
        ("a > each of b, c in x, y", Rule("greater", ("a",), ("b", "c"), places=("x", "y"))),
        ("a < each of b by 2.5 points in x", Rule("less", ("a",), ("b",), 2.5, places=("x",))),
        ("a > b by 1 point", Rule("greater", ("a",), ("b",), 1.0)),
        ("equal within 1 point: k=5,15,25", Rule("equal", ("k=5", "k=15", "k=25"), margin=1.0)),
        ("equal within 1e-8: a, b in x", Rule("equal", ("a", "b"), margin=1e-8, places=("x",))),
        ("falls with: distance", Rule("falls", axis="distance")),
        ("rises with: k in a, gap", Rule("rises", axis="k", places=("a", "gap"))),
        ("A  >  Each Of b,b , c  IN x", Rule("greater", ("a",), ("b", "c"), places=("x",))),
        ("equal  within 1E-3  Points: k = 5 , 15,5", Rule("equal", ("k=5", "k=15"), margin=1e-3)),
        ("equal within 1 point: k=-1, -2", Rule("equal", ("k=-1", "k=-2"), margin=1.0)),
        ("Falls  With : K", Rule("falls", axis="k")),
    ],
)
def test_forms(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(f"  {text}  ") == rule


@pytest.mark.parametrize(
    "text",
    ["", "a", "a >", "> b", "a = b", "a > b > c", "equal within points: a, b", "falls with:", "equal: a, b", "a > ,"],
)
def test_what_is_no_rule_is_answered_with_the_forms(text: str) -> None:
    with pytest.raises(BadInput, match=r"cannot be read: write `A > each of B, C in COLUMN`"):
        parse_rule(text)


# ---------------------------------------------------------------- which cells


def test_methods_are_compared_in_every_column_unless_some_are_named(mine: Experiment) -> None:
    everywhere = resolve(parse_rule("pfedhn > each of fedavg, local"), mine).pairs
    assert set(everywhere) == {
        (cell("pfedhn", column), cell(other, column))
        for column in ("k-5", "k-15", "other")
        for other in ("fedavg", "local")
    }
    assert resolve(parse_rule("pfedhn > fedavg in other"), mine).pairs == [
        (cell("pfedhn", "other"), cell("fedavg", "other"))
    ]


def test_columns_are_compared_for_every_method_by_name_or_by_place(mine: Experiment) -> None:
    by_place = resolve(parse_rule("k=5 < k=15 in pfedhn"), mine)
    by_name = resolve(parse_rule("k-5 < k-15 in pfedhn"), mine)
    assert by_place == by_name
    assert by_place.pairs == [(cell("pfedhn", "k-5"), cell("pfedhn", "k-15"))]
    assert len(resolve(parse_rule("equal within 1 point: k=5, 15"), mine).pairs) == 3


def test_quantities_are_named_behind_in_or_compared(mine: Experiment) -> None:
    assert resolve(parse_rule("pfedhn < fedavg in gap, other"), mine).cells == {
        cell("pfedhn", "other", "gap"),
        cell("fedavg", "other", "gap"),
    }
    assert resolve(parse_rule("accuracy > unseen in pfedhn, k=5"), mine).pairs == [
        (cell("pfedhn", "k-5"), cell("pfedhn", "k-5", "unseen"))
    ]


def test_series_run_over_the_columns_that_have_a_place(mine: Experiment) -> None:
    assert resolve(parse_rule("falls with: k in pfedhn"), mine).series == [
        [cell("pfedhn", "k-5"), cell("pfedhn", "k-15")]
    ]


def test_distances_are_those_of_columns_with_unseen_clients(tmp_path: Path) -> None:
    """A column that has none can never be on that axis, and must not keep the others from being tested."""
    (tmp_path / "mine.toml").write_text(FILE.replace("clients = 10\n", "clients = 10\nnovel_clients = 2\n"))
    measured = resolve(parse_rule("rises with: distance in gap, pfedhn"), load(str(tmp_path / "mine.toml"))).series
    assert measured == [[cell("pfedhn", column, "gap") for column in ("k-5", "k-15")]]


def test_names_are_known_in_any_case(mine: Experiment) -> None:
    assert resolve(parse_rule("pFedHN > FedAvg in K-5"), mine) == resolve(parse_rule("pfedhn > fedavg in k-5"), mine)


NETWORKS = {  # as a file may write several networks, and how results name them
    '"./Small_Net.py*4,LeNet * 6:shuffled"': ["small-net", "lenet"],
    '["lenet*3", " lenet-8*4", "lenet*3 :shuffled "]': ["lenet", "lenet-8"],
}


@pytest.mark.parametrize("text", NETWORKS)
def test_networks_are_quantities_by_the_names_that_results_give_them(text: str, tmp_path: Path) -> None:
    file = FILE.replace('extras = ["distance"]', 'extras = ["sizes"]').replace("x = 5\n", f"x = 5\nnetwork = {text}\n")
    (tmp_path / "mine.toml").write_text(file)
    loaded = load(str(tmp_path / "mine.toml"))
    for name in NETWORKS[text]:
        assert resolve(parse_rule(f"pfedhn > local in k-5, {name}"), loaded).cells == {
            cell("pfedhn", "k-5", name),
            cell("local", "k-5", name),
        }


def test_what_is_of_no_run_is_one_cell_also_beside_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FILE.replace('extras = ["distance"]', 'extras = ["linear-theory"]'))
    found = resolve(parse_rule("equal within 1e-7: fitted, theorem"), load(str(tmp_path / "mine.toml")))
    assert found.pairs == [(cell("", "", "fitted"), cell("", "", "theorem"))]


def test_a_name_that_means_two_things_is_refused(tmp_path: Path) -> None:
    text = FILE.replace("x = 15", "x = 5").replace('name = "other"', 'name = "local"')
    (tmp_path / "mine.toml").write_text(text)
    loaded = load(str(tmp_path / "mine.toml"))
    with pytest.raises(BadInput, match="'k=5' is the place of the columns k-5, k-15: name one of them"):
        resolve(parse_rule("pfedhn > fedavg in k=5"), loaded)
    with pytest.raises(BadInput, match="'local' is the name of a method and a column of this experiment: rename the"):
        resolve(parse_rule("pfedhn > local"), loaded)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pfedhn > fedavgg", "Did you mean 'fedavg'"),
        ("pfedhn > fedavg in k-6", "Did you mean 'k-5'"),
        ("k=5 > k=6", "no method, column or quantity of this experiment called 'k=6'"),
        ("falls with: distances", "Did you mean 'distance'"),
        ("pfedhn > k-5", "not one with another: pfedhn is a method, k-5 is a column"),
        ("pfedhn > fedavg in local", "which is one too"),
        ("equal within 1 point: pfedhn", "at least two names"),
        ("equal within 1 point: k=5, k-5", "at least two names"),
        ("pfedhn > each of fedavg, pfedhn", "compares 'pfedhn' with itself: name another method"),
        ("falls with: k in other", "'other' has no place on the axis 'k': give it an x, or leave it out"),
        ("falls with: k in k-5", "needs two columns that have a place there, and has 1"),
        ("rises with: distance", "needs two columns that have a place there, and has 0"),
    ],
)
def test_names_that_are_no_cells_are_one_sentence(mine: Experiment, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        resolve(parse_rule(text), mine)


# ---------------------------------------------------------------- what numbers make of them


def verdict(rule: str, *numbers: list[float], quantity: str = "accuracy") -> str:
    """Of methods a, b, c, ... with `numbers` of seeds 0, 1, ...: `rule` compares the first with each of the others."""
    cells = [CellName(quantity, name, "x") for name in "abcdefg"[: len(numbers)]]
    values = {cell: dict(enumerate(each)) for cell, each in zip(cells, numbers, strict=True)}
    parsed = parse_rule(rule)
    found, evidence = decide(parsed, [(cells[0], other) for other in cells[1:]], [], values, {}, asked=len(cells) - 1)
    assert evidence
    return found


def test_a_difference_is_decided_by_its_interval_over_seeds() -> None:
    """Differences 4, 5, 6: mean 5, standard error 1 / sqrt(3), t(2) = 4.303: 5 +- 2.48."""
    over = interval([4.0, 5.0, 6.0])
    assert (over.mean, over.low, over.high) == pytest.approx((5.0, 5 - 2.4841, 5 + 2.4841), abs=1e-3)
    a, b = [84.0, 85.0, 86.0], [80.0, 80.0, 80.0]
    assert verdict("a > b", a, b) == "holds"
    assert verdict("a < b", a, b) == "does not hold"
    assert verdict("a > b by 2 points", a, b) == "holds"
    assert verdict("a > b by 3 points", a, b) == "undecided"
    assert verdict("a > b by 8 points", a, b) == "does not hold"


def test_one_seed_decides_nothing_however_large_the_difference() -> None:
    for rule in ("a > b", "a < b", "equal within 100 points: a, b"):
        assert verdict(rule, [99.0], [1.0]) == "undecided"


def test_equal_differences_of_accuracies_decide_nothing_but_of_exact_numbers_do() -> None:
    assert verdict("a > b", [3.0, 3.0], [1.0, 1.0]) == "undecided"
    assert verdict("a > b", [3.0, 3.0], [1.0, 1.0], quantity="megabytes-per-visit") == "holds"
    assert verdict("equal within 0.1: a, b", [3.0, 3.0], [3.0, 3.0], quantity="megabytes-per-visit") == "holds"
    assert verdict("equal within 0.1: a, b", [3.0, 3.0], [4.0, 4.0], quantity="megabytes-per-visit") == "does not hold"


def test_each_of_holds_where_all_hold_and_fails_where_one_fails() -> None:
    a, low, near, high = [80.0, 81.0, 82.0], [70.0, 71.2, 72.1], [79.0, 82.0, 81.5], [90.0, 91.2, 92.1]
    assert verdict("a > each of b, c", a, low, low) == "holds"
    assert verdict("a > each of b, c", a, low, near) == "undecided"
    assert verdict("a > each of b, c, d", a, low, near, high) == "does not hold"


def test_a_failure_that_was_looked_for_among_many_needs_an_interval_for_so_many() -> None:
    """Differences -1.5, -2, -3: mean -2.167, standard error 0.441; t(2) is 4.303 at 95 % and 10.886 at 99.17 %."""
    a, b, far = [80.0, 80.0, 80.0], [81.5, 82.0, 83.0], [70.0, 71.2, 72.1]
    assert verdict("a > b", a, b) == "does not hold"
    assert verdict("a > each of b, c, d, e, f, g", a, b, *[far] * 5) == "undecided"
    cells = [CellName("accuracy", name, "x") for name in "ab"]
    values = {cell: dict(enumerate(each)) for cell, each in zip(cells, [a, b], strict=True)}
    found, evidence = decide(parse_rule("a > b"), [(cells[0], cells[1])], [], values, {}, asked=6)
    assert found == "undecided"
    assert evidence == "a less b, x: \u22122.17 [\u22126.97, +2.63] at 99.2 % over 3 seeds"


def test_a_true_claim_of_many_comparisons_is_seldom_refuted() -> None:
    """A is above each of six by nothing to speak of: chance refutes it in no more than 2.5 % of 1,000 draws."""
    rng = np.random.default_rng(0)
    draws = (rng.normal(scale=0.5, size=(7, 3)) + np.array([[0.01]] + [[0.0]] * 6) for _ in range(1000))
    wrong = sum(verdict("a > each of b, c, d, e, f, g", *map(list, draw)) == "does not hold" for draw in draws)
    assert wrong <= 40  # three standard deviations above 25


def test_equality_needs_the_whole_interval_within_the_margin() -> None:
    a = [80.0, 81.0, 82.0]
    assert verdict("equal within 1 point: a, b", a, [80.1, 80.9, 82.05]) == "holds"
    assert verdict("equal within 1 point: a, b", a, [80.9, 81.0, 82.0]) == "undecided"
    assert verdict("equal within 1 point: a, b", a, [85.1, 86.0, 87.05]) == "does not hold"


def test_only_seeds_in_common_are_paired() -> None:
    cells = [CellName("accuracy", name, "x") for name in "ab"]
    values = {cells[0]: {42: 90.0, 27: 91.0}, cells[1]: {42: 80.0, 13: 70.0}}
    found, evidence = decide(parse_rule("a > b"), [(cells[0], cells[1])], [], values, {}, asked=1)
    assert found == "undecided"
    assert "10.00 (one seed)" in evidence
    values[cells[1]] = {13: 70.0}
    assert decide(parse_rule("a > b"), [(cells[0], cells[1])], [], values, {}, asked=1)[0] == "not tested"


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=6),
    st.lists(st.floats(-50, 50), min_size=2, max_size=6),
    st.floats(0, 10),
)
def test_a_comparison_and_its_opposite_never_both_hold(a: list[float], b: list[float], margin: float) -> None:
    n = min(len(a), len(b))
    there, back = (verdict(f"a {sign} b by {margin:.3f}", a[:n], b[:n]) for sign in "><")
    assert not (there == back == "holds")
    if margin < 5e-4:
        assert {there, back} in ({"holds", "does not hold"}, {"undecided"})


def slope(rule: str, ys: np.ndarray, xs: list[float]) -> str:
    """Of seeds [S] and places [P]: `ys` [S, P]."""
    line = [CellName("accuracy", "a", f"x{i}") for i in range(len(xs))]
    values = {cell: dict(enumerate(column)) for cell, column in zip(line, ys.T.tolist(), strict=True)}
    places = {("k", cell.column): dict.fromkeys(range(len(ys)), x) for cell, x in zip(line, xs, strict=True)}
    return decide(parse_rule(rule), [], [line], values, places, asked=1)[0]


def test_a_trend_is_decided_by_the_slopes_of_seeds() -> None:
    xs = [1.0, 2.0, 4.0]
    falling = np.array([[9.0, 8.0, 5.9], [8.0, 7.1, 5.0], [9.1, 8.0, 6.2]])
    assert slope("falls with: k", falling, xs) == "holds"
    assert slope("rises with: k", falling, xs) == "does not hold"
    assert slope("falls with: k", np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), xs) == "undecided"
    assert slope("falls with: k", falling[:1], xs) == "undecided"
    assert slope("falls with: k", falling[:, :1], xs[:1]) == "not tested"


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_a_trend_does_not_depend_on_the_unit_of_its_axis(unit: float) -> None:
    """The axis as 0, 1/3, 1 has deviations (-4, -1, 5) / 9 with squares of 42 / 81: the change along it of a, b, c is
    (-4 a - b + 5 c) 9 / 42, which is -3, -3.021 and -2.871 here, whatever k is counted in."""
    falling = np.array([[9.0, 8.0, 6.0], [8.0, 7.1, 5.0], [9.1, 8.0, 6.2]])
    xs = [unit, 2 * unit, 4 * unit]
    assert slope("falls with: k", falling, xs) == "holds"
    line = [CellName("accuracy", "a", f"x{i}") for i in range(3)]
    values = {cell: dict(enumerate(column)) for cell, column in zip(line, falling.T.tolist(), strict=True)}
    places = {("k", cell.column): dict.fromkeys(range(3), x) for cell, x in zip(line, xs, strict=True)}
    evidence = decide(parse_rule("falls with: k"), [], [line], values, places, asked=1)[1]
    assert "change of accuracy of a along k from" in evidence
    assert ": \u22122.96 [" in evidence


def test_two_names_of_one_column_are_one(mine: Experiment) -> None:
    found = resolve(parse_rule("equal within 1 point: k=5, k-5, k-15 in fedavg"), mine)
    assert found.pairs == [(cell("fedavg", "k-5"), cell("fedavg", "k-15"))]
    with pytest.raises(BadInput, match="at least two names"):
        resolve(parse_rule("equal within 1 point: k=5, k-5"), mine)


@pytest.mark.parametrize(
    ("local", "found", "says"),
    [
        ({1: 90.0, 2: 91.2}, "does not hold", "fedavg less local"),
        ({1: 60.0, 2: 61.2}, "not tested", "What there is agrees: fedavg less local"),
        ({1: 60.0, 2: 95.0}, "not tested", "What there is does not decide it: fedavg less local"),
        ({3: 60.0}, "not tested", "What there is cannot be compared: fedavg less local"),
        ({}, "not tested", "There is no accuracy of local in k-15"),
    ],
)
def test_a_claim_of_many_cells_can_be_refuted_by_those_that_there_are(
    mine: Experiment, local: dict[int, float], found: str, says: str
) -> None:
    claim = Claim(text="", where="", certainty="verified", rule="fedavg > each of local, pfedhn in k-15")
    values = {cell("fedavg", "k-15"): {1: 80.0, 2: 81.0}, cell("local", "k-15"): local}
    made = SimpleNamespace(experiment=mine.model_copy(update={"claims": [claim]}), gaps={}, visits=lambda column: 20)
    (answer,) = answers(made, Part(values=values))  # type: ignore[arg-type]
    assert answer.verdict == found
    assert says in answer.evidence
    if found == "not tested" and local:
        assert answer.evidence.startswith("There is no accuracy of pfedhn in k-15")


def test_a_trend_of_one_method_can_refute_a_claim_about_all(mine: Experiment) -> None:
    claim = Claim(text="", where="", certainty="verified", rule="falls with: k in fedavg, local")
    values = {cell("fedavg", "k-5"): {1: 80.0, 2: 81.0}, cell("fedavg", "k-15"): {1: 90.0, 2: 91.2}}
    places = {("k", f"k-{x}"): {1: float(x), 2: float(x)} for x in (5, 15)}
    made = SimpleNamespace(experiment=mine.model_copy(update={"claims": [claim]}), gaps={}, visits=lambda column: 20)
    (answer,) = answers(made, Part(values=values, places=places))  # type: ignore[arg-type]
    assert answer.verdict == "does not hold"
