"""A small synthetic federation, and the tools with which the checks look at a method in it.

Letters: N clients that train, C clients of a cohort, M samples, K steps, B batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedbench import plugins
from fedbench.method import Method
from fedbench.models import Network, lenet, mlp
from fedbench.plugins import Plugin
from fedbench.task import Task
from fedbench.training import Clients, Engine, Keep, Progress, Schedule
from fedbench.tree import Tree

CLASSES = 4
SIZES = (14, 5, 9, 20)  # training rows of the clients 0 .. N - 1; a batch of 8 is short on one of them
UNSEEN = (11, 7)  # of two more that join later
HELD_OUT = 40  # validation rows of a client, and as many test rows
SHORT = {"steps": 3, "batch_size": 8}  # what becomes of every `*.steps` and `*.batch_size`
CONTRACT = (
    "server_init",
    "server_send",
    "server_receive",
    "server_welcome",
    "server_admit",
    "client_init",
    "client_train",
    "client_personalize",
    "predict",
)


def leaves(value: Any) -> list[Any]:
    """The tensors and plain values inside nested dicts, lists and tuples."""
    return list(torch.utils._pytree.tree_leaves(value))


def clone(value: Any) -> Any:
    """A deep copy of nested dicts, lists and tuples of tensors."""
    return torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value)


def distance(a: Any, b: Any) -> float:
    """The largest difference of two nested values, relative where they are above 1; 0 only where all are equal.

    Infinite where names, shapes, types or plain values differ, and where one number is finite and the other is not.
    """
    (ones, shape), (twos, other) = torch.utils._pytree.tree_flatten(a), torch.utils._pytree.tree_flatten(b)
    if shape != other:
        return float("inf")
    largest = 0.0
    for x, y in zip(ones, twos, strict=True):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            if x.shape != y.shape or x.dtype != y.dtype:
                return float("inf")
            if x.numel():
                gap = (x.double() - y.double()).abs() / y.double().abs().clamp(min=1)
                gap = gap.masked_fill((x == y) | (x.isnan() & y.isnan()), 0.0)
                largest = max(largest, float(gap.nan_to_num(float("inf")).max()))
        elif x != y:
            return float("inf")
    return largest


def finite(value: Any) -> bool:
    """Whether all numbers inside of `value` are finite."""
    return all(bool(torch.isfinite(x).all()) for x in leaves(value) if isinstance(x, Tensor))


def rng(seed: int = 0) -> torch.Generator:
    """A torch generator."""
    return torch.Generator().manual_seed(seed)


def samples(count: int, labels: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Images [count, 1, 16, 16] uint8 and labels [count], `labels` in turn: a bright quarter, and noise."""
    draws = np.random.default_rng(seed)
    label = np.array([labels[i % len(labels)] for i in range(count)])
    images = draws.integers(0, 120, (count, 1, 16, 16))
    for i, y in enumerate(label):
        top, left = 8 * (y // 2), 8 * (y % 2)
        images[i, 0, top : top + 8, left : left + 8] += 130
    return torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(label)


@dataclass
class Call:
    """One call of a contract function: its arguments and its result as they were at that time."""

    name: str
    arguments: tuple[Any, ...]
    result: Any


class Watched:
    """A method whose contract functions are watched. `calls` is the record, `modified` what broke the purity."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.calls: list[Call] = []
        self.modified: list[str] = []
        self._alive: list[tuple[str, Any, Any]] = []  # what was returned, and a copy made then

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.method, name)
        return self._watch(name, value) if name in CONTRACT else value

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            # a generator is meant to move on
            before = clone([a for a in arguments if not isinstance(a, torch.Generator)])
            result = function(*arguments)
            after = [a for a in arguments if not isinstance(a, torch.Generator)]
            if distance(before, after) > 0:
                self.modified.append(f"an argument of {name}")
            self.calls.append(Call(name, tuple(before), clone(result)))
            self._alive.append((name, result, self.calls[-1].result))
            return result

        return watched

    def finish(self) -> None:
        """Look at everything that was ever returned once more."""
        for name, result, copy in self._alive:
            if distance(result, copy) > 0:
                self.modified.append(f"what {name} had returned")

    def results(self, name: str) -> list[Call]:
        """The calls of one contract function."""
        return [call for call in self.calls if call.name == name]


@dataclass
class Lab:
    """A method, and runs of it that several checks look at."""

    plugin: Plugin
    _cache: dict[str, Any] = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, made the first time that `key` is asked for."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def params(self, short: bool = True, **settings: object) -> dict[str, Any]:
        """The hyperparameters: the defaults, with short draws, and `settings` (only those that the method has)."""
        known = [h.name for h in plugins.hyperparameters(self.plugin.cls)]
        cut = {name: SHORT[last] for name in known if short and (last := name.rsplit(".", 1)[-1]) in SHORT}
        return plugins.configure(self.plugin, {**cut, **settings})

    def federation(self, sizes: Sequence[int], first: int, held_out: int) -> tuple[Tensor, Tensor, Clients]:
        """Training images and labels of the clients `first`, `first` + 1, ..., and the clients.

        Client i holds the classes i and i + 1 (modulo CLASSES). `held_out` is the seed of validation and test rows.
        """
        train = [samples(size, [i % CLASSES, (i + 1) % CLASSES], first + i) for i, size in enumerate(sizes, first)]
        ends = np.cumsum([0, *sizes])
        others = [
            samples(2 * HELD_OUT, [i % CLASSES, (i + 1) % CLASSES], 1000 * (held_out + 1) + i)
            for i in range(first, first + len(sizes))
        ]
        starts = [2 * HELD_OUT * i for i in range(len(sizes))]
        images = torch.cat([part for part, _ in train])
        clients = Clients(
            ids=range(first, first + len(sizes)),
            train=[np.arange(a, b) for a, b in pairwise(ends)],
            validation=[torch.arange(start, start + HELD_OUT) for start in starts],
            test=[torch.arange(start + HELD_OUT, start + 2 * HELD_OUT) for start in starts],
            images=torch.cat([part for part, _ in others]),
            labels=torch.cat([part for _, part in others]),
        )
        return images, torch.cat([part for _, part in train]), clients

    def engine(
        self,
        *,
        sizes: Sequence[int] = SIZES,
        unseen: bool = False,
        dtype: torch.dtype = torch.float32,
        plain: bool = False,
        convolutions: bool = False,
        held_out: int = 0,
        seed: int = 1,
        visits: int = 12,
        evaluate_every: int = 6,
        adapt_visits: int = 3,
        width: int = 1,
        short: bool = True,
        method: Method | None = None,
        watched: bool = False,
        **settings: object,
    ) -> Engine:
        """An engine on the training clients, or the `unseen` ones, with a fresh instance of the method.

        The cohorts are 2 clients unless `clients_per_round` is among the `settings`, or `short` is false.
        """
        first = len(sizes) if unseen else 0
        images, labels, clients = self.federation(UNSEEN if unseen else sizes, first, held_out)
        network: Network = (
            lenet((1, 16, 16), CLASSES, 2) if convolutions else mlp((1, 16, 16), CLASSES, 12, "synthetic")
        )
        task = Task(
            network=network,
            images=images,
            labels=labels,
            mean=torch.full((1, 1, 1), 0.35, dtype=dtype),
            std=torch.full((1, 1, 1), 0.3, dtype=dtype),
            clients=len(sizes),
            classes=CLASSES,
            plain=plain or width > 1,
        )
        if short:
            settings = {"clients_per_round": 2, **settings}
        built: Any = method or plugins.build(self.plugin, task, self.params(short, **settings))
        if watched:
            built = Watched(built)
        schedule = Schedule(visits=visits, evaluate_every=evaluate_every, adapt_visits=adapt_visits, width=width)
        return Engine(built, clients, schedule, seed)


def run(engine: Engine, progress: Progress | None = None) -> Progress:
    """`engine` run to its end."""
    progress = progress or engine.start()
    engine.run(progress, Keep(server=True), lambda _: False)
    return progress


@torch.no_grad()
def visit(engine: Engine, progress: Progress, ids: Sequence[int]) -> tuple[Tree, Tree]:
    """One round with the cohort `ids`, in place; its messages and uploads, stacked."""
    groups = engine.visit(progress, list(ids), progress.round)
    engine.receive(progress, groups)
    progress.round += 1
    (_, _, message, upload), *_ = groups
    return message, upload


@torch.no_grad()
def models(engine: Engine, progress: Progress) -> list[Tree]:
    """The personal models of all clients."""
    return list(engine.models(progress))


@torch.no_grad()
def logits(engine: Engine, model: Tree) -> Tensor:
    """The class scores of the first 20 held-out images, [20, CLASSES]."""
    task, images = engine.method.task, engine.clients.images[:20]
    scores: Tensor = engine.method.predict(model, (images.to(task.dtype) / 255 - task.mean) / task.std)
    return scores


def numbers(progress: Progress) -> Any:
    """All that a run has come to, seconds aside."""
    rows = [*progress.history, progress.best or {}]
    return progress.server, progress.clients, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def disturb(seed: int) -> None:
    """Seed every random generator that a method must not use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
