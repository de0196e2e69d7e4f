"""The effort that is recorded beside the visits: steps, gradient evaluations, and those that personalize; exact."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import finished, problem

VISITS, CLIENTS, STEPS = 12, 6, 3


@pytest.mark.parametrize(
    ("method", "settings", "steps", "gradients", "personalize"),
    [
        ("fedavg", {}, STEPS, STEPS, 0),
        ("fedavg-ft", {"tuning.steps": 7}, STEPS, STEPS, 7),
        ("fedper", {}, STEPS, STEPS, 0),
        ("lg-fedavg", {}, STEPS, STEPS, 0),
        ("local", {}, STEPS, STEPS, 0),
        ("pfedhn", {}, STEPS, STEPS, 0),
        ("pfedhn-pc", {}, STEPS, STEPS, 0),
        ("per-fedavg", {"variant": "fo"}, STEPS, 2 * STEPS, 1),  # at w for the inner step, at u for the outer
        ("per-fedavg", {"variant": "exact"}, STEPS, 4 * STEPS, 1),  # and a product with the Hessian, which is two
        ("per-fedavg", {"variant": "hf"}, STEPS, 4 * STEPS, 1),  # and two for the central difference
        ("pfedme", {"inner_steps": 5}, 5 * STEPS, 5 * STEPS, 5 * STEPS),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_steps_and_gradients_of_every_method(
    method: str, settings: dict[str, Any], steps: int, gradients: int, personalize: int
) -> None:
    """12 visits to 6 clients; every look personalizes all six, and is not counted as training."""
    progress = finished(problem(method, {"local.steps": STEPS, **settings}))
    assert [row["visits"] for row in progress.history][-1] == VISITS
    for row in progress.history:
        assert row["steps"] == row["visits"] * steps
        assert row["gradients"] == row["visits"] * gradients
        assert row["personalize_gradients"] == CLIENTS * personalize
    assert progress.improvements[-1]["gradients"] == progress.improvements[-1]["visits"] * gradients
