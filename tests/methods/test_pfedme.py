"""pFedMe against the closed forms of a quadratic. Letters: w a model, t a personal one."""

from __future__ import annotations

import torch
from tiny import (
    HUGE,
    W0,
    close,
    cohort,
    flat,
    quadratic,
    rng,
    rows,
    same,
)
from torch import Tensor

from fedbench.local import SGD
from fedbench.methods.pfedme import PFedMe
from fedbench.task import Task


def test_pfedme_with_unit_step_returns_the_local_solution(task: Task) -> None:
    """eta lam = 1: w_i <- w_i - (w_i - t) = t. The upload is the personal model, the server (beta = 1) their mean."""
    method = PFedMe(task=task, local=SGD(lr=0.05, momentum=0.0, steps=3), eta=0.25, lam=4.0)
    model = method.server_init(rng())
    upload, _ = method.client_train(model, {}, rows(3))
    personal = method.client_personalize(model, {}, rows(3))
    close(upload, personal, limit=1e-15)
    assert float((personal["fc1.weight"] - model["fc1.weight"]).abs().max()) > 1e-3
    stacked = {name: torch.stack([upload[name], 3 * upload[name]]) for name in upload}
    same(method.server_receive(model, cohort(0, 1), stacked), {name: 2 * value for name, value in upload.items()})


def test_pfedme_prox_steps_on_a_quadratic() -> None:
    """One batch: t_k - t* = (I - p (A + lam I))^k (t_0 - t*) with t* = (A + lam I)^-1 (b + lam w).

    For the gradient of t'A t / 2 - b't + lam |t - w|^2 / 2 is (A + lam I)(t - t*). Then w <- w - eta lam (w - t_k), and
    the next batch starts at this t and this w; the first one at t_0 = w.
    """
    task, lam, eta, p, k = quadratic(), 3.0, 0.1, 0.05, 4
    local = SGD(lr=p, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=2)
    method = PFedMe(task=task, local=local, lam=lam, eta=eta, inner_steps=k)
    w = t = flat(W0)
    for batch in rows(2):
        hessian = task.a[batch].mean(0) + lam * torch.eye(5, dtype=torch.float64)
        minimum = torch.linalg.solve(hessian, task.b[batch].mean(0) + lam * w)
        t = minimum + torch.linalg.matrix_power(torch.eye(5) - p * hessian, k) @ (t - minimum)
        w = w - eta * lam * (w - t)
    near, personal = method.solve(W0, rows(2))
    assert torch.allclose(flat(personal), t, rtol=0, atol=1e-13)
    assert torch.allclose(flat(near), w, rtol=0, atol=1e-13)
    assert method.steps_per_visit == 8


def test_pfedme_solved_to_the_end_moves_along_the_moreau_gradient() -> None:
    """With k large, t = t*, and w - w_i = eta lam (w - t*) = eta grad F(w), F(w) = min_t f(t) + lam / 2 |t - w|^2.

    The gradient of F is taken by autograd through the linear solve.
    """
    task, lam, eta = quadratic(), 3.0, 0.1
    local = SGD(lr=0.15, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=1)
    method = PFedMe(task=task, local=local, lam=lam, eta=eta, inner_steps=300)
    batch = rows(1)
    a, b = task.a[batch[0]].mean(0), task.b[batch[0]].mean(0)

    def envelope(w: Tensor) -> Tensor:
        t = torch.linalg.solve(a + lam * torch.eye(5, dtype=torch.float64), b + lam * w)
        return 0.5 * t @ a @ t - b @ t + lam / 2 * (t - w) @ (t - w)

    near, _ = method.solve(W0, batch)
    assert torch.allclose((flat(W0) - flat(near)) / eta, torch.func.grad(envelope)(flat(W0)), rtol=0, atol=1e-12)
