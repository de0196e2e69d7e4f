"""pFedHN against the chain rule, finite differences, the released training loop, and the truncated SVD."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import (
    HUGE,
    SMALL,
    N,
    close,
    cohort,
    make_task,
    message,
    module,
    put,
    rng,
    rows,
    take,
    torch_sgd,
)
from torch import Tensor, nn

from fedbench.local import SGD
from fedbench.methods.pfedhn import Hypernetwork, PFedHN
from fedbench.models import lenet
from fedbench.task import Task
from fedbench.tree import Tree


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
    parameters = list(official.parameters())
    table, *others = parameters
    groups: list[dict[str, Any]] = [{"params": others}, {"params": [table], "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=hypernetwork.lr, momentum=0.9, weight_decay=1e-2)
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
        gradients = torch.autograd.grad(list(weights.values()), parameters, list(change.values()))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        clipped += float(torch.nn.utils.clip_grad_norm_(parameters, max_norm)) > max_norm
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


LOCAL = SGD(steps=2, batch_size=4, lr=0.05)


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
