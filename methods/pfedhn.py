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

Clients may have different networks (`mixed`): one trunk, and heads for each network, as the first author describes the
experiment with three sizes. A round changes the trunk and the heads of the networks that it visited.

Two options of the released code and of the paper's appendix: `spectral_norm` divides every weight of the hypernetwork
by its largest singular value, and `representation="class-shares"` replaces the learned embedding of a client by the
shares of the classes among its training samples, which the server must then know.

Departures from the paper

1. Several clients a round (`clients_per_round`; the authors only ran one) average their gradients.
2. What the server does for unseen clients is described but not specified: here the network is frozen and fresh N(0, 1)
   embeddings are trained with the same rate, momentum, decay and clipping.
3. The largest singular value is exact at every use; the released code's wrapper takes one power iteration a step.
4. Heads of networks that a round did not visit are left alone: without a gradient there is no decay and no momentum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.fast import rank_one_sgd
from fedbench.local import SGD, train
from fedbench.method import Cohort, Method
from fedbench.models import Network, linear_init
from fedbench.search import PERSONAL_RATES, RATES, Grid
from fedbench.task import Task
from fedbench.tree import Tree

Shapes = dict[str, tuple[int, ...]]


def spectrally_normalised(weight: Tensor) -> Tensor:
    """`weight` [O, I] over its largest singular value; differentiable."""
    with torch.no_grad():  # the right singular vector, which may stand still: the gradient of |W v| is then u v^T
        right = torch.linalg.eigh(weight.T @ weight).eigenvectors[:, -1]
    normalised: Tensor = weight / torch.linalg.vector_norm(weight @ right)
    return normalised


