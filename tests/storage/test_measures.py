"""Measures against values computed by hand, and the one place where they are computed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedbench import storage
from fedbench.storage import measures

TWO = storage.TestScores(correct=[5, 30], total=[10, 40], loss=[0.1, 0.2])


def test_pooled_and_client_mean_differ_where_clients_differ_in_size() -> None:
    """35 of 50 rows are 70 %; 50 % and 75 % are 62.5 % in the mean."""
    assert measures.pooled_accuracy(TWO) == pytest.approx(0.7)
    assert measures.client_accuracies(TWO) == pytest.approx([0.5, 0.75])
    assert measures.client_mean(measures.client_accuracies(TWO)) == pytest.approx(0.625)


def test_the_worst_tenth_is_a_mean_of_whole_clients() -> None:
    """One of 10 clients; one of 19; two of 20; the only one of one. A quantile would hardly see the one of ten."""
    ten = [1.0] * 9 + [0.924]
    assert measures.worst_tenth(ten) == pytest.approx(0.924)
    assert measures.worst_client(ten) == 0.924
    assert measures.worst_tenth([*[0.9] * 18, 0.1]) == pytest.approx(0.1)
    assert measures.worst_tenth([*[0.9] * 18, 0.1, 0.3]) == pytest.approx(0.2)
    assert measures.worst_tenth([0.4]) == 0.4


def test_spread_over_clients_has_one_denominator() -> None:
    """Of 0, 10, ..., 100: squares 2 (2500 + 1600 + 900 + 400 + 100) = 11000 over n - 1 = 10."""
    assert measures.client_std([10.0 * i for i in range(11)]) == pytest.approx(1100**0.5)
    assert measures.client_std([0.5]) == 0


def test_jain_index_by_hand() -> None:
    """(1 + 3)^2 / (2 (1 + 9)) = .8; one client of four with everything: 1/4."""
    assert measures.jain_index([1, 3]) == pytest.approx(0.8)
    assert measures.jain_index([0, 0, 1, 0]) == pytest.approx(0.25)
    assert measures.jain_index([0, 0]) == 1


def test_traffic_and_gradients_by_hand() -> None:
    from fedbench.storage import Row

    numbers = {"round": 2, "visits": 4, "steps": 8, "train_loss": 1.0, "val_loss": 1.0}
    traffic = {"bytes_down": 100, "bytes_up": 60, "bytes_welcome": 7}
    scores = {"val_accuracy": 0.5, "val_client_mean": 0.5}
    row = Row(**numbers, **traffic, **scores, gradients=16, personalize_gradients=30)  # type: ignore[arg-type]
    assert (measures.bytes_moved(row), measures.bytes_per_visit(row)) == (167, 40)
    assert (measures.gradients_per_visit(row), measures.gradients_per_personalization(row, 10)) == (4, 3)
    old = Row(**numbers, **traffic, **scores)  # type: ignore[arg-type]
    assert (measures.gradients_per_visit(old), measures.gradients_per_personalization(old, 10)) == (None, None)


def test_measures_need_neither_torch_nor_pandas() -> None:
    code = "import sys, fedbench.storage.measures; assert not {'torch', 'pandas', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
