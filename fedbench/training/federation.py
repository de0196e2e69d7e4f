"""The clients of a run and their rows: what the engine holds and a method never sees.

Letters: N clients, M samples, c channels, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedbench.dataset import Data
from fedbench.partitions import Partition


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The rows of some clients: training rows number the images of the method's task, held-out rows `images`."""

    ids: range
    train: Sequence[np.ndarray]  # int64 [m_i] for every client
    validation: Sequence[Tensor]  # int64 [.]
    test: Sequence[Tensor]
    images: Tensor  # [., c, h, w] uint8, the held-out ones
    labels: Tensor
    network: Sequence[int] = ()  # which of the task's networks each client has; empty: all have the first

    def network_of(self, client: int) -> int:
        """The place of the client's network among `task.networks`."""
        return self.network[client - self.ids.start] if self.network else 0


def federate(
    data: Data, partition: Partition, ids: range, device: torch.device, network: Sequence[int] = ()
) -> tuple[Tensor, Tensor, Clients]:
    """The training images [M, c, h, w] and labels [M] of the clients `ids`, and the clients.

    All are copies: `data` need not stay in memory, and no method can reach a held-out row. `network` says which
    network each of the partition's clients has.
    """
    chosen = [[part[i] for i in ids] for part in (partition.train, partition.validation, partition.test)]
    rows, train = _joined(chosen[0])
    held_out, places = _joined([*chosen[1], *chosen[2]])
    clients = Clients(
        ids=ids,
        train=[mine.numpy() for mine in train],
        validation=[mine.to(device) for mine in places[: len(ids)]],
        test=[mine.to(device) for mine in places[len(ids) :]],
        images=data.images[held_out].contiguous().to(device),
        labels=data.labels[held_out].to(device),
        network=[network[i] for i in ids] if network else (),
    )
    return data.images[rows].contiguous().to(device), data.labels[rows].to(device), clients


def _joined(rows: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """All `rows` behind one another, and for each of them where it stands then."""
    together = torch.cat(list(rows))
    return together, torch.split(torch.arange(len(together)), [len(mine) for mine in rows])
