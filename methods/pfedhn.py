"""pFedHN: a hypernetwork on the server writes every client's model from that client's embedding.

Shamsian, Navon, Fetaya, Chechik, "Personalized Federated Learning using Hypernetworks", ICML 2021, algorithm 1. With h
the hypernetwork, phi its weights, v_i the embedding of client i:

    the server sends theta_i = h(v_i; phi); the client takes K steps from it, to t, and sends g = theta_i - t;
    phi <- phi - alpha (d theta_i / d phi)^T g,        v_i <- v_i - alpha (d theta_i / d v_i)^T g.

g is old minus new. The paper writes new minus old and subtracts, which would ascend; the authors' code does as here.
phi and the embeddings never travel. The personal model is the generated one, without fine-tuning.

The hypernetwork is that of the released code (AvivSham/pFedHN): an embedding table N(0, 1), a trunk of 1 +
`hidden_layers` linear layers with a ReLU between them, and one linear layer for each tensor of the target, on the
trunk's plain output. As there, momentum and weight decay act on all embeddings at every round, those of unvisited
clients too.

Departures from the paper

1. Several clients a round (`clients_per_round`; the authors only ran one) average their gradients.
2. What the server does for unseen clients is described but not specified: here the network is frozen and fresh N(0, 1)
   embeddings are trained with the same rate, momentum, decay and clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.fast import rank_one_sgd
from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.models import linear_init
from fedbench.tree import Tree

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Hypernetwork:
    """A generator of models and the SGD that trains it. State: `phi`, `embedding` [N, k], `momentum` of both."""

    lr: Annotated[float, Field(gt=0, description="server rate alpha")] = 1e-2
    embedding_lr: Annotated[float | None, Field(gt=0, description="rate of the embeddings; none: as lr")] = None
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of the server's SGD")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="L2 penalty on everything the server trains")] = 1e-3
    max_norm: Annotated[float, Field(gt=0, description="the server's gradient is clipped to this global norm")] = 50.0
    embedding_size: Annotated[int | None, Field(ge=1, description="k; none: int(1 + N / 4)")] = None
    hidden: Annotated[int, Field(ge=1, description="width of the trunk")] = 100
    hidden_layers: Annotated[int, Field(ge=0, description="layers of the trunk after the first")] = 3

    def init(
        self,
        shapes: Shapes,
        clients: int,
        rng: torch.Generator,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
    ) -> dict[str, Any]:
        """The state for models of `shapes` and N = `clients`, as PyTorch initialises `Embedding` and `Linear`.

        Drawn on the CPU, so that a seed means the same weights on every device.
        """
        k = self.embedding_size or int(1 + clients / 4)
        phi: Tree = {}
        for i in range(self.hidden_layers + 1):
            phi.update(linear_init(f"trunk{i}", self.hidden, k if i == 0 else self.hidden, rng, dtype))
        for name, shape in shapes.items():
            phi.update(linear_init(f"head.{name}", prod(shape), self.hidden, rng, dtype))
        phi = {name: value.to(device) for name, value in phi.items()}
        embedding = torch.randn(clients, k, generator=rng, dtype=torch.float64).to(device, dtype)
        momentum = {**tree.zeros_like(phi), "embedding": torch.zeros_like(embedding)}
        return {"phi": phi, "embedding": embedding, "momentum": momentum}

    def features(self, phi: Tree, embedding: Tensor) -> Tensor:
        """The trunk: embeddings [C, k] to features [C, hidden]."""
        x = F.linear(embedding, phi["trunk0.weight"], phi["trunk0.bias"])
        for i in range(1, self.hidden_layers + 1):
            x = F.linear(F.relu(x), phi[f"trunk{i}.weight"], phi[f"trunk{i}.bias"])
        return x

    def generate(self, phi: Tree, embedding: Tensor, shapes: Shapes) -> Tree:
        """Models of `shapes` for embeddings [C, k], every tensor [C, ...]."""
        x = self.features(phi, embedding)
        return {
            name: F.linear(x, phi[f"head.{name}.weight"], phi[f"head.{name}.bias"]).unflatten(1, shape)  # type: ignore[no-untyped-call]
            for name, shape in shapes.items()
        }

    def update(self, state: dict[str, Any], ids: Tensor, change: Tree) -> dict[str, Any]:
        """One SGD step along the pull-back of `change` (old minus new weights, every tensor [C, ...]), C clients' mean.

        A state with `frozen` trains the embeddings from row `frozen` on and nothing else.
        """
        phi, table, momentum = state["phi"], state["embedding"], state["momentum"]
        trunk = {name: value for name, value in phi.items() if name.startswith("trunk")}
        inputs = {name: value.detach().requires_grad_() for name, value in {**trunk, "embedding": table}.items()}
        with torch.enable_grad():
            features = self.features(inputs, inputs["embedding"][ids])
        # a head is linear: the gradient of its weight is left^T x, kept as factors left [C, values] and x [C, hidden]
        x = features.detach()
        left = {f"head.{name}": value.flatten(1) / len(ids) for name, value in change.items()}
        behind = sum((g @ phi[f"{head}.weight"] for head, g in left.items()), torch.zeros_like(x))
        with torch.enable_grad():
            # its gradient is the pull-back of `behind`; to be told that by grad_outputs, torch would import sympy
            inner = (features * behind).sum()
        grads = dict(zip(inputs, torch.autograd.grad(inner, list(inputs.values())), strict=True))
        grad_table = grads.pop("embedding")
        rate = self.embedding_lr or self.lr
        if "frozen" in state:
            old, fresh = table[: state["frozen"]], table[state["frozen"] :]
            grad = grad_table[state["frozen"] :]
            fresh, moved = self._step(fresh, momentum["embedding"], grad * self._factor([grad.norm()]), rate)
            return {**state, "embedding": torch.cat([old, fresh]), "momentum": {"embedding": moved}}
        grads = {**grads, **{f"{head}.bias": g.sum(0) for head, g in left.items()}}
        # |left^T x|^2 = trace((left left^T) (x x^T))
        of_heads = [((g @ g.T) * (x @ x.T)).sum().clamp(min=0).sqrt() for g in left.values()]
        factor = self._factor([grad_table.norm(), *(grad.norm() for grad in grads.values()), *of_heads])
        stepped = {name: self._step(phi[name], momentum[name], g * factor, self.lr) for name, g in grads.items()}
        for head, g in left.items():
            name = f"{head}.weight"
            stepped[name] = self._head_step(phi[name], momentum[name], g * factor, x)
        embedding, moved = self._step(table, momentum["embedding"], grad_table * factor, rate)
        return {
            "phi": {name: stepped[name][0] for name in phi},
            "embedding": embedding,
            "momentum": {**{name: stepped[name][1] for name in phi}, "embedding": moved},
        }

    def _factor(self, norms: list[Tensor]) -> Tensor:
        """What clipping multiplies a gradient by whose parts have `norms`, as `clip_grad_norm_` does."""
        return (self.max_norm / (torch.stack(norms).norm() + 1e-6)).clamp(max=1.0)  # type: ignore[no-any-return]

    def _step(self, value: Tensor, momentum: Tensor, grad: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """One step of `torch.optim.SGD`: the new value and the new momentum."""
        momentum = self.momentum * momentum + grad + self.weight_decay * value
        return value - rate * momentum, momentum

    def _head_step(self, weight: Tensor, momentum: Tensor, left: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """`_step` along left^T x, [values, hidden], which for one client is of rank one and never formed."""
        if len(x) > 1:
            return self._step(weight, momentum, left.T @ x, self.lr)
        settings = {"lr": self.lr, "momentum": self.momentum, "weight_decay": self.weight_decay}
        return rank_one_sgd(weight, momentum, left[0], x[0], scale=1.0, **settings)  # type: ignore[arg-type]

    def admit(self, state: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any]:
        """The state with `count` fresh embeddings behind the others, and everything else frozen."""
        table = state["embedding"]
        fresh = torch.randn(count, table.shape[1], generator=rng, dtype=torch.float64).to(table)
        return {
            "phi": state["phi"],
            "embedding": torch.cat([table, fresh]),
            "momentum": {"embedding": torch.zeros_like(fresh)},
            "frozen": len(table),
        }


@dataclass(frozen=True, kw_only=True)
class PFedHN(Method):
    """A hypernetwork on the server generates each client's whole model."""

    title = "pFedHN"
    paper = "Shamsian et al., Personalized Federated Learning using Hypernetworks, ICML 2021"

    clients_per_round: Annotated[int, Field(ge=1, description="clients that the server visits in a round")] = 1
    hypernetwork: Annotated[Hypernetwork, Field(description="the generator and its SGD")] = Hypernetwork()

    def server_init(self, rng: torch.Generator) -> dict[str, Any]:
        task = self.task
        return self.hypernetwork.init(task.network.shapes, task.clients, rng, task.dtype, task.device)

    def server_send(self, server: dict[str, Any], cohort: Cohort) -> Tree:
        return self.hypernetwork.generate(server["phi"], server["embedding"][cohort.ids], self.task.network.shapes)

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        model, _ = train(self.task, self.local, message, batches)
        return tree.sub(message, model), state

    def server_receive(self, server: dict[str, Any], cohort: Cohort, upload: Tree) -> dict[str, Any]:
        return self.hypernetwork.update(server, cohort.ids, upload)

    def server_admit(self, server: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any]:
        return self.hypernetwork.admit(server, count, rng)
