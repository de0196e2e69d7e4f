"""A linear hypernetwork reaches the uncentred truncated SVD, and nothing better is possible."""

from __future__ import annotations

import numpy as np
import pytest

from fedbench.reporting.paper.linear_theory import COORDINATES, Problem, centred, fit, problem, theorem


@pytest.mark.parametrize("seed", [42, 27, 13, 0])
def test_it_meets_the_theorem_at_every_rank(seed: int) -> None:
    made = problem(seed)
    losses = [fit(made, rank, seed) for rank in range(1, COORDINATES + 1)]
    np.testing.assert_allclose(losses, theorem(made), rtol=0, atol=1e-8)


def test_regressors_are_orthonormal_and_solutions_are_the_least_squares_ones() -> None:
    made = problem(3)
    for x, y, t in zip(made.x, made.y, made.solutions.T, strict=True):
        np.testing.assert_allclose(x.T @ x, np.eye(COORDINATES), atol=1e-12)
        np.testing.assert_allclose(np.linalg.lstsq(x, y, rcond=None)[0], t, atol=1e-12)


def test_the_theorem_is_a_lower_bound_and_centred_components_are_another_thing() -> None:
    """No model of rank k is better (Eckart and Young); at full rank only the noise is left, for both."""
    made, rng = problem(5), np.random.default_rng(0)
    bound = theorem(made)
    for rank in (1, 3, 7):
        for _ in range(20):
            w = rng.standard_normal((COORDINATES, rank))
            v = np.linalg.lstsq(w, made.solutions, rcond=None)[0]
            assert made.loss(w @ v) >= bound[rank - 1] - 1e-9
    assert made.loss(made.solutions) == pytest.approx(bound[-1])
    assert abs(centred(made)[0] - bound[0]) > 1


def test_it_needs_no_orthonormal_regressors_to_descend() -> None:
    """The fit is of the data, not of the formula: with full rank it ends at the least squares loss of any problem."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 9, 3)), rng.standard_normal((6, 9))
    least = sum(np.linalg.lstsq(a, b, rcond=None)[1][0] for a, b in zip(x, y, strict=True))
    assert fit(Problem(x, y), 3) == pytest.approx(least, rel=1e-9)
