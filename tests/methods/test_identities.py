"""What every built-in method must equal exactly, in float64: closed forms, special cases, and hand-written loops.

The nets are tiny (an MLP and a LeNet); `fast` is the hand-written backward, `plain` autograd through `torch.func`.
Letters: N clients, C cohort, K steps, B batch, w a model, g a gradient, H a Hessian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedbench.local import SGD
from fedbench.method import Cohort, Method
from fedbench.methods.fedavg import FedAvg
from fedbench.methods.fedavg_ft import FedAvgFT
from fedbench.methods.fedper import FedPer
from fedbench.methods.lg_fedavg import LGFedAvg
from fedbench.methods.local import Local
from fedbench.methods.per_fedavg import PerFedAvg
from fedbench.methods.pfedhn import Hypernetwork, PFedHN
from fedbench.methods.pfedhn_pc import PFedHNPC
from fedbench.methods.pfedme import PFedMe
from fedbench.models import Network, lenet, mlp
from fedbench.task import Task, normalise
from fedbench.training import Clients, Engine, Keep, Progress, Schedule, adapt
from fedbench.tree import Tree

torch.set_num_threads(1)

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


@pytest.fixture(params=["mlp-plain", "mlp-fast", "lenet-plain", "lenet-fast"])
def task(request: pytest.FixtureRequest) -> Task:
    net, path = request.param.split("-")
    return make_task(net, plain=path == "plain")


@pytest.fixture(params=["mlp", "lenet"])
def plain_task(request: pytest.FixtureRequest) -> Task:
    return make_task(request.param, plain=True)


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


# ---------- the same problem as plain PyTorch modules


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


# ---------- FedAvg


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


def test_local_is_each_client_alone(task: Task) -> None:
    """Two visits of a client with `torch.optim.SGD`, its optimizer new at each; the server hears nothing."""
    method = Local(task=task)
    state = method.client_init({}, rng())
    net = module(task)
    put(net, state)
    for visit in range(2):
        upload, state = method.client_train({}, state, rows(3, seed=visit))
        torch_sgd(net, task, method.local, rows(3, seed=visit))
        assert upload == {}
        close(state, take(net, task))


def test_fedper_with_nothing_shared_is_local(task: Task) -> None:
    """The same initial draw of every client, the same batches and steps: bit for bit Local, and nothing travels."""
    _, progress = run(FedPer(task=task, personal_layers=len(task.network.layers)))
    _, expected = run(Local(task=task))
    assert progress.bytes_down == progress.bytes_up == 0
    assert progress.clients.keys() == expected.clients.keys() != set()
    for i, state in expected.clients.items():
        same(progress.clients[i], state)


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
        k: sum(counts[i] * progress.clients[i][k] for i in counts) / sum(counts.values()) for k in method.local_names
    }
    close(mean, {k: three.server[k] for k in method.local_names})


# ---------- Per-FedAvg


def test_per_fedavg_without_adaptation_is_fedavg_on_the_query_batches(task: Task) -> None:
    """a = 0: u = w, so w <- w - b g(w; D'). Every second batch is a D'. The personal model is w."""
    batches, local = rows(8), SGD(lr=0.1, steps=4)
    method, reference = PerFedAvg(task=task, local=local, alpha=0.0), FedAvg(task=task, local=local)
    model = method.server_init(rng())
    same(model, reference.server_init(rng()))
    close(method.client_train(model, {}, batches)[0], reference.client_train(model, {}, batches[1::2])[0])
    same(method.client_personalize(model, {}, batches[:1]), model)
    for variant in ("exact", "hf"):
        other = PerFedAvg(task=task, local=local, alpha=0.0, variant=variant)
        close(other.client_train(model, {}, rows(12))[0], reference.client_train(model, {}, rows(12)[1::3])[0])


@dataclass(frozen=True, kw_only=True)
class Quadratic(Task):
    """Row r has the loss w'A_r w / 2 - b_r'w in w = (x, y), A_r symmetric and positive definite; a batch their mean."""

    a: Tensor  # [M, 5, 5]
    b: Tensor  # [M, 5]

    def fast_path(self, model: Tree) -> int | None:
        return None

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


@pytest.mark.parametrize("variant", ["fo", "exact", "hf"])
def test_per_fedavg_step_on_a_quadratic(variant: str) -> None:
    """g(w; D) = A w - b and H(w; D) = A. With (A, b), (A', b'), (A'', b'') of the three batches,

    u = w - a (A w - b),  v = A' u - b',  fo: w - lr v,  exact: w - lr (I - a A'') v,  and hf equals exact, for the
    central difference of a linear function is exact: [g(w + d v) - g(w - d v)] / (2 d) = A'' v.
    """
    task, w, alpha, lr = quadratic(), flat(W0), 0.07, 0.2
    local = SGD(lr=lr, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=1)
    method = PerFedAvg(task=task, local=local, variant=variant, alpha=alpha)
    batches = rows(method.batches_per_step)
    (a1, b1), (a2, b2), (a3, _) = [(task.a[r].mean(0), task.b[r].mean(0)) for r in rows(3)]
    assert torch.equal(batches, rows(3)[: len(batches)])
    v = a2 @ (w - alpha * (a1 @ w - b1)) - b2
    expected = w - lr * (v if variant == "fo" else v - alpha * (a3 @ v))
    upload, _ = method.client_train(W0, {}, batches)
    assert torch.allclose(flat(upload), expected, rtol=0, atol=1e-11 if variant == "hf" else 1e-14)
    personal = method.client_personalize(W0, {}, batches[:1])
    assert torch.allclose(flat(personal), w - alpha * (a1 @ w - b1), rtol=0, atol=1e-14)


def test_per_fedavg_exact_is_the_gradient_of_the_adapted_loss(plain_task: Task) -> None:
    """With D = D' = D'', (I - a H(w)) g(w - a g(w)) is the gradient of f(w - a g(w)) by the chain rule, H symmetric."""
    method = PerFedAvg(task=plain_task, variant="exact", alpha=0.3)
    model, batch = plain_task.init(rng()), rows(1)[0]

    def adapted(w: Tree) -> Tensor:
        gradient = torch.func.grad(plain_task.loss)(w, batch)
        return plain_task.loss({name: w[name] - 0.3 * gradient[name] for name in w}, batch)

    close(method.meta_gradient(model, batch.expand(3, -1)), torch.func.grad(adapted)(model))


# ---------- pFedMe


def test_pfedme_with_unit_step_returns_the_local_solution(task: Task) -> None:
    """eta lam = 1: w_i <- w_i - (w_i - t) = t. The upload is the personal model, the server (beta = 1) their mean."""
    method = PFedMe(task=task, local=SGD(lr=0.05, momentum=0.0, steps=3), eta=0.25, lam=4.0)
    model = method.server_init(rng())
    upload, _ = method.client_train(model, {}, rows(3))
    personal = method.client_personalize(model, {}, rows(3))
    close(upload, personal, limit=1e-15)
    assert float((personal["fc1.weight"] - model["fc1.weight"]).abs().max()) > 1e-3
    stacked = {name: torch.stack([upload[name], 3 * upload[name]]) for name in upload}
    same(method.server_receive(model, cohort(0, 1), stacked), {name: 2 * value for name, value in upload.items()})


def test_pfedme_prox_steps_on_a_quadratic() -> None:
    """One batch: t_k - t* = (I - p (A + lam I))^k (t_0 - t*) with t* = (A + lam I)^-1 (b + lam w).

    For the gradient of t'A t / 2 - b't + lam |t - w|^2 / 2 is (A + lam I)(t - t*). Then w <- w - eta lam (w - t_k), and
    the next batch starts at this t and this w; the first one at t_0 = w.
    """
    task, lam, eta, p, k = quadratic(), 3.0, 0.1, 0.05, 4
    local = SGD(lr=p, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=2)
    method = PFedMe(task=task, local=local, lam=lam, eta=eta, inner_steps=k)
    w = t = flat(W0)
    for batch in rows(2):
        hessian = task.a[batch].mean(0) + lam * torch.eye(5, dtype=torch.float64)
        minimum = torch.linalg.solve(hessian, task.b[batch].mean(0) + lam * w)
        t = minimum + torch.linalg.matrix_power(torch.eye(5) - p * hessian, k) @ (t - minimum)
        w = w - eta * lam * (w - t)
    near, personal = method.solve(W0, rows(2))
    assert torch.allclose(flat(personal), t, rtol=0, atol=1e-13)
    assert torch.allclose(flat(near), w, rtol=0, atol=1e-13)
    assert method.steps_per_visit == 8


def test_pfedme_solved_to_the_end_moves_along_the_moreau_gradient() -> None:
    """With k large, t = t*, and w - w_i = eta lam (w - t*) = eta grad F(w), F(w) = min_t f(t) + lam / 2 |t - w|^2.

    The gradient of F is taken by autograd through the linear solve.
    """
    task, lam, eta = quadratic(), 3.0, 0.1
    local = SGD(lr=0.15, momentum=0.0, weight_decay=0.0, max_norm=HUGE, steps=1)
    method = PFedMe(task=task, local=local, lam=lam, eta=eta, inner_steps=300)
    batch = rows(1)
    a, b = task.a[batch[0]].mean(0), task.b[batch[0]].mean(0)

    def envelope(w: Tensor) -> Tensor:
        t = torch.linalg.solve(a + lam * torch.eye(5, dtype=torch.float64), b + lam * w)
        return 0.5 * t @ a @ t - b @ t + lam / 2 * (t - w) @ (t - w)

    near, _ = method.solve(W0, batch)
    assert torch.allclose((flat(W0) - flat(near)) / eta, torch.func.grad(envelope)(flat(W0)), rtol=0, atol=1e-12)


# ---------- pFedHN


def still(hypernetwork: Hypernetwork, **changes: Any) -> Hypernetwork:
    """`hypernetwork` without momentum, decay and clipping: its momentum after one step is the server's gradient."""
    settings = {**vars(hypernetwork), "momentum": 0.0, "weight_decay": 0.0, "max_norm": HUGE, **changes}
    return Hypernetwork(**settings)


def test_pfedhn_with_one_step_is_the_chain_rule(task: Task) -> None:
    """K = 1 without momentum, decay and clipping: theta - t = lr g(theta), so the server's gradient is lr times that of
    the loss through theta = h(v; phi); for a cohort, the mean over its clients.
    """
    local = SGD(lr=0.03, momentum=0.0, weight_decay=0.0, max_norm=HUGE)
    method = PFedHN(task=task, local=local, hypernetwork=still(SMALL))
    server = method.server_init(rng())
    for ids in [(2,), (3, 0, 1)]:
        clients = cohort(*ids)
        sent = method.server_send(server, clients)
        uploads = [
            method.client_train({k: v[c] for k, v in sent.items()}, {}, rows(1, i))[0] for c, i in enumerate(ids)
        ]
        after = method.server_receive(server, clients, {k: torch.stack([u[k] for u in uploads]) for k in uploads[0]})

        def loss(phi: Tree, table: Tensor, ids: tuple[int, ...] = ids) -> Tensor:
            losses = []
            for i in ids:
                made = method.hypernetwork.generate(phi, table[i : i + 1], task.network.shapes)
                losses.append(task.loss({name: value[0] for name, value in made.items()}, rows(1, i)[0]))
            return torch.stack(losses).mean()

        by_phi, by_table = torch.func.grad(loss, argnums=(0, 1))(server["phi"], server["embedding"])
        gradient = {**by_phi, "embedding": by_table}
        close(after["momentum"], {name: local.lr * value for name, value in gradient.items()}, limit=1e-14)
        moved = {name: server["phi"][name] - after["phi"][name] for name in server["phi"]}
        close(moved, {name: SMALL.lr * local.lr * value for name, value in by_phi.items()}, limit=1e-14)


@pytest.mark.parametrize("ids", [(2,), (3, 0)], ids=["one-client", "two-clients"])
def test_pfedhn_step_against_finite_differences(ids: tuple[int, ...]) -> None:
    """(d theta / d phi)'g is the gradient of <g, theta> in phi and v; central differences, error O(d^2)."""
    task = make_task("mlp")
    method = PFedHN(task=task, hypernetwork=still(Hypernetwork(hidden=3, hidden_layers=1, embedding_size=2)))
    server = method.server_init(rng())
    noise = rng(8)
    upload = {
        name: torch.randn(len(ids), *shape, generator=noise, dtype=torch.float64)
        for name, shape in task.network.shapes.items()
    }

    def product(phi: Tree, table: Tensor) -> float:
        made = method.hypernetwork.generate(phi, table[list(ids)], task.network.shapes)
        return float(sum((made[name] * upload[name]).sum() for name in made)) / len(ids)

    after = method.server_receive(server, cohort(*ids), upload)
    state, d = {**server["phi"], "embedding": server["embedding"]}, 1e-5
    for name, value in state.items():
        numeric = torch.zeros(value.numel(), dtype=torch.float64)
        for j in range(value.numel()):
            ends = []
            for sign in (1, -1):
                moved = value.clone()
                moved.view(-1)[j] += sign * d
                parts = {**state, name: moved}
                ends.append(product(parts, parts.pop("embedding")))
            numeric[j] = (ends[0] - ends[1]) / (2 * d)
        assert torch.allclose(after["momentum"][name].reshape(-1), numeric, rtol=1e-7, atol=1e-7), name


class OfficialHypernetwork(nn.Module):
    """The released network: embedding, trunk, one linear head for each target tensor."""

    def __init__(self, state: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        phi, table = state["phi"], state["embedding"]
        self.shapes = shapes
        self.embeddings = nn.Embedding(*table.shape)
        trunk: list[nn.Module] = []
        self.names = ["embedding"]
        for name in phi:
            layer = name.removesuffix(".weight")
            if name.endswith(".weight") and layer.startswith("trunk"):
                trunk += [nn.ReLU(), nn.Linear(phi[name].shape[1], phi[name].shape[0])]
        self.mlp = nn.Sequential(*trunk[1:])
        self.heads = nn.ModuleList(
            [nn.Linear(phi[f"head.{name}.weight"].shape[1], math.prod(s)) for name, s in shapes.items()]
        )
        self.double()
        self.names += [name for name in phi if name.startswith("trunk")]
        self.names += [f"head.{name}.{kind}" for name in shapes for kind in ("weight", "bias")]
        values = {**phi, "embedding": table}
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters(), strict=True):
                parameter.copy_(values[name])

    def forward(self, client: int) -> Tree:
        features = self.mlp(self.embeddings(torch.tensor([client])))
        return {n: head(features).view(s) for (n, s), head in zip(self.shapes.items(), self.heads, strict=True)}

    def values(self) -> Tree:
        return {name: p.detach().clone() for name, p in zip(self.names, self.parameters(), strict=True)}


@pytest.mark.parametrize("max_norm", [50.0, 1e-3], ids=["loose", "clipped"])
def test_pfedhn_is_the_released_training_loop(task: Task, max_norm: float) -> None:
    """Six steps against `autograd.grad(..., grad_outputs=theta - t)`, `clip_grad_norm_` and `torch.optim.SGD`.

    The embedding table's gradient is dense, so rows of clients that a step does not visit decay and coast on momentum.
    """
    hypernetwork = Hypernetwork(**{**vars(SMALL), "max_norm": max_norm, "embedding_lr": 0.3, "weight_decay": 1e-2})
    method = PFedHN(task=task, hypernetwork=hypernetwork, local=SGD(lr=0.1))
    server = method.server_init(rng())
    official = OfficialHypernetwork(server, task.network.shapes)
    table, *others = official.parameters()
    optimizer = torch.optim.SGD(
        [{"params": others}, {"params": [table], "lr": 0.3}], lr=hypernetwork.lr, momentum=0.9, weight_decay=1e-2
    )
    net = module(task)
    clipped = 0
    for step, client in enumerate([1, 0, 1, 2, 2, 0]):
        clients = cohort(client, round_=step)
        sent = message(method, server, client)
        weights = official(client)
        close(sent, {name: value.detach() for name, value in weights.items()})
        upload, _ = method.client_train(sent, {}, rows(4, client, seed=step))
        server = method.server_receive(server, clients, {name: value[None] for name, value in upload.items()})
        put(net, weights)
        torch_sgd(net, task, method.local, rows(4, client, seed=step))
        change = {name: weights[name].detach() - value for name, value in take(net, task).items()}
        optimizer.zero_grad()
        gradients = torch.autograd.grad(list(weights.values()), official.parameters(), list(change.values()))
        for parameter, gradient in zip(official.parameters(), gradients, strict=True):
            parameter.grad = gradient
        clipped += float(torch.nn.utils.clip_grad_norm_(official.parameters(), max_norm)) > max_norm
        optimizer.step()
        close({**server["phi"], "embedding": server["embedding"]}, official.values())
    assert clipped == (6 if max_norm < 1 else 0)


def test_pfedhn_rows_of_unvisited_clients_decay_and_coast() -> None:
    """A row never visited follows m <- 0.9 m + wd v, v <- v - lr m from m = 0; one visited keeps its momentum."""
    task = make_task("mlp")
    method = PFedHN(task=task, hypernetwork=Hypernetwork(**{**vars(SMALL), "weight_decay": 0.1}))
    server = method.server_init(rng())
    v, m = server["embedding"][3], torch.zeros(3, dtype=torch.float64)
    for step, client in enumerate([0, 1, 2, 0]):
        before = server
        upload, _ = method.client_train(message(method, server, client), {}, rows(2, client))
        server = method.server_receive(
            server, cohort(client, round_=step), {name: value[None] for name, value in upload.items()}
        )
        m = 0.9 * m + 0.1 * v
        v = v - SMALL.lr * m
        close({"row": server["embedding"][3]}, {"row": v}, limit=1e-15)
        if step == 1:  # client 0 was visited the step before
            coast = 0.9 * before["momentum"]["embedding"][0] + 0.1 * before["embedding"][0]
            close({"row": server["momentum"]["embedding"][0]}, {"row": coast}, limit=1e-15)
            assert float(before["momentum"]["embedding"][0].abs().max()) > 0


@pytest.mark.parametrize("biases", [False, True], ids=["linear", "affine"])
def test_linear_hypernetwork_is_the_truncated_svd(biases: bool) -> None:
    """sum_i |W v_i - t_i|^2 over W [d, k] and v_i is least at the rank-k truncated SVD of T = [t_1 .. t_N], uncentred.

    Losses |theta - t_i|^2 and K = 1 make the clients' change 2 lr (theta - t_i), so the server descends on that sum.
    With no hidden layer h is linear but for its biases. Held at zero, the optimum is the sum of the squares of the
    singular values of T after the k-th; left free, they are an offset common to all, and it is that of the centred T.
    """
    n, d, k, rate = 8, 6, 2, 0.08
    targets = torch.randn(n, d, generator=rng(), dtype=torch.float64) + 1.0
    hypernetwork = Hypernetwork(
        lr=1.0, momentum=0.8, weight_decay=0.0, max_norm=HUGE, hidden=k, hidden_layers=0, embedding_size=k
    )
    shapes: dict[str, tuple[int, ...]] = {"t": (d,)}
    state = hypernetwork.init(shapes, n, rng(), torch.float64)
    everybody, best = cohort(*range(n)), math.inf
    for _ in range(600):
        if not biases:
            for part in (state["phi"], state["momentum"]):
                part.update({name: torch.zeros_like(part[name]) for name in ("trunk0.bias", "head.t.bias")})
        theta = hypernetwork.generate(state["phi"], state["embedding"], shapes)["t"]
        best = min(best, float((theta - targets).square().sum()))
        state = hypernetwork.update(state, everybody, {"t": 2 * rate * (theta - targets)})
    centred = targets - targets.mean(0)
    optimum = [float(torch.linalg.svdvals(t)[k:].square().sum()) for t in (targets, centred)]
    assert optimum[0] > 1.02 * optimum[1]
    assert best == pytest.approx(optimum[biases], rel=1e-9)
    assert best >= optimum[biases] * (1 - 1e-12)


# ---------- pFedHN-PC


def test_pc_clips_the_extractor_only_and_the_head_keeps_its_momentum(task: Task) -> None:
    """Three visits against the released client: a new SGD for the extractor at each visit, one for ever for the head.

    Both step on the gradient of one backward pass, of which only the extractor's part is clipped (and here it is).
    """
    sgd = SGD(lr=0.1, weight_decay=1e-2, max_norm=0.05)
    method = PFedHNPC(task=task, local=sgd, hypernetwork=SMALL)
    server = method.server_init(rng())
    sent = message(method, server, 1)
    state = method.client_init({}, rng(7))
    net = module(task)
    put(net, {name: {**sent, **state}[name] for name in task.network.shapes})
    *extractor, weight, bias = net.parameters()
    head = torch.optim.SGD([weight, bias], sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    for visit in range(3):
        put(net, {**sent, **{name: state[name] for name in task.head}})
        inner = torch.optim.SGD(extractor, sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
        upload, state = method.client_train(sent, state, rows(3, 1, seed=visit))
        for index in rows(3, 1, seed=visit):
            net.zero_grad()
            backward(net, task, index)
            assert float(torch.nn.utils.clip_grad_norm_(extractor, sgd.max_norm)) > sgd.max_norm
            inner.step()
            head.step()
        trained = take(net, task)
        close(upload, {name: sent[name] - trained[name] for name in task.body})
        buffers = [head.state[p]["momentum_buffer"] for p in (weight, bias)]
        kept = {name: trained[name] for name in task.head}
        kept |= {f"momentum.{name}": buffer for name, buffer in zip(task.head, buffers, strict=True)}
        close(state, kept)
    assert float(state[f"momentum.{task.head[0]}"].abs().max()) > 0


def test_pc_personal_model_is_the_extractor_and_the_own_head(task: Task) -> None:
    method = PFedHNPC(task=task, hypernetwork=SMALL)
    server = method.server_init(rng())
    assert server["phi"].keys() == PFedHN(task=task, hypernetwork=SMALL).server_init(rng())["phi"].keys() - {
        f"head.{name}.{kind}" for name in task.head for kind in ("weight", "bias")
    }
    state, sent = method.client_init({}, rng(7)), message(method, server, 0)
    same(
        method.client_personalize(sent, state, rows(1)),
        {**sent, **{name: state[name] for name in task.head}},
    )


# ---------- unseen clients


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


def test_the_step_on_fresh_embeddings_is_sgd_on_them_alone() -> None:
    """Three visits against `autograd.grad`, `clip_grad_norm_` (active) and `torch.optim.SGD` on the fresh rows."""
    task = make_task("mlp")
    hypernetwork = Hypernetwork(**{**vars(SMALL), "max_norm": 1e-3})
    method = PFedHN(task=task, local=LOCAL, hypernetwork=hypernetwork)
    server = method.server_admit(method.server_init(rng()), 2, rng(4))
    fresh = server["embedding"][N:].clone().requires_grad_()
    optimizer = torch.optim.SGD([fresh], hypernetwork.lr, momentum=0.9, weight_decay=1e-3)
    for client in (N, N + 1, N):
        upload, _ = method.client_train(message(method, server, client), {}, rows(2, client - N))
        made = hypernetwork.generate(server["phi"], fresh[client - N : client - N + 1], task.network.shapes)
        fresh.grad = torch.autograd.grad([made[k] for k in upload], fresh, [v[None] for v in upload.values()])[0]
        assert float(torch.nn.utils.clip_grad_norm_([fresh], 1e-3)) > 1e-3
        optimizer.step()
        server = method.server_receive(server, cohort(client), {name: value[None] for name, value in upload.items()})
        close({"fresh": server["embedding"][N:]}, {"fresh": fresh.detach()})


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


# ---------- sizes and bytes


@pytest.mark.parametrize(
    ("width", "classes", "total"),
    [(8, 10, 62_958), (16, 10, 121_182), (32, 10, 256_830), (8, 100, 70_608), (16, 100, 128_832), (32, 100, 264_480)],
)
def test_lenet_sizes(width: int, classes: int, total: int) -> None:
    """conv 75F + F and 50F^2 + 2F, fc 50F 120 + 120, 120 84 + 84, and the head 84 classes + classes."""
    network = lenet((3, 32, 32), classes, width)
    closed = 75 * width + width + 50 * width**2 + 2 * width + 6000 * width + 120 + 10_164 + 85 * classes
    assert sum(math.prod(s) for s in network.shapes.values()) == closed == total
    assert sum(math.prod(network.shapes[name]) for name in network.head) == 85 * classes


@pytest.mark.parametrize(
    ("clients", "classes", "personal", "size", "total"),
    [
        (50, 10, False, 13, 12_271_732),
        (10, 10, False, 3, 12_270_112),
        (100, 10, False, 26, 12_274_982),
        (50, 100, False, 13, 13_044_382),
        (50, 10, True, 13, 12_185_882),
    ],
)
def test_hypernetwork_sizes(clients: int, classes: int, personal: bool, size: int, total: int) -> None:
    """Embeddings N k, k = int(1 + N / 4); trunk 100 k + 100 + 3 (100 100 + 100); heads 101 for each generated value."""
    network = lenet((3, 32, 32), classes, 16)
    shapes = {name: shape for name, shape in network.shapes.items() if not (personal and name in network.head)}
    state = Hypernetwork().init(shapes, clients, rng(), torch.float32)
    generated = sum(math.prod(shape) for shape in shapes.values())
    closed = clients * size + 100 * size + 100 + 3 * 10_100 + 101 * generated
    assert state["embedding"].shape == (clients, size)
    assert sum(v.numel() for v in state["phi"].values()) + state["embedding"].numel() == closed == total


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
