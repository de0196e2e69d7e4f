"""LG-FedAvg goes on from what FedAvg reached."""

from __future__ import annotations

import torch
from tiny import (
    close,
    run,
    same,
)

from fedbench.local import SGD
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.lg_fedavg import LGFedAvg
from fedbench.task import Task


def test_lg_goes_on_from_what_fedavg_reached(task: Task) -> None:
    """The last of 3 rounds is LG's (share 2/3): the local layers then start at FedAvg's, and only the head is averaged.

    From the same w and batches a full local step is FedAvg's step, so the averaged global layers equal FedAvg's third
    round, the server's local layers stay at the second, and the clients' local layers average to the third.
    """
    settings = {"task": task, "local": SGD(steps=3, batch_size=5), "clients_per_round": 3}
    _, two = run(FedAvg(**settings), visits=6)
    _, three = run(FedAvg(**settings), visits=9)
    engine, progress = run(LGFedAvg(**settings, fedavg_share=2 / 3), visits=9)
    method = engine.method
    assert isinstance(method, LGFedAvg)
    assert set(method.local_names) == set(task.body)
    same({k: progress.server[k] for k in task.head}, {k: three.server[k] for k in task.head})
    same({k: progress.server[k] for k in task.body}, {k: two.server[k] for k in task.body})
    counts = {i: float(len(engine.clients.train[i])) for i in progress.clients}
    mean = {
        k: torch.stack([counts[i] * progress.clients[i][k] for i in counts]).sum(0) / sum(counts.values())
        for k in method.local_names
    }
    close(mean, {k: three.server[k] for k in method.local_names})
