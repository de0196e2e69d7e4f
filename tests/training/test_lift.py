"""Lifting over a cohort whose clients keep different things: `vmap` makes of it what the loop makes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from small_runs import problem
from torch import Tensor

from fedbench.methods.fedavg import FedAvg
from fedbench.training import Engine, Keep, Progress
from fedbench.training.lift import lift
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class LateKeeper(FedAvg):
    """FedAvg whose clients have nothing at their first visit, a count at their second, and then a bias as well.

    Most cohorts so hold clients of two or three kinds, and what a client has changes what it uploads.
    """

    title = "Late"
    paper = "none"

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        name = self.task.head[-1]
        if "kept" in state:
            message = {**message, name: (message[name] + state["kept"]) / 2}
        upload, _ = super().client_train(message, {}, batches)
        if not state:
            return upload, {"visits": torch.ones(())}
        return upload, {"visits": state["visits"] + 1, "kept": upload[name]}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        name = self.task.head[-1]
        return {**message, name: message[name] + state["kept"]} if "kept" in state else message


def run(width: int) -> Progress:
    """20 visits of 6 clients, 4 a round: some clients are at their third visit while others are at their first."""
    engine = problem("fedavg", dtype="float64", width=width, visits=20, evaluate_every=4).engine
    method = LateKeeper(task=engine.method.task, local=engine.method.local, clients_per_round=4)
    engine = Engine(method, engine.clients, engine.schedule, engine.seed)
    progress = engine.start()
    assert engine.run(progress, Keep(), lambda _: False)
    return progress


@pytest.mark.parametrize("width", [2, 4])
def test_clients_that_keep_different_things_are_lifted_in_groups(width: int) -> None:
    loop, lifted = run(1), run(width)
    assert sum(float(state["visits"]) for state in loop.clients.values()) == 20
    for a, b in zip(loop.history, lifted.history, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-9)
    assert loop.clients.keys() == lifted.clients.keys()
    for client, state in loop.clients.items():
        assert state.keys() == lifted.clients[client].keys()
        for name, value in state.items():
            torch.testing.assert_close(value, lifted.clients[client][name], rtol=1e-10, atol=1e-12)


def test_groups_keep_the_order_of_the_cohort() -> None:
    """Clients 0, 2, 3 keep nothing, 1 and 4 a number; batches differ in size. Answers come in the cohort's order."""
    states: list[Tree] = [{}, {"k": torch.tensor(10.0)}, {}, {}, {"k": torch.tensor(40.0)}]
    message = {"w": torch.arange(5.0)}
    batches = [torch.full((1, size), size) for size in (1, 2, 3, 4, 5)]

    def function(message: Tree, state: Tree, rows: Tensor) -> Tensor:
        return message["w"] + state.get("k", torch.tensor(100.0)) + 1000 * torch.where(rows < 0, 0, rows).sum()

    expected = [i + (states[i].get("k", torch.tensor(100.0))) + 1000 * (i + 1) ** 2 for i in range(5)]
    for width in (1, 2, 3, 8):
        assert torch.stack(lift(function, message, states, batches, width)).tolist() == [float(x) for x in expected]


def test_uploads_that_do_not_fit_are_refused() -> None:
    """A client that uploads nothing at its second visit, first in the cohort, must not swallow what others upload."""

    class Silent(FedAvg):
        title = "Silent"
        paper = "none"

        def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
            return ({} if state else message), {"met": torch.ones(())}

    engine = problem("fedavg").engine
    engine = Engine(Silent(task=engine.method.task), engine.clients, engine.schedule, engine.seed)
    progress = engine.start()
    engine.visit(progress, [0], 0)
    with pytest.raises(ValueError, match=r"trees 0 and 1 cannot be stacked: 'fc1\.bias' is absent in the one"):
        engine.visit(progress, [0, 1], 1)
