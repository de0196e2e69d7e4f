"""The sentence that a report says first: who leads, over what, and with whom nothing could be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from small_results import Maker, put

from fedbench.reporting.collection import collect
from fedbench.reporting.settings import SettingResults, by_setting
from fedbench.reporting.statistics import compare
from fedbench.reporting.summary import answer
from fedbench.reporting.tables import ranking

SEEDS = (42, 27, 13)
HIGH, MIDDLE, LOW = [[9, 9], [9, 8], [9, 9]], [[7, 7], [7, 6], [7, 6]], [[5, 4], [5, 5], [4, 4]]


@pytest.fixture
def setting(tmp_path: Path, make: Maker) -> Fill:
    return Fill(tmp_path / "r", make)


class Fill:
    """A setting of clients with ten test rows each: what is said of the methods put into it."""

    def __init__(self, root: Path, make: Maker) -> None:
        self.root, self.make = root, make

    def put(self, method: str, correct: Sequence[Sequence[int]], seeds: Sequence[int] = SEEDS, **facts: object) -> None:
        for seed, counts in zip(seeds, correct, strict=True):
            put(self.root, self.make(method, seed, correct=counts, **facts))

    @property
    def results(self) -> SettingResults:
        (found,) = by_setting(collect(self.root).runs)
        return found

    @property
    def answer(self) -> str:
        return answer(self.results, "client mean")


def test_who_is_above_all_others_is_best(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", MIDDLE)
    setting.put("local", LOW)
    assert setting.answer.startswith("pFedHN is best: 88.33 ± 2.89 % (client mean), 21.67 points [")
    assert setting.answer.endswith("above FedPer; 3 seeds, 1,000 visits a run.")


def test_a_single_left_over_run_turns_no_statistics_off(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", MIDDLE)
    setting.put("pfedme", [[10, 10]], seeds=[42])
    text = setting.answer
    assert text.startswith("pFedHN is highest: 88.33 ± 2.89 % (client mean), 21.67 points [")
    assert "above FedPer; 3 seeds" in text
    assert text.endswith("pFedMe has more over the seeds in common, which are fewer.")
    table = ranking(setting.results, "client mean")
    assert table.columns[1].label == "difference to pFedHN, points"
    assert [title for title, (first, *_) in table.rows if first.best] == ["pFedHN"]


def test_a_left_over_variant_is_no_reference(setting: Fill) -> None:
    setting.put("fedavg", LOW)
    setting.put("local", MIDDLE)
    setting.put("fedavg", [[10, 10]], seeds=[42], params={"local.lr": 0.03})
    text = setting.answer
    assert text.startswith("Local is highest: ")
    assert "above FedAvg (local.lr=0.005); 3 seeds" in text
    assert text.endswith("FedAvg (local.lr=0.03) has more over the seeds in common, which are fewer.")


def test_a_hyphen_of_a_name_is_no_minus_sign(setting: Fill) -> None:
    """Differences -5, 10, 5: mean 3.33, standard error 4.41, t(2) is 4.303."""
    setting.put("fedper", [[9, 8], [9, 9], [8, 9]])
    setting.put("lg-fedavg", [[9, 9], [8, 8], [8, 8]], title="LG-FedAvg")
    assert "3.33 points [\u221215.64, 22.31] above LG-FedAvg; 3 seeds" in setting.answer


def test_nobody_is_best_beside_a_method_that_cannot_be_compared(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", MIDDLE)
    setting.put("local", LOW, partition="another deal")
    assert setting.answer.startswith("pFedHN is highest: ")
    assert setting.answer.endswith("Local cannot be compared with it.")


def test_the_next_one_that_can_be_compared_is_named(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", MIDDLE, partition="another deal")
    assert setting.answer == (
        "pFedHN is highest with 88.33 ± 2.89 % (client mean); 1,000 visits a run. FedPer cannot be compared with it."
    )


def test_seeds_in_common_are_told_from_seeds(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", [*MIDDLE], seeds=[27, 13, 0])
    assert "2 seeds in common, 1,000 visits a run" in setting.answer


def test_equals_are_level(setting: Fill) -> None:
    setting.put("pfedhn", HIGH)
    setting.put("fedper", HIGH)
    assert "is highest with 88.33 ± 2.89 % (client mean), level with " in setting.answer
    assert "0.00" not in setting.answer


def test_differences_that_are_the_same_for_all_seeds_are_called_so(setting: Fill) -> None:
    setting.put("pfedhn", [[9, 9]] * 3)
    setting.put("fedper", [[7, 7]] * 3)
    assert (
        "20.00 points above FedPer, the same for all seeds, so that nothing is known of their spread" in setting.answer
    )


def test_other_samples_are_not_compared_and_a_warning_says_so(setting: Fill) -> None:
    setting.put("pfedhn", HIGH, provenance={"samples": "aaaa"})
    setting.put("fedper", MIDDLE, provenance={"samples": "bbbb"})
    setting.put("local", LOW)
    results = setting.results
    found = compare(results.cells, "pFedHN")
    assert str(found["FedPer"]).endswith("with seed 42 the two were made of other samples of the data set")
    assert "is best" not in setting.answer
    assert "runs were made with different samples: aaaa, bbbb" in results.warnings
    assert not hasattr(found["Local"], "reason"), "older results do not say what they were made of"


def test_titles_that_look_like_names_told_apart_are_told_apart_again(setting: Fill) -> None:
    setting.put("fedavg", HIGH)
    setting.put("my-avg", MIDDLE, title="FedAvg")
    setting.put("x-avg", LOW, title="FedAvg [fedavg]")
    results = setting.results
    assert len(results.cells) == 3
    assert {title: row[0].value for title, row in ranking(results, "client mean").rows} == {
        "FedAvg [fedavg] [fedavg]": pytest.approx(88.333, abs=1e-3),
        "FedAvg [my-avg]": pytest.approx(66.667, abs=1e-3),
        "FedAvg [fedavg] [x-avg]": pytest.approx(45.0),
    }
