"""The identity of a run: pinned, and moved by every field that decides numbers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fedbench.storage.spec import SEEDS, Spec, seed_list

FIXED: dict[str, Any] = {
    "method": "pfedhn",
    "params": {"hypernetwork.lr": 0.01, "local.steps": 50, "variant": "paper", "flag": True, "none": None},
    "dataset": "cifar10",
    "network": "lenet",
    "partition": "classes:per_client=2,spare=1,low=0.4,high=0.6,seeding=keyed",
    "clients": 50,
    "seed": 42,
    "visits": 5000,
    "evaluate_every": 50,
}
OTHER = {
    "method": "fedavg",
    "params": {**FIXED["params"], "local.steps": 51},
    "dataset": "cifar100",
    "network": "lenet-8",
    "partition": "iid",
    "clients": 51,
    "novel_clients": 1,
    "adapt_visits": 1,
    "seed": 43,
    "visits": 5001,
    "evaluate_every": 51,
    "width": 2,
    "device": "cuda",
    "dtype": "float64",
}


def test_identity_and_family_of_a_fixed_spec() -> None:
    """They name result files: a change makes every stored result one of another run."""
    spec = Spec(**FIXED)
    assert spec.identity == "60b82d84e7358937"
    assert spec.family == "768cd3f3329c887a"


@pytest.mark.parametrize("field", Spec.model_fields)
def test_every_field_moves_the_identity_and_all_but_the_visits_the_family(field: str) -> None:
    spec, other = Spec(**FIXED), Spec(**{**FIXED, field: OTHER[field]})
    assert other.identity != spec.identity
    assert (other.family == spec.family) == (field == "visits")


def test_the_order_of_hyperparameters_is_no_part_of_it() -> None:
    assert Spec(**{**FIXED, "params": dict(reversed(FIXED["params"].items()))}).identity == Spec(**FIXED).identity


@pytest.mark.parametrize("change", [{"clients": 0}, {"visits": 0}, {"evaluate_every": 0}, {"seed": -1}, {"seed": 1.0}])
def test_numbers_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Spec(**{**FIXED, **change})


def test_the_seeds() -> None:
    """Those of the official sweep first, and each seed once."""
    assert seed_list(5) == [42, 27, 13, 0, 1]
    assert seed_list(2) == list(SEEDS[:2])
    assert len(set(seed_list(100))) == 100
