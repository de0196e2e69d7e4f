"""Per-FedAvg against closed forms and the chain rule. Letters: w a model, g a gradient, H a Hessian, D a batch."""

from __future__ import annotations

import pytest
import torch
from tiny import (
    HUGE,
    W0,
    close,
    flat,
    quadratic,
    rng,
    rows,
    same,
)
from torch import Tensor

from fedbench.local import SGD
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.per_fedavg import PerFedAvg
from fedbench.task import Task
from fedbench.tree import Tree


def test_per_fedavg_without_adaptation_is_fedavg_on_the_query_batches(task: Task) -> None:
    """a = 0: u = w, so w <- w - b g(w; D'). Every second batch is a D'. The personal model is w."""
    batches, local = rows(8), SGD(lr=0.1, steps=4)
    method, reference = PerFedAvg(task=task, local=local, alpha=0.0), FedAvg(task=task, local=local)
    model = method.server_init(rng())
    same(model, reference.server_init(rng()))
    close(method.client_train(model, {}, batches)[0], reference.client_train(model, {}, batches[1::2])[0])
    same(method.client_personalize(model, {}, batches[:1]), model)
    for variant in ("exact", "hf"):
        other = PerFedAvg(task=task, local=local, alpha=0.0, variant=variant)
        close(other.client_train(model, {}, rows(12))[0], reference.client_train(model, {}, rows(12)[1::3])[0])


@pytest.mark.parametrize("variant", ["fo", "exact", "hf"])
def test_per_fedavg_step_on_a_quadratic(variant: str) -> None:
    """g(w; D) = A w - b and H(w; D) = A. With (A, b), (A', b'), (A'', b'') of the three batches,

    u = w - a (A w - b),  v = A' u - b',  fo: w - lr v,  exact: w - lr (I - a A'') v,  and hf equals exact, for the
    central difference of a linear function is exact: [g(w + d v) - g(w - d v)] / (2 d) = A'' v.
    """
    task, w, alpha, lr = quadratic(), flat(W0), 0.07, 0.2
    local = SGD(lr=lr, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=1)
    method = PerFedAvg(task=task, local=local, variant=variant, alpha=alpha)
    batches = rows(method.batches_per_step)
    (a1, b1), (a2, b2), (a3, _) = [(task.a[r].mean(0), task.b[r].mean(0)) for r in rows(3)]
    assert torch.equal(batches, rows(3)[: len(batches)])
    v = a2 @ (w - alpha * (a1 @ w - b1)) - b2
    expected = w - lr * (v if variant == "fo" else v - alpha * (a3 @ v))
    upload, _ = method.client_train(W0, {}, batches)
    assert torch.allclose(flat(upload), expected, rtol=0, atol=1e-11 if variant == "hf" else 1e-14)
    personal = method.client_personalize(W0, {}, batches[:1])
    assert torch.allclose(flat(personal), w - alpha * (a1 @ w - b1), rtol=0, atol=1e-14)


def test_per_fedavg_exact_is_the_gradient_of_the_adapted_loss(plain_task: Task) -> None:
    """With D = D' = D'', (I - a H(w)) g(w - a g(w)) is the gradient of f(w - a g(w)) by the chain rule, H symmetric."""
    method = PerFedAvg(task=plain_task, variant="exact", alpha=0.3)
    model, batch = plain_task.init(rng()), rows(1)[0]

    def adapted(w: Tree) -> Tensor:
        gradient = torch.func.grad(plain_task.loss)(w, batch)
        return plain_task.loss({name: w[name] - 0.3 * gradient[name] for name in w}, batch)

    close(method.meta_gradient(model, batch.expand(3, -1)), torch.func.grad(adapted)(model))
