"""Small problems in float64 that methods are tested on, and the same problems as plain PyTorch modules.

The nets are tiny (an MLP and a LeNet). Letters: N clients, C cohort, K steps, B batch, w a model, g a gradient, H a
Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedbench.local import SGD
from fedbench.method import Cohort, Method
from fedbench.methods.pfedhn import Hypernetwork
from fedbench.models import Network, lenet, mlp
from fedbench.task import Task, normalise
from fedbench.training import Clients, Engine, Keep, Progress, Schedule
from fedbench.tree import Tree

N, CLASSES, ROWS = 4, 3, 12  # training clients, classes, training rows of a client


HUGE = 1e30  # a norm that clips nothing


SMALL = Hypernetwork(hidden=5, hidden_layers=2, embedding_size=3)


def make_task(net: str, plain: bool = False, clients: int = N) -> Task:
    """Random images and labels; `net` is mlp or lenet."""
    rng = torch.Generator().manual_seed(1)
    shape = (2, 16, 16) if net == "lenet" else (1, 4, 4)
    images = torch.randint(256, (clients * ROWS, *shape), generator=rng, dtype=torch.uint8)
    mean = torch.tensor([0.4, 0.6], dtype=torch.float64)[: shape[0]].view(-1, 1, 1)
    return Task(
        network=lenet(shape, CLASSES, width=2) if net == "lenet" else mlp(shape, CLASSES, 6, "tiny"),
        images=images.contiguous(memory_format=torch.channels_last),
        labels=torch.randint(CLASSES, (clients * ROWS,), generator=rng),
        mean=mean,
        std=mean / 2,
        clients=clients,
        classes=CLASSES,
        plain=plain,
    )


def rng(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(steps: int, client: int = 0, size: int = 5, seed: int = 3) -> Tensor:
    """Batches [K, B] of the training rows of one client."""
    draws = np.random.default_rng((seed, client))
    picked = [client * ROWS + draws.permutation(ROWS)[:size] for _ in range(steps)]
    return torch.from_numpy(np.stack(picked))


def cohort(*ids: int, weight: list[float] | None = None, round_: int = 0) -> Cohort:
    share = weight or [1 / len(ids)] * len(ids)
    return Cohort(torch.tensor(ids), torch.tensor(share, dtype=torch.float64), round_, 6)


def message(method: Method, server: Any, client: int) -> Tree:
    """What the server sends to one client, unstacked."""
    return {name: value[0] for name, value in method.server_send(server, cohort(client)).items()}


def federation(task: Task, first: int = 0, count: int = N) -> Clients:
    """Clients of unequal size (8, 9, ... rows), each validated and tested on two rows that it does not train on."""
    starts = [i * ROWS for i in range(count)]
    return Clients(
        ids=range(first, first + count),
        train=[np.arange(start, start + 8 + i % 3) for i, start in enumerate(starts)],
        validation=[torch.arange(start + 10, start + ROWS) for start in starts],
        test=[torch.arange(start + 10, start + ROWS) for start in starts],
        images=task.images,
        labels=task.labels,
    )


def run(method: Method, visits: int = 9, adapt_visits: int = 2) -> tuple[Engine, Progress]:
    schedule = Schedule(visits=visits, evaluate_every=4, adapt_visits=adapt_visits)
    engine = Engine(method, federation(method.task), schedule, seed=5)
    progress = engine.start()
    assert engine.run(progress, Keep(server=True), lambda _: False)
    return engine, progress


def close(a: Tree, b: Tree, limit: float = 1e-12) -> None:
    """`a` equals `b` up to `limit`, relative to the largest value of each tensor."""
    assert a.keys() == b.keys()
    for name, value in b.items():
        assert float((a[name] - value).abs().max()) <= limit * max(1.0, float(value.abs().max())), name


def same(a: Tree, b: Tree) -> None:
    """`a` and `b` are bit for bit the same."""
    assert a.keys() == b.keys()
    for name, value in b.items():
        assert torch.equal(a[name], value), name


def module(task: Task) -> nn.Sequential:
    """The network of `task` as layers of `torch.nn`; the order of the parameters is that of `Network.shapes`."""
    shapes = task.network.shapes
    convs = [name for name, shape in shapes.items() if len(shape) == 4]
    linears = [name for name, shape in shapes.items() if len(shape) == 2]
    layers: list[nn.Module] = []
    for name in convs:
        layers += [nn.Conv2d(shapes[name][1], shapes[name][0], 5), nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    for name in linears:
        layers += [nn.Linear(shapes[name][1], shapes[name][0]), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def put(net: nn.Module, model: Tree) -> None:
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), model.values(), strict=True):
            parameter.copy_(value)


def take(net: nn.Module, task: Task) -> Tree:
    return {name: p.detach().clone() for name, p in zip(task.network.shapes, net.parameters(), strict=True)}


def backward(net: nn.Module, task: Task, index: Tensor) -> None:
    images = normalise(task.images[index].contiguous(), task.mean, task.std)
    nn.functional.cross_entropy(net(images), task.labels[index]).backward()


def torch_sgd(net: nn.Module, task: Task, sgd: SGD, batches: Tensor) -> None:
    """K steps of `torch.optim.SGD` and `clip_grad_norm_` on `net`, in place."""
    optimizer = torch.optim.SGD(net.parameters(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    for index in batches:
        optimizer.zero_grad()
        backward(net, task, index)
        torch.nn.utils.clip_grad_norm_(net.parameters(), sgd.max_norm)
        optimizer.step()


@dataclass(frozen=True, kw_only=True)
class Quadratic(Task):
    """Row r has the loss w'A_r w / 2 - b_r'w in w = (x, y), A_r symmetric and positive definite; a batch their mean."""

    a: Tensor  # [M, 5, 5]
    b: Tensor  # [M, 5]

    def fast_path(self, model: Tree) -> bool:
        return False

    def loss(self, model: Tree, rows: Tensor) -> Tensor:
        w = torch.cat([model["x"], model["y"]])
        return (0.5 * torch.einsum("i,rij,j->r", w, self.a[rows], w) - self.b[rows] @ w).mean()


def quadratic() -> Quadratic:
    factor = torch.randn(N * ROWS, 5, 5, generator=rng(), dtype=torch.float64)
    base = make_task("mlp", plain=True)
    shapes: dict[str, tuple[int, ...]] = {"x": (2,), "y": (3,)}
    return Quadratic(
        network=Network("quadratic", shapes, lambda model, images: images.flatten(1)),
        images=base.images,
        labels=base.labels,
        mean=base.mean,
        std=base.std,
        clients=N,
        classes=CLASSES,
        a=factor @ factor.mT / 5 + torch.eye(5, dtype=torch.float64),
        b=torch.randn(N * ROWS, 5, generator=rng(9), dtype=torch.float64),
    )


W0 = {"x": torch.tensor([0.3, -1.0], dtype=torch.float64), "y": torch.tensor([0.5, 2.0, -0.7], dtype=torch.float64)}


def flat(model: Tree) -> Tensor:
    return torch.cat([model["x"], model["y"]])
