"""From a spec to something an engine can run: data, partition, task, method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fedbench import registry
from fedbench.dataset import Data
from fedbench.engine import Clients, Engine, Schedule
from fedbench.errors import BadInput
from fedbench.method import Method
from fedbench.models import network
from fedbench.partition import Partition, parse_partition, split
from fedbench.registry import Plugin
from fedbench.spec import Spec
from fedbench.task import Task

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Problem:
    """A run that is ready to go. `unseen` is the method and the clients of the adaptation phase, if there is one."""

    spec: Spec
    partition: Partition
    method: Method
    engine: Engine
    unseen: tuple[Method, Clients] | None


@lru_cache(maxsize=1)
def load_data(where: str, root: Path) -> Data:
    """The samples of the data set found by `where`, loaded once a process."""
    data: Data = registry.find_dataset(where).cls().load(root)
    return data


def image_shape(data: Data) -> tuple[int, int, int]:
    """Channels, height and width of one image."""
    channels, height, width = data.images.shape[1:]
    return channels, height, width


@lru_cache(maxsize=2)
def make_partition(where: str, root: Path, partition: str, clients: int, seed: int) -> Partition:
    """Who holds which rows."""
    dataset, data = registry.find_dataset(where).cls, load_data(where, root)
    return split(data, parse_partition(partition, dataset), clients, seed, dataset.validation_rows)


def _federation(data: Data, partition: Partition, ids: range, device: torch.device) -> tuple[Tensor, Tensor, Clients]:
    """The training images and labels of the clients `ids`, and the clients, whose held-out images are others.

    Both are copies, so that `data` need not stay in memory, and no method can reach a held-out row.
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
    )
    return data.images[rows].contiguous().to(device), data.labels[rows].to(device), clients


def _joined(rows: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """All `rows` behind one another, and for each of them where it stands then."""
    together = torch.cat(list(rows))
    return together, torch.split(torch.arange(len(together)), [len(mine) for mine in rows])


def prepare(spec: Spec, method: Plugin, dataset: Plugin, root: Path, device: torch.device | None = None) -> Problem:
    """Everything for the run `spec`. Raises BadInput where the spec cannot be run."""
    device = device or torch.device(spec.device)
    data = load_data(dataset.where, root)
    trained = spec.clients - spec.novel_clients
    if trained < 1:
        raise BadInput(f"{spec.novel_clients} unseen clients of {spec.clients} leave none to train on: ask for fewer")
    partition = make_partition(dataset.where, root, spec.partition, spec.clients, spec.seed)
    dtype = DTYPES[spec.dtype]

    def task_and_clients(ids: range) -> tuple[Task, Clients]:
        images, labels, clients = _federation(data, partition, ids, device)
        task = Task(
            network=network(spec.network, image_shape(data), data.classes),
            images=images,
            labels=labels,
            mean=torch.tensor(data.mean, dtype=dtype, device=device)[:, None, None],
            std=torch.tensor(data.std, dtype=dtype, device=device)[:, None, None],
            clients=trained,
            classes=data.classes,
            plain=spec.width > 1,
        )
        return task, clients

    task, clients = task_and_clients(range(trained))
    schedule = Schedule(
        visits=spec.visits, evaluate_every=spec.evaluate_every, adapt_visits=spec.adapt_visits, width=spec.width
    )
    built = registry.build(method, task, spec.params)
    engine = Engine(built, clients, schedule, spec.seed)
    unseen = None
    if spec.novel_clients:
        task, clients = task_and_clients(range(trained, spec.clients))
        unseen = (registry.build(method, task, spec.params), clients)
    return Problem(spec, partition, built, engine, unseen)
