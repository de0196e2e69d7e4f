"""What a visit of each method sends: closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    rng,
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
from fedbench.models import lenet
from fedbench.task import Task
from fedbench.training import Clients, Engine, Keep, Schedule

THETA, BODY, HEAD = 4 * 121_182, 4 * 120_332, 4 * 850  # bytes of the LeNet of 16 kernels for CIFAR-10 in float32


@pytest.mark.parametrize(
    ("cls", "settings", "each_way", "welcome"),
    [
        (FedAvg, {}, [THETA, THETA], 0),
        (FedAvgFT, {}, [THETA, THETA], 0),
        (PerFedAvg, {}, [THETA, THETA], 0),
        (PFedMe, {}, [THETA, THETA], 0),
        (PFedHN, {}, [THETA, THETA], 0),
        (PFedHNPC, {}, [BODY, BODY], 0),
        (FedPer, {}, [BODY, BODY], 0),
        (FedPer, {"personal_layers": 2}, [BODY - 4 * 10_164] * 2, 0),
        (LGFedAvg, {"fedavg_share": 0.5}, [THETA, HEAD], BODY),
        (LGFedAvg, {"fedavg_share": 0.5, "variant": "code"}, [THETA, 4 * (1216 + 12_832)], THETA - 4 * 14_048),
        (Local, {}, [0, 0], 0),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_bytes_of_a_visit(cls: type[Method], settings: dict[str, Any], each_way: list[int], welcome: int) -> None:
    """Two rounds of two clients; message and upload are each the model or its shared part, 969,456 both ways.

    A client that joins LG-FedAvg after the FedAvg part is sent the local layers once.
    """
    assert 2 * THETA == 969_456
    images = torch.randint(256, (40, 3, 32, 32), generator=rng(), dtype=torch.uint8)
    mean = torch.full((3, 1, 1), 0.5)
    task = Task(
        network=lenet((3, 32, 32), 10, 16),
        images=images,
        labels=torch.arange(40) % 10,
        mean=mean,
        std=mean,
        clients=2,
        classes=10,
    )
    clients = Clients(
        ids=range(2),
        train=[np.arange(10), np.arange(10, 20)],
        validation=[torch.tensor([20]), torch.tensor([21])],
        test=[torch.tensor([22]), torch.tensor([23])],
        images=images,
        labels=task.labels,
    )
    local = SGD(steps=1, batch_size=2)
    method = cls(task=task, local=local, clients_per_round=2, **settings)
    engine = Engine(method, clients, Schedule(visits=4, evaluate_every=2), seed=1)
    progress = engine.start()
    engine.run(progress, Keep(server=False), lambda _: False)
    start, one, two = progress.history
    assert start["bytes_down"] == start["bytes_up"] == start["bytes_welcome"] == 0
    for row, past in ((one, start), (two, one)):
        expected = 2 * each_way[row["round"] - 1]
        assert row["bytes_down"] - past["bytes_down"] == row["bytes_up"] - past["bytes_up"] == expected
    assert progress.bytes_welcome == 2 * welcome
