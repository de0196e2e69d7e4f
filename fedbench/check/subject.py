"""The method under test, on a small synthetic federation, and the tools with which the checks look at it there.

Letters: N clients that train, C clients of a cohort, M samples, K steps, B batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedbench import plugins
from fedbench.check.comparing import Gap, clone, gap
from fedbench.check.meter import Meter
from fedbench.check.watched import Watched
from fedbench.errors import BadInput
from fedbench.method import Method
from fedbench.models import Network, lenet, mlp
from fedbench.plugins import Plugin
from fedbench.task import Task
from fedbench.training import Clients, Engine, Keep, Progress, Schedule, adapt
from fedbench.tree import Tree

CLASSES = 4
IMAGE = (1, 16, 16)
SIZES = (14, 5, 9, 20)  # training rows of the clients 0 .. N - 1; a batch of 8 is short on one of them
UNSEEN = (11, 7)  # of two more that join later
HELD_OUT = 40  # validation rows of a client, and as many test rows
AFTER = 2  # the round after one in which every client was visited, two at a time
SHORT = {"steps": 3, "batch_size": 8}  # what becomes of every `*.steps` and `*.batch_size`


def rng(seed: int = 0) -> torch.Generator:
    """A torch generator."""
    return torch.Generator().manual_seed(seed)


def samples(count: int, labels: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Images [count, 1, 16, 16] uint8 and labels [count], `labels` in turn: a bright quarter, and noise."""
    draws = np.random.default_rng(seed)
    label = np.array([labels[i % len(labels)] for i in range(count)])
    images = draws.integers(0, 120, (count, *IMAGE))
    for i, y in enumerate(label):
        top, left = 8 * (y // 2), 8 * (y % 2)
        images[i, 0, top : top + 8, left : left + 8] += 130
    return torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(label)


@dataclass
class Subject:
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
        wanted = {name: value for name, value in {**cut, **settings}.items() if self._allows(name, value)}
        return plugins.configure(self.plugin, wanted)

    def _allows(self, name: str, value: object) -> bool:
        """Whether a hyperparameter may be `value`; a method may need larger cohorts, or a number of steps."""

        def tried() -> bool:
            with contextlib.suppress(BadInput):
                plugins.configure(self.plugin, {name: value})
                return True
            return False

        return bool(self.once(f"{name}={value}", tried))

    def federation(
        self, sizes: Sequence[int], first: int, held_out: int, own: Sequence[int] | None = None, several: bool = False
    ) -> tuple[Tensor, Tensor, Clients]:
        """Training images and labels of the clients `first`, `first` + 1, ..., and the clients.

        Client i holds the classes i and i + 1 (modulo CLASSES). `held_out` is the seed of validation and test rows.
        With `own`, all other clients' training rows are replaced by others, of the two classes that they lack, and one
        more of them, so that the own rows have other numbers too.
        """
        ids = range(first, first + len(sizes))
        as_they_are = ids if own is None else own
        sizes = [size + (i not in as_they_are) for i, size in zip(ids, sizes, strict=True)]
        train = [
            samples(size, [i % CLASSES, (i + 1) % CLASSES], i)
            if i in as_they_are
            else samples(size, [(i + 2) % CLASSES], 500 + i)
            for i, size in zip(ids, sizes, strict=True)
        ]
        ends = np.cumsum([0, *sizes])
        others = [samples(2 * HELD_OUT, [i % CLASSES, (i + 1) % CLASSES], 1000 * (held_out + 1) + i) for i in ids]
        starts = [2 * HELD_OUT * i for i in range(len(sizes))]
        clients = Clients(
            ids=ids,
            train=[np.arange(a, b) for a, b in pairwise(ends)],
            validation=[torch.arange(start, start + HELD_OUT) for start in starts],
            test=[torch.arange(start + HELD_OUT, start + 2 * HELD_OUT) for start in starts],
            images=torch.cat([part for part, _ in others]),
            labels=torch.cat([part for _, part in others]),
            network=[i % 2 for i in range(len(sizes))] if several else (),
        )
        return torch.cat([part for part, _ in train]), torch.cat([part for _, part in train]), clients

    def engine(
        self,
        *,
        sizes: Sequence[int] = SIZES,
        unseen: bool = False,
        own: Sequence[int] | None = None,
        several: bool = False,
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
        meter: Meter | None = None,
        wrap: Callable[[Callable[[], Method]], Any] = lambda make: make(),
        **settings: object,
    ) -> Engine:
        """An engine on the training clients, or the `unseen` ones, with fresh objects of the method.

        The cohorts are 2 clients unless `clients_per_round` is among the `settings`, or `short` is false. With
        `several`, every other client has another network. A `meter` watches the network, which then takes the plain
        path. `wrap` makes what the engine is given, out of a function that makes an object of the method.
        """
        first = len(sizes) if unseen else 0
        rows = (UNSEEN if unseen else sizes, first, held_out, own, several)
        images, labels, clients = self.federation(*rows)
        if short:
            settings = {"clients_per_round": 2, **settings}
        params = self.params(short, **settings)

        def networks() -> tuple[Network, ...]:  # made anew for each object, so that objects have nothing in common
            if convolutions:
                made = [lenet(IMAGE, CLASSES, 2)]
            else:
                made = [mlp(IMAGE, CLASSES, 12, "synthetic"), mlp(IMAGE, CLASSES, 20, "synthetic-20")][: 1 + several]
            return tuple(meter.network(network) if meter else network for network in made)

        def build(place: int) -> Method:
            here = networks()
            task = Task(
                network=here[place],
                networks=here,
                images=images.clone(),
                labels=labels.clone(),
                mean=torch.full((1, 1, 1), 0.35, dtype=dtype),
                std=torch.full((1, 1, 1), 0.3, dtype=dtype),
                clients=len(sizes),
                classes=CLASSES,
                plain=plain or width > 1 or meter is not None,
            )
            return plugins.build(self.plugin, task, params)

        methods = [wrap(partial(build, place)) for place in range(1 + several)]
        if meter:
            meter.batch = methods[0].local.batch_size
        schedule = Schedule(visits=visits, evaluate_every=evaluate_every, adapt_visits=adapt_visits, width=width)
        return Engine(methods, clients, schedule, seed)

    # ------------------------------------------------------------ runs that several checks look at

    def straight(self) -> Any:
        """The numbers of an ordinary run."""
        return self.once("straight", lambda: numbers(run(self.engine())))

    def watched(self) -> Watched:
        """The same run and the visits of unseen clients, with every call recorded."""

        def make() -> Watched:
            disturb(1)
            # no generator stands where a seed would put it, or a method that sets that seed would change nothing
            random.random()
            np.random.random()  # noqa: NPY002
            torch.rand(1)
            engine = self.engine(wrap=Watched)
            watched: Any = engine.method
            before = clone(watched.task.images)
            progress = run(engine)
            watched.look_ahead()
            unseen = self.engine(unseen=True, wrap=Watched)
            other: Any = unseen.method
            adapt(progress.best_server, unseen, engine.rounds)
            for method in (watched, other):
                method.finish()
            for name in ("modified", "left", "opened"):
                getattr(watched, name).extend(getattr(other, name))
            if gap(before, watched.task.images).size:
                watched.modified.append(("the images of the task", "client_train"))
            found: Watched = watched
            return found

        result: Watched = self.once("watched", make)
        return result

    def trained(self) -> tuple[Engine, Progress, list[Tree], list[Tree]]:
        """A run in which every client was visited once, and the personal models before and after it.

        Both are made as in the round after it, from the same batches; float64, where what is rounding is small.
        """

        def make() -> tuple[Engine, Progress, list[Tree], list[Tree]]:
            engine = self.engine(dtype=torch.float64)
            progress = engine.start()
            before = clone(models(engine, dataclasses.replace(progress, round=AFTER)))
            for ids in ([0, 1], [2, 3]):
                visit(engine, progress, ids)
            return engine, progress, before, models(engine, progress)

        result: tuple[Engine, Progress, list[Tree], list[Tree]] = self.once("trained", make)
        return result


# ---------------------------------------------------------------- what is done with an engine


def run(engine: Engine, progress: Progress | None = None) -> Progress:
    """`engine` run to its end."""
    progress = progress or engine.start()
    engine.run(progress, Keep(server=True), lambda _: False)
    return progress


def one_round(engine: Engine, progress: Progress) -> None:
    """The next round of a run, and its evaluation where one is due."""
    engine.run(progress, Keep(server=True), lambda _: True)


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
def logits(method: Method, engine: Engine, model: Tree) -> Tensor:
    """The class scores of the first 20 held-out images by `method`, [20, CLASSES]."""
    task, images = method.task, engine.clients.images[:20]
    scores: Tensor = method.predict(model, (images.to(task.dtype) / 255 - task.mean) / task.std)
    return scores


def replaces_predict(method: Method) -> bool:
    """Whether the method scores by a `predict` of its own, so that its models may hold anything."""
    return type(method).predict is not Method.predict


def told_apart(engine: Engine, a: Sequence[Tree], b: Sequence[Tree]) -> Gap:
    """The gap of two lists of personal models; of their scores, where the method has a `predict` of its own."""
    if not replaces_predict(engine.method):
        return gap(list(a), list(b))
    one, two = ([logits(engine.method, engine, model) for model in each] for each in (a, b))
    return gap(one, two)


def numbers(progress: Progress) -> Any:
    """All that a run has come to, seconds aside."""
    rows = [*progress.history, progress.best or {}]
    return progress.server, progress.clients, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def disturb(seed: int) -> None:
    """Seed every random generator that a method must not use."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
