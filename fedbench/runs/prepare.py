"""From a spec to something an engine can run: data, partition, task, method."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from fedbench import plugins
from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.models import Network
from fedbench.partitions import Partition, split
from fedbench.plugins import Networks, Plugin
from fedbench.runs import mapped
from fedbench.storage.spec import Spec
from fedbench.task import Task
from fedbench.training import Clients, Engine, Schedule, federate

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Problem:
    """A run that is ready to go. `unseen` is the engine of the clients that join later, if there are any."""

    spec: Spec
    partition: Partition
    engine: Engine
    unseen: Engine | None


# the samples that were loaded last, their fingerprint, and whether they come from a file
_loaded: dict[tuple[str, Path, Path | None], tuple[Data, str, bool]] = {}


def _load(where: str, root: Path) -> tuple[Data, str, bool]:
    plugin = plugins.find_dataset(where)
    key = where, root, mapped.place(plugin, root)  # another file is known by another place
    found = _loaded.get(key)
    if found is None:
        found = (*mapped.load(plugin, root), bool(plugin.cls.cached))
        _loaded.clear()  # a worker of a cluster may be asked for its samples while it runs a job
        _loaded[key] = found
    return found


def load_data(where: str, root: Path) -> Data:
    """The samples of the data set found by `where`; in memory once for all processes, where they come from a file."""
    return _load(where, root)[0]


def forget_data() -> None:
    """Let the samples go that were loaded last, where they come from a file: another run maps them again."""
    if any(from_file for _, _, from_file in list(_loaded.values())):
        _loaded.clear()


def data_fingerprint(where: str, root: Path) -> str:
    """What the samples of a data set, as they are loaded now, are known by on other machines."""
    return _load(where, root)[1]


def samples_here(where: str, root: Path) -> str | None:
    """The fingerprint of the samples of a data set as they are now; None where they are not there, or cannot be read.

    None also for samples that come with a package, as those of `digits` do.
    """
    plugin = plugins.find_dataset(where)
    if plugin.cls.cached:
        place = mapped.place(plugin, root)
        return None if place is None else _fingerprint(where, root, place)
    if plugin.cls.__module__.startswith("fedbench."):
        return None
    with contextlib.suppress(BadInput):  # a plug-in's own, which may read them from wherever it likes
        return data_fingerprint(where, root)
    return None


@lru_cache(maxsize=16)
def _fingerprint(where: str, root: Path, _place: Path) -> str | None:
    """It is looked at again where another file has another place; nothing is written, for whoever asks only looks."""
    try:
        return mapped.look(plugins.find_dataset(where), root)
    except BadInput:
        return None


def image_shape(data: Data) -> tuple[int, int, int]:
    """Channels, height and width of one image."""
    channels, height, width = data.images.shape[1:]
    return channels, height, width


def make_network(plugin: Plugin, data: Data) -> Network:
    """The network for the images of `data`. Raises BadInput where they are too small for its poolings."""
    return plugins.network(plugin, image_shape(data), data.classes)


def make_partition(where: str, root: Path, partition: str, clients: int, seed: int) -> Partition:
    """Who holds which rows. `partition` is a text that finds its kind, by name or file."""
    return _partition(where, root, data_fingerprint(where, root), partition, clients, seed)


@lru_cache(maxsize=2)
def _partition(where: str, root: Path, fingerprint: str, partition: str, clients: int, seed: int) -> Partition:
    """A partition of samples with that `fingerprint`: their file may become another one while a process lives."""
    dataset, data = plugins.find_dataset(where).cls, load_data(where, root)
    kind = plugins.parse_partition(partition, dataset)
    with plugins.guarded(f"the partition {partition!r}", f"cannot be made for {clients} clients"):
        return split(data, kind, clients, seed, dataset.validation_rows)


def refresh() -> None:
    """Read again what may be another one now: plug-in files that were edited, partitions, samples of no npz file."""
    _partition.cache_clear()  # a plug-in may read who holds what from wherever it likes
    if plugins.refresh():
        _loaded.clear()
    if not all(from_file for _, _, from_file in list(_loaded.values())):
        _loaded.clear()


def try_out(spec: Spec, method: Plugin, networks: Networks, data: Data) -> None:
    """Set a method up for each of the networks, and no more.

    Raises BadInput where it refuses its hyperparameters, and for a network that only unseen clients have.
    """
    _places(spec, networks)
    built = tuple(make_network(plugin, data) for plugin in networks.distinct)
    for network in built:
        task = Task(
            network=network,
            networks=built,
            images=data.images,
            labels=data.labels,
            mean=torch.tensor(data.mean)[:, None, None],
            std=torch.tensor(data.std)[:, None, None],
            clients=spec.clients - spec.novel_clients,
            classes=data.classes,
        )
        plugins.build(method, task, spec.params)


def _places(spec: Spec, networks: Networks) -> list[int]:
    """For each client the place of its network; empty where there is one. Raises BadInput for an untrained network."""
    if len(networks.distinct) == 1:
        return []
    places, trained = networks.places(spec.seed), spec.clients - spec.novel_clients
    for client in range(trained, spec.clients):
        if places[client] not in places[:trained]:
            raise BadInput(
                f"the network {networks.distinct[places[client]].name} of the unseen client {client} is that of no "
                f"training client (they are the first {trained}), so that no server learns anything for it: give it to "
                "one of them, or hold out fewer clients"
            )
    return places


def prepare(
    spec: Spec,
    method: Plugin,
    dataset: Plugin,
    root: Path,
    device: torch.device | None = None,
    *,
    networks: Networks | None = None,
    partition: str | None = None,
) -> Problem:
    """Everything for the run `spec`. Raises BadInput where the spec cannot be run.

    `networks` and `partition` (a text) stand in for what the spec names where that comes from files.
    """
    device = device or torch.device(spec.device)
    data = load_data(dataset.where, root)
    trained = spec.clients - spec.novel_clients
    if trained < 1:
        raise BadInput(f"{spec.novel_clients} unseen clients of {spec.clients} leave none to train on: ask for fewer")
    dealt = make_partition(dataset.where, root, partition or spec.partition, spec.clients, spec.seed)
    networks = networks or plugins.parse_networks(spec.network, spec.clients)
    built = tuple(make_network(plugin, data) for plugin in networks.distinct)
    places = _places(spec, networks)
    dtype = DTYPES[spec.dtype]

    def engine(ids: range) -> Engine:
        images, labels, clients = federate(data, dealt, ids, device, places)
        tasks = [
            Task(
                network=network,
                networks=built,
                images=images,
                labels=labels,
                mean=torch.tensor(data.mean, dtype=dtype, device=device)[:, None, None],
                std=torch.tensor(data.std, dtype=dtype, device=device)[:, None, None],
                clients=trained,
                classes=data.classes,
                plain=spec.width > 1,
            )
            for network in built
        ]
        schedule = Schedule(
            visits=spec.visits, evaluate_every=spec.evaluate_every, adapt_visits=spec.adapt_visits, width=spec.width
        )
        return Engine([plugins.build(method, task, spec.params) for task in tasks], clients, schedule, spec.seed)

    unseen = engine(range(trained, spec.clients)) if spec.novel_clients else None
    return Problem(spec, dealt, engine(range(trained)), unseen)


__all__ = [
    "Clients",
    "Problem",
    "data_fingerprint",
    "forget_data",
    "image_shape",
    "load_data",
    "make_network",
    "make_partition",
    "prepare",
    "refresh",
    "samples_here",
    "try_out",
]
