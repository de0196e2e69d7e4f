"""Methods that are right in unusual ways, which the kit must spare.

Each is written from its paper in a few lines; what a table would need besides (their departures) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.check import CheckResult, each_check, sentences
from fedbench.local import SGD, descend, train
from fedbench.method import Cohort, Draw, Method, State
from fedbench.methods.fedavg import FedAvg
from fedbench.plugins import Plugin
from fedbench.tree import Tree

RIGHT: list[type[Method]] = []


def right(cls: type[Method]) -> type[Method]:
    RIGHT.append(cls)
    return cls


def prefixed(trees: Tree, prefix: str) -> Tree:
    return {f"{prefix}.{name}": value for name, value in trees.items()}


def under(trees: Tree, prefix: str) -> Tree:
    return {name.removeprefix(f"{prefix}."): v for name, v in trees.items() if name.startswith(f"{prefix}.")}


@right
@dataclass(frozen=True, kw_only=True)
class FedBuff(FedAvg):
    """A server that waits for five uploads, and takes a step along their mean."""

    title = "FedBuff"
    paper = "Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, AISTATS 2022"

    buffer: Annotated[int, Field(ge=1, description="uploads that a step is made of")] = 5

    def server_init(self, rng: torch.Generator) -> State:
        model = self.task.init(rng)
        return {"model": model, "sum": tree.zeros_like(model), "waiting": 0}

    def server_send(self, server: State, cohort: Cohort) -> Tree:
        return tree.expand(server["model"], len(cohort.ids))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return tree.sub(super().client_train(message, state, batches)[0], message), state

    def server_receive(self, server: State, cohort: Cohort, upload: Tree) -> State:
        total = tree.add_scaled(server["sum"], {name: value.sum(0) for name, value in upload.items()}, 1.0)
        waiting = server["waiting"] + len(cohort.ids)
        if waiting < self.buffer:
            return {"model": server["model"], "sum": total, "waiting": waiting}
        model = tree.add_scaled(server["model"], total, 1 / waiting)
        return {"model": model, "sum": tree.zeros_like(total), "waiting": 0}


@right
@dataclass(frozen=True, kw_only=True)
class WarmUp(FedAvg):
    """A rate that grows over the first hundred rounds: the client is sent the number of the round."""

    title = "FedAvg, warm-up"
    paper = "none"

    def server_init(self, rng: torch.Generator) -> State:
        return {"model": self.task.init(rng), "round": torch.tensor(0)}

    def server_send(self, server: State, cohort: Cohort) -> Tree:
        return tree.expand({**server["model"], "round": server["round"]}, len(cohort.ids))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        share = torch.clamp((1 + message["round"] // 20) / 5, max=1.0)
        model = tree.drop(message, ["round"])
        upload, state = super().client_train(model, state, batches)
        return tree.add_scaled(model, tree.sub(upload, model), share), state

    def server_receive(self, server: State, cohort: Cohort, upload: Tree) -> State:
        return {"model": tree.average(upload, cohort.weight), "round": server["round"] + 1}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.drop(message, ["round"])


@right
@dataclass(frozen=True, kw_only=True)
class Masked(FedAvg):
    """A mask that a client draws when it joins, and keeps: it trains and is scored on its part of the model."""

    title = "Masked FedAvg"
    paper = "none; a static form of LotteryFL"

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        shapes = self.task.network.shapes
        return {f"mask.{name}": (torch.rand(shape, generator=rng) < 0.9).float() for name, shape in shapes.items()}

    def _part(self, message: Tree, state: Tree) -> Tree:
        return {name: value * state[f"mask.{name}"].to(value) for name, value in message.items()}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return super().client_train(self._part(message, state), state, batches)[0], state

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return self._part(message, state)


@right
@dataclass(frozen=True, kw_only=True)
class Ditto(FedAvg):
    """A personal model tied to the global one, trained beside it; it starts from the first message."""

    title = "Ditto"
    paper = "Li et al., Ditto: Fair and Robust Federated Learning Through Personalization, ICML 2021"

    lam: Annotated[float, Field(ge=0, description="weight of the tie to the global model")] = 0.1

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        def tied(model: Tree, rows: Tensor) -> Tree:
            return tree.add_scaled(self.task.grad(model, rows), tree.sub(model, message), self.lam)

        return train(self.task, self.local, message, batches)[0], descend(self.local, tied, state or message, batches)[
            0
        ]

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return state or message

    @property
    def gradients_per_visit(self) -> int:
        return 2 * self.local.steps


@right
@dataclass(frozen=True, kw_only=True)
class Scaffold(FedAvg):
    """One model, whose local steps are corrected by control variates that server and clients keep."""

    title = "SCAFFOLD"
    paper = "Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, ICML 2020"

    local: Annotated[SGD, Field(description="local training")] = SGD(lr=0.05, momentum=0.0)

    def server_init(self, rng: torch.Generator) -> dict[str, Tree]:  # type: ignore[override]
        model = self.task.init(rng)
        return {"model": model, "control": tree.zeros_like(model)}

    def server_send(self, server: dict[str, Tree], cohort: Cohort) -> Tree:  # type: ignore[override]
        return tree.expand({**server["model"], **prefixed(server["control"], "control")}, len(cohort.ids))

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        return tree.zeros_like(self.task.init(rng))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        control = under(message, "control")
        start = tree.drop(message, prefixed(control, "control"))

        def corrected(model: Tree, rows: Tensor) -> Tree:
            return tree.add_scaled(tree.sub(self.task.grad(model, rows), state), control, 1.0)

        model, _ = descend(self.local, corrected, start, batches)
        # option II of the paper: c_i - c + (x - y) / (K lr)
        scale = 1 / (len(batches) * self.local.lr)
        new = tree.add_scaled(tree.sub(state, control), tree.sub(start, model), scale)
        return {**tree.sub(model, start), **prefixed(tree.sub(new, state), "control")}, new

    def server_receive(self, server: dict[str, Tree], cohort: Cohort, upload: Tree) -> dict[str, Tree]:  # type: ignore[override]
        mean = tree.average(upload, cohort.weight)
        share = len(cohort.ids) / self.task.clients
        moved = under(mean, "control")
        return {
            "model": tree.add_scaled(server["model"], mean, 1.0),
            "control": tree.add_scaled(server["control"], moved, share),
        }

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.pick(message, self.task.network.shapes)


@right
@dataclass(frozen=True, kw_only=True)
class IFCA(FedAvg):
    """A few models; each client takes the one with the least loss on its data, and trains it."""

    title = "IFCA"
    paper = "Ghosh et al., An Efficient Framework for Clustered Federated Learning, NeurIPS 2020"

    clusters: Annotated[int, Field(ge=1, description="number of models")] = 2

    def server_init(self, rng: torch.Generator) -> Tree:
        return {k: v for i in range(self.clusters) for k, v in prefixed(self.task.init(rng), str(i)).items()}

    def choose(self, message: Tree, rows: Tensor) -> tuple[Tree, Tensor]:
        models = [under(message, str(i)) for i in range(self.clusters)]
        losses = torch.stack([self.task.loss(model, rows) for model in models])
        chosen = F.one_hot(losses.argmin(), self.clusters).to(losses.dtype)
        return tree.average(tree.stack(models), chosen), chosen

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        start, chosen = self.choose(message, batches[0])
        return {**train(self.task, self.local, start, batches)[0], "chosen": chosen}, {}

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        new = dict(server)
        for i in range(self.clusters):
            weight = cohort.weight * upload["chosen"][:, i].to(cohort.weight)
            if weight.sum() > 0:
                new |= prefixed(tree.average(tree.drop(upload, ["chosen"]), weight / weight.sum()), str(i))
        return new

    @property
    def personalize_draw(self) -> Draw:
        return Draw(1, self.local.batch_size)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return self.choose(message, batches[0])[0]


@right
@dataclass(frozen=True, kw_only=True)
class KNNPer(FedAvg):
    """One model, whose scores are mixed with those of a memory of the client's own features."""

    title = "kNN-Per"
    paper = "Marfoq et al., Personalized Federated Learning through Local Memorization, ICML 2022"

    share: Annotated[float, Field(ge=0, le=1, description="of the memory in the scores")] = 0.5

    def features(self, model: Tree, images: Tensor) -> Tensor:
        """What goes into the head: the scores of the network with the identity for a head."""
        weight, bias = self.task.head
        width = model[weight].shape[1]
        return self.task.logits(
            {**model, weight: torch.eye(width).to(model[weight]), bias: torch.zeros(width).to(model[weight])}, images
        )

    @property
    def personalize_draw(self) -> Draw:
        return Draw(1, 4 * self.local.batch_size)

    @property
    def gradients_to_personalize(self) -> int:
        return 0

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        images, labels = self.task.batch(batches[0])
        known = self.features(message, images)
        return {**message, "memory": known, "labels": torch.where(batches[0] >= 0, labels, -1)}

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        plain = tree.drop(model, ["memory", "labels"])
        far = torch.cdist(self.features(plain, images), model["memory"])
        near = (-far).exp() * (model["labels"] >= 0)
        votes = near @ F.one_hot(model["labels"].clamp(min=0), self.task.classes).to(near)
        votes = votes / votes.sum(1, keepdim=True)
        return (self.share * votes + (1 - self.share) * super().predict(plain, images).softmax(1) + 1e-9).log()


