"""FedAvg is the textbook loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tiny import (
    close,
    cohort,
    module,
    put,
    rng,
    rows,
    run,
    same,
    take,
    torch_sgd,
)

from fedbench.local import SGD
from fedbench.method import Method
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.fedavg_ft import FedAvgFT
from fedbench.methods.fedper import FedPer
from fedbench.methods.lg_fedavg import LGFedAvg
from fedbench.task import Task


@pytest.mark.parametrize("max_norm", [50.0, 0.05])
def test_fedavg_is_the_textbook_loop(task: Task, max_norm: float) -> None:
    """Three rounds of two clients against `nn.Module`, `torch.optim.SGD` and `clip_grad_norm_`; 0.05 does clip.

    w <- 0.25 w_a + 0.75 w_b, where w_i is the result of K = 4 steps of client i from w with a new optimizer.
    """
    method = FedAvg(task=task, local=SGD(lr=0.1, weight_decay=1e-2, max_norm=max_norm))
    server = method.server_init(rng())
    net, expected = module(task), dict(server)
    for round_, ids in enumerate([(0, 1), (3, 0), (2, 1)]):
        clients = cohort(*ids, weight=[0.25, 0.75], round_=round_)
        sent = method.server_send(server, clients)
        uploads = [
            method.client_train({k: v[place] for k, v in sent.items()}, {}, rows(4, i, seed=round_))[0]
            for place, i in enumerate(ids)
        ]
        server = method.server_receive(server, clients, {k: torch.stack([u[k] for u in uploads]) for k in uploads[0]})
        trained = []
        for i in ids:
            put(net, expected)
            torch_sgd(net, task, method.local, rows(4, i, seed=round_))
            trained.append(take(net, task))
        expected = {name: 0.25 * trained[0][name] + 0.75 * trained[1][name] for name in expected}
        close(server, expected)


@pytest.mark.parametrize(
    "special",
    [
        partial(FedPer, personal_layers=0),
        lambda task, **others: LGFedAvg(task=task, global_layers=len(task.network.layers), **others),
        partial(LGFedAvg, fedavg_share=1.0),
        partial(FedAvgFT, tuning=SGD(lr=1e-300, momentum=0.0, weight_decay=0.0, steps=1)),
    ],
    ids=["fedper-nothing-personal", "lg-all-global", "lg-all-fedavg", "fedavg-ft-no-rate"],
)
def test_nothing_local_is_fedavg(task: Task, special: Callable[..., Method]) -> None:
    """Where nothing stays on the client, the same initial draw, batches and arithmetic: bit for bit FedAvg.

    FedAvg-FT trains as FedAvg whatever its tuning; with a rate that is lost to rounding its personal model is w too.
    """
    engine, progress = run(special(task=task, local=SGD(steps=3, batch_size=5)))
    reference, expected = run(FedAvg(task=task, local=SGD(steps=3, batch_size=5)))
    same(progress.server, expected.server)
    assert progress.clients == expected.clients == {}
    kept = ("bytes_down", "bytes_up", "bytes_welcome", "val_loss", "val_accuracy", "train_loss")
    for a, b in zip(progress.history, expected.history, strict=True):
        assert [a[key] for key in kept] == [b[key] for key in kept]
    for a, b in zip(engine.models(progress), reference.models(expected), strict=True):
        same(a, b)
