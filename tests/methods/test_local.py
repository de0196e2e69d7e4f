"""Local is each client alone."""

from __future__ import annotations

from tiny import (
    close,
    module,
    put,
    rng,
    rows,
    take,
    torch_sgd,
)

from fedbench.methods.local import Local
from fedbench.task import Task


def test_local_is_each_client_alone(task: Task) -> None:
    """Two visits of a client with `torch.optim.SGD`, its optimizer new at each; the server hears nothing."""
    method = Local(task=task)
    state = method.client_init({}, rng())
    net = module(task)
    put(net, state)
    for visit in range(2):
        upload, state = method.client_train({}, state, rows(3, seed=visit))
        torch_sgd(net, task, method.local, rows(3, seed=visit))
        assert upload == {}
        close(state, take(net, task))