@right
@dataclass(frozen=True, kw_only=True)
class FedBABU(FedAvg):
    """The body is averaged, the head stays as it was drawn, and is trained only before scoring."""

    title = "FedBABU"
    paper = "Oh et al., FedBABU: Toward Enhanced Representation for Federated Image Classification, ICLR 2022"

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        def of_the_body(body: Tree, rows: Tensor) -> Tree:
            return tree.pick(self.task.grad({**message, **body}, rows), body)

        trained, _ = descend(self.local, of_the_body, tree.pick(message, self.task.body), batches)
        return trained, {}

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return {**server, **tree.average(upload, cohort.weight)}

    @property
    def personalize_draw(self) -> Draw:
        return self.train_draw

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return train(self.task, self.local, message, batches)[0]


@right
@dataclass(frozen=True, kw_only=True)
class RemembersItsCluster(FedAvg):
    """Two models: each client trains the one that fits its data better, and remembers which, as a whole number."""

    title = "IFCA with a memory"
    paper = "Ghosh et al., An Efficient Framework for Clustered Federated Learning, NeurIPS 2020"

    def server_init(self, rng: torch.Generator) -> list[Tree]:  # type: ignore[override]
        return [self.task.init(rng), self.task.init(rng)]

    def server_send(self, server: list[Tree], cohort: Cohort) -> Tree:  # type: ignore[override]
        both = {**prefixed(server[0], "0"), **prefixed(server[1], "1")}
        return tree.expand(both, len(cohort.ids))

    def chosen(self, message: Tree, choice: Tensor) -> Tree:
        """The model of that number."""
        one, other = under(message, "0"), under(message, "1")
        return {name: torch.where(choice == 0, one[name], other[name]) for name in one}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        losses = [self.task.loss(under(message, each), batches[0]) for each in ("0", "1")]
        choice = (losses[0] > losses[1]).long()
        return {**train(self.task, self.local, self.chosen(message, choice), batches)[0], "choice": choice}, {
            "choice": choice
        }

    def server_receive(self, server: list[Tree], cohort: Cohort, upload: Tree) -> list[Tree]:  # type: ignore[override]
        trained, made = tree.drop(upload, ["choice"]), []
        for number, model in enumerate(server):
            weight = cohort.weight * (upload["choice"] == number)
            made.append(tree.average(trained, weight / weight.sum()) if weight.any() else model)
        return made

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return self.chosen(message, state.get("choice", torch.tensor(0)))


