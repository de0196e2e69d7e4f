"""LG-FedAvg: local representations, global top; begun from a FedAvg model.

Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, "Think Locally, Act Globally: Federated Learning with
Local and Global Representations", arXiv 2001.01523, 2020. The first part of a run is FedAvg on the whole model. Then
every client receives what has become its local layers, once, and from there on only the global layers travel.

Which layers are global differs between the paper and its authors' code; `variant` chooses:

* `text`: the last `global_layers` linear layers are global, the layers below them local, as the paper describes.
* `code`: the convolutions are global and every fully connected layer local, as the official CIFAR-10 script runs (it
  keeps two entries of a hand-written list that ends in conv2, conv1). On a network without convolutions: as `text`.

Which of the two Shamsian et al. (2021) ran is not published.

Departures from the paper

1. Global layers are averaged by training samples, as in FedAvg; the official code takes the plain mean.
2. The FedAvg part is a share of the run's rounds: 5/6, after the 5000 + 1000 steps of Shamsian et al. The total effort
   then equals that of the other methods, where theirs was 1000 steps more.
3. The official code picks each client's best model by test accuracy; here validation chooses, as for every method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.errors import BadInput
from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class LGFedAvg(Method):
    """Local lower layers, averaged upper layers, begun from FedAvg."""

    title = "LG-FedAvg"
    paper = "Liang et al., Think Locally, Act Globally, arXiv 2001.01523, 2020"
    depends_on_length = True  # the FedAvg part is a share of the rounds
    deviations = {"message size is constant": "the whole model travels in the FedAvg part, then only the global layers"}

    variant: Annotated[Literal["text", "code"], Field(description="which layers are global: see the docstring")] = (
        "text"
    )
    global_layers: Annotated[int, Field(ge=1, description="how many of the last layers are global, in `text`")] = 1
    fedavg_share: Annotated[float, Field(ge=0, le=1, description="share of the rounds that are FedAvg, first")] = 5 / 6

    def __post_init__(self) -> None:
        layers = len(self.task.network.layers)
        if self.variant == "text" and self.global_layers > layers:
            raise BadInput(f"global_layers = {self.global_layers} is more than the network's {layers} layers")

    @property
    def local_names(self) -> tuple[str, ...]:
        """Parameter names that stay on the client once the FedAvg part is over."""
        network = self.task.network
        if self.variant == "code" and any(layer.startswith("conv") for layer in network.layers):
            return network.names(*(layer for layer in network.layers if not layer.startswith("conv")))
        return network.names(*network.layers[: -self.global_layers])

    def warming_up(self, cohort: Cohort) -> bool:
        """Whether this round belongs to the FedAvg part."""
        return cohort.round < round(self.fedavg_share * cohort.rounds)

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.init(rng)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        sent = server if self.warming_up(cohort) else tree.drop(server, self.local_names)
        return tree.expand(sent, len(cohort.ids))

    def server_welcome(self, server: Tree, cohort: Cohort) -> Tree:
        if self.warming_up(cohort):
            return {}
        return tree.expand(tree.pick(server, self.local_names), len(cohort.ids))

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        return welcome

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        model, _ = train(self.task, self.local, {**message, **state}, batches)
        return tree.pick(model, message), tree.pick(model, state)

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return {**server, **tree.average(upload, cohort.weight)}