@dataclass(frozen=True, kw_only=True)
class Hypernetwork:
    """A generator of models and the SGD that trains it. State: `phi`, `embedding` [N, k], `momentum` of both.

    The state has no `embedding` where the representation of clients is fixed.
    """

    lr: Annotated[float, Field(gt=0, description="server rate alpha"), Grid(*RATES)] = 1e-2
    embedding_lr: Annotated[float | None, Field(gt=0, description="rate of the embeddings; none: as lr")] = None
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum of the server's SGD")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="L2 penalty on everything the server trains")] = 1e-3
    max_norm: Annotated[float, Field(gt=0, description="the server's gradient is clipped to this global norm")] = 50.0
    embedding_size: Annotated[int | None, Field(ge=1, description="k; none: int(1 + N / 4)")] = None
    hidden: Annotated[int, Field(ge=1, description="width of the trunk")] = 100
    hidden_layers: Annotated[int, Field(ge=0, description="layers of the trunk after the first")] = 3
    spectral_norm: Annotated[bool, Field(description="every weight has a largest singular value of 1")] = False
    representation: Annotated[
        Literal["learned", "class-shares"], Field(description="of a client: an embedding, or its fixed class shares")
    ] = "learned"

    def init(
        self,
        shapes: Shapes,
        clients: int,
        rng: torch.Generator,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
        classes: int = 0,
    ) -> dict[str, Any]:
        """The state for models of `shapes` and N = `clients`, as PyTorch initialises `Embedding` and `Linear`.

        Drawn on the CPU, so that a seed means the same weights on every device. `classes` is the length of a fixed
        representation.
        """
        fixed = self.representation == "class-shares"
        k = classes if fixed else self.embedding_size or int(1 + clients / 4)
        phi: Tree = {}
        for i in range(self.hidden_layers + 1):
            phi.update(linear_init(f"trunk{i}", self.hidden, k if i == 0 else self.hidden, rng, dtype))
        for name, shape in shapes.items():
            phi.update(linear_init(f"head.{name}", prod(shape), self.hidden, rng, dtype))
        phi = {name: value.to(device) for name, value in phi.items()}
        if fixed:
            return {"phi": phi, "momentum": tree.zeros_like(phi)}
        embedding = torch.randn(clients, k, generator=rng, dtype=torch.float64).to(device, dtype)
        momentum = {**tree.zeros_like(phi), "embedding": torch.zeros_like(embedding)}
        return {"phi": phi, "embedding": embedding, "momentum": momentum}

    def vectors(self, state: dict[str, Any], cohort: Cohort) -> Tensor:
        """What stands for each client of the cohort, [C, k]."""
        if self.representation == "class-shares":
            return cohort.class_shares
        found: Tensor = state["embedding"][cohort.ids]
        return found

    def weight(self, phi: Tree, layer: str) -> Tensor:
        """The weight that `layer` multiplies by."""
        weight = phi[f"{layer}.weight"]
        return spectrally_normalised(weight) if self.spectral_norm else weight

    def features(self, phi: Tree, vectors: Tensor) -> Tensor:
        """The trunk: what stands for clients [C, k] to features [C, hidden]."""
        x = F.linear(vectors, self.weight(phi, "trunk0"), phi["trunk0.bias"])
        for i in range(1, self.hidden_layers + 1):
            x = F.linear(F.relu(x), self.weight(phi, f"trunk{i}"), phi[f"trunk{i}.bias"])
        return x

    def generate(self, phi: Tree, vectors: Tensor, shapes: Shapes) -> Tree:
        """Models of `shapes` for vectors [C, k], every tensor [C, ...]."""
        x = self.features(phi, vectors)
        return {
            name: F.linear(x, self.weight(phi, f"head.{name}"), phi[f"head.{name}.bias"]).unflatten(1, shape)  # type: ignore[no-untyped-call]
            for name, shape in shapes.items()
        }

    def update(self, state: dict[str, Any], cohort: Cohort, change: Tree) -> dict[str, Any]:
        """One SGD step along the pull-back of `change` (old minus new weights, every tensor [C, ...]), C clients' mean.

        A state with `frozen` trains the embeddings from row `frozen` on and nothing else. Heads of which `change` has
        nothing stay as they are.
        """
        phi, momentum = state["phi"], state["momentum"]
        grads, left, x = (self._dense if self.spectral_norm else self._factored)(state, cohort, change)
        grad_table = grads.pop("embedding", None)
        rate = self.embedding_lr or self.lr
        if "frozen" in state:
            assert grad_table is not None  # a fixed representation is never frozen
            table = state["embedding"]
            old, fresh = table[: state["frozen"]], table[state["frozen"] :]
            grad = grad_table[state["frozen"] :]
            fresh, moved = self._step(fresh, momentum["embedding"], grad * self._factor([grad.norm()]), rate)
            return {**state, "embedding": torch.cat([old, fresh]), "momentum": {"embedding": moved}}
        # |left^T x|^2 = trace((left left^T) (x x^T))
        of_heads = [((g @ g.T) * (x @ x.T)).sum().clamp(min=0).sqrt() for g in left.values()]
        of_table = [] if grad_table is None else [grad_table.norm()]
        factor = self._factor([*of_table, *(grad.norm() for grad in grads.values()), *of_heads])
        stepped = {name: self._step(phi[name], momentum[name], g * factor, self.lr) for name, g in grads.items()}
        for head, g in left.items():
            name = f"{head}.weight"
            stepped[name] = self._head_step(phi[name], momentum[name], g * factor, x)
        kept = {name: (phi[name], momentum[name]) for name in phi} | stepped
        new: dict[str, Any] = {
            "phi": {name: kept[name][0] for name in phi},
            "momentum": {name: kept[name][1] for name in phi},
        }
        if grad_table is None:
            return new
        embedding, moved = self._step(state["embedding"], momentum["embedding"], grad_table * factor, rate)
        return {**new, "embedding": embedding, "momentum": {**new["momentum"], "embedding": moved}}

    def _inputs(self, state: dict[str, Any], names: Iterable[str]) -> Tree:
        """The entries `names` of phi, and the embeddings where they are learned, to be differentiated by."""
        values = {name: state["phi"][name] for name in names}
        if "embedding" in state:
            values["embedding"] = state["embedding"]
        return {name: value.detach().requires_grad_() for name, value in values.items()}

    def _factored(self, state: dict[str, Any], cohort: Cohort, change: Tree) -> tuple[Tree, Tree, Tensor]:
        """The pull-back of `change`: gradients, and those of the heads' weights as factors.

        A head is linear: the gradient of its weight is left^T x, kept as left [C, values] and x [C, hidden].
        """
        phi = state["phi"]
        inputs = self._inputs(state, [name for name in phi if name.startswith("trunk")])
        with torch.enable_grad():
            features = self.features(inputs, self.vectors(inputs, cohort))
        x = features.detach()
        left = {f"head.{name}": value.flatten(1) / len(x) for name, value in change.items()}
        behind = sum((g @ phi[f"{head}.weight"] for head, g in left.items()), torch.zeros_like(x))
        with torch.enable_grad():
            # its gradient is the pull-back of `behind`; to be told that by grad_outputs, torch would import sympy
            inner = (features * behind).sum()
        grads = dict(zip(inputs, torch.autograd.grad(inner, list(inputs.values())), strict=True))
        return {**grads, **{f"{head}.bias": g.sum(0) for head, g in left.items()}}, left, x

    def _dense(self, state: dict[str, Any], cohort: Cohort, change: Tree) -> tuple[Tree, Tree, Tensor]:
        """The pull-back of `change` through normalised weights, whose gradients are not of rank one: no factors."""
        heads = tuple(f"head.{name}." for name in change)
        inputs = self._inputs(state, [name for name in state["phi"] if name.startswith(("trunk", *heads))])
        with torch.enable_grad():
            vectors = self.vectors(inputs, cohort)
            made = self.generate(inputs, vectors, {name: value.shape[1:] for name, value in change.items()})
            inner = torch.stack([(made[name] * value).sum() for name, value in change.items()]).sum() / len(vectors)
        grads = torch.autograd.grad(inner, list(inputs.values()))
        return dict(zip(inputs, grads, strict=True)), {}, torch.empty(0)

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

    def admit(self, state: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any] | None:
        """The state with `count` fresh embeddings behind the others, and everything else frozen.

        None where there are no embeddings: what stands for the clients is known already.
        """
        if "embedding" not in state:
            return None
        table = state["embedding"]
        fresh = torch.randn(count, table.shape[1], generator=rng, dtype=torch.float64).to(table)
        return {
            "phi": state["phi"],
            "embedding": torch.cat([table, fresh]),
            "momentum": {"embedding": torch.zeros_like(fresh)},
            "frozen": len(table),
        }