@right
@dataclass(frozen=True, kw_only=True)
class EveryOtherRound(FedAvg):
    """Sends how the bias moved, and clients begin from it in even rounds only."""

    title = "Every other round"
    paper = "made up"

    def server_init(self, rng: torch.Generator) -> Tree:
        model = self.task.init(rng)
        return {**model, "moved": torch.zeros_like(model[self.task.head[1]])}

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        turn = torch.full((len(cohort.ids),), cohort.round % 2)
        return {**tree.expand(server, len(cohort.ids)), "turn": turn}

    def begin(self, message: Tree) -> Tree:
        bias = self.task.head[1]
        model = tree.drop(message, ["moved", "turn"])
        return {**model, bias: model[bias] + 0.5 * message["moved"] * (message["turn"] == 0)}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return train(self.task, self.local, self.begin(message), batches)[0], state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        model, bias = tree.average(upload, cohort.weight), self.task.head[1]
        return {**model, "moved": model[bias] - server[bias]}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.drop(message, ["moved", "turn"])


def failures(cls: type[Method]) -> list[CheckResult]:
    results = list(each_check(Plugin("right", cls, "right", "0")))
    assert [result.sentence for result in results] == sentences()
    return [result for result in results if result.status != "holds"]


@pytest.mark.slow
@pytest.mark.parametrize("cls", RIGHT, ids=lambda cls: str(cls.__name__))
def test_a_right_method_is_spared(cls: type[Method]) -> None:
    assert [str(result) for result in failures(cls)] == []
