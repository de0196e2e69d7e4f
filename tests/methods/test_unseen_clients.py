"""What changes, method by method, when unseen clients join a trained server."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny import (
    SMALL,
    N,
    federation,
    make_task,
    run,
    same,
)

from fedbench.local import SGD
from fedbench.method import Method
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.fedavg_ft import FedAvgFT
from fedbench.methods.fedper import FedPer
from fedbench.methods.lg_fedavg import LGFedAvg
from fedbench.methods.local import Local
from fedbench.methods.per_fedavg import PerFedAvg
from fedbench.methods.pfedhn import PFedHN
from fedbench.methods.pfedhn_pc import PFedHNPC
from fedbench.methods.pfedme import PFedMe
from fedbench.training import Engine, Progress, adapt
from fedbench.tree import Tree


class Watch:
    """Engine.models and the server's functions, recorded while unseen clients adapt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
        self.models: list[list[Tree]] = []
        self.servers: list[Any] = []
        cls, models, receive = type(method), Engine.models, type(method).server_receive

        def watched_models(engine: Engine, *args: Any) -> list[Tree]:
            made = list(models(engine, *args))
            self.models.append(made)
            return made

        def watched_receive(method: Method, *args: Any) -> Any:
            self.servers.append(receive(method, *args))
            return self.servers[-1]

        monkeypatch.setattr(Engine, "models", watched_models)
        monkeypatch.setattr(cls, "server_receive", watched_receive)


def adapted(method: Method, monkeypatch: pytest.MonkeyPatch) -> tuple[Progress, Watch]:
    """`method` trained, then two unseen clients visited four times each."""
    engine, progress = run(method, adapt_visits=4)
    watch = Watch(monkeypatch, method)
    unseen = Engine(method, federation(method.task, first=N, count=2), engine.schedule, engine.seed)
    adapt(progress.best_server, unseen, engine.rounds)
    return progress, watch


LOCAL = SGD(steps=2, batch_size=4, lr=0.05)


def changed(a: Tree, b: Tree) -> set[str]:
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_unseen_clients_of_pfedhn_train_fresh_embeddings_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("mlp")
    progress, watch = adapted(PFedHN(task=task, local=LOCAL, hypernetwork=SMALL), monkeypatch)
    before = progress.best_server
    assert len(watch.servers) == 8
    for after in watch.servers:
        same(after["phi"], before["phi"])
        assert torch.equal(after["embedding"][:N], before["embedding"])
        assert after["momentum"].keys() == {"embedding"}
        assert after["momentum"]["embedding"].shape == (2, 3)
    tables = [after["embedding"][N:] for after in watch.servers]
    assert all(not torch.equal(a, b) for a, b in pairwise(tables))


def test_unseen_clients_of_pc_train_embedding_and_own_head(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("mlp")
    progress, watch = adapted(PFedHNPC(task=task, local=LOCAL, hypernetwork=SMALL), monkeypatch)
    for after in watch.servers:
        same(after["phi"], progress.best_server["phi"])
        assert torch.equal(after["embedding"][:N], progress.best_server["embedding"])
    for client in range(2):
        assert changed(watch.models[0][client], watch.models[-1][client]) == set(task.network.shapes)


@pytest.mark.parametrize(("cls", "moves"), [(FedPer, "head"), (LGFedAvg, "body"), (Local, "all")])
def test_unseen_clients_fit_only_what_they_keep(cls: type[Method], moves: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FedPer keeps the head, LG-FedAvg the body (begun at the server's), Local everything; the rest is the server's."""
    task = make_task("mlp")
    progress, watch = adapted(cls(task=task, local=LOCAL), monkeypatch)
    expected = {"head": set(task.head), "body": set(task.body), "all": set(task.network.shapes)}[moves]
    assert watch.servers == []
    assert len(watch.models) == 5
    for client in range(2):
        assert changed(watch.models[0][client], watch.models[-1][client]) == expected
        for models in watch.models:
            same(
                {name: value for name, value in models[client].items() if name not in expected},
                {name: progress.best_server[name] for name in task.network.shapes if name not in expected},
            )
    if cls is LGFedAvg:
        same(watch.models[0][0], {name: progress.best_server[name] for name in watch.models[0][0]})


@pytest.mark.parametrize("cls", [FedAvg, FedAvgFT, PerFedAvg, PFedMe])
def test_unseen_clients_of_one_shared_model_change_nothing(cls: type[Method], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is not told of them and they keep nothing: they are scored once, at what their own rows make of w."""
    task = make_task("mlp")
    progress, watch = adapted(cls(task=task, local=LOCAL), monkeypatch)
    assert watch.servers == []
    assert len(watch.models) == 1
    if cls is FedAvg:
        for model in watch.models[0]:
            same(model, progress.best_server)