def key(task: Task, network: Network, name: str) -> str:
    """What the head is called that writes the parameter `name`; where there are several networks, after `network`."""
    return name if len(task.networks) == 1 else f"{network.name}.{name}"


@dataclass(frozen=True, kw_only=True)
class PFedHN(Method):
    """A hypernetwork on the server generates each client's whole model."""

    title = "pFedHN"
    paper = "Shamsian et al., Personalized Federated Learning using Hypernetworks, ICML 2021"
    mixed = True

    local: Annotated[SGD, Field(description="local training"), Grid(*PERSONAL_RATES, of="lr")] = SGD()
    clients_per_round: Annotated[int, Field(ge=1, description="clients that the server visits in a round")] = 1
    hypernetwork: Annotated[Hypernetwork, Field(description="the generator and its SGD")] = Hypernetwork()

    def server_init(self, rng: torch.Generator) -> dict[str, Any]:
        task = self.task
        heads = {key(task, each, name): shape for each in task.networks for name, shape in each.shapes.items()}
        return self.hypernetwork.init(heads, task.clients, rng, task.dtype, task.device, task.classes)

    def server_send(self, server: dict[str, Any], cohort: Cohort) -> Tree:
        network = self.task.network
        heads = {key(self.task, network, name): shape for name, shape in network.shapes.items()}
        made = self.hypernetwork.generate(server["phi"], self.hypernetwork.vectors(server, cohort), heads)
        return dict(zip(network.shapes, made.values(), strict=True))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        model, _ = train(self.task, self.local, message, batches)
        return tree.sub(message, model), state

    def server_receive(self, server: dict[str, Any], cohort: Cohort, upload: Tree) -> dict[str, Any]:
        change = {key(self.task, self.task.network, name): value for name, value in upload.items()}
        return self.hypernetwork.update(server, cohort, change)

    def server_admit(self, server: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any] | None:
        return self.hypernetwork.admit(server, count, rng)

    def server_embeddings(self, server: dict[str, Any]) -> Tensor | None:
        return server.get("embedding")
