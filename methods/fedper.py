"""FedPer: a shared body, a personal head.

Arivazhagan, Aggarwal, Singh, Choudhary, "Federated Learning with Personalization Layers", arXiv 1912.00818, 2019,
algorithms 1 and 2. The client joins the body it receives with the head it keeps, trains both, and sends the body back;
the server averages bodies by training samples. Heads start at random on each client, as in the paper's algorithm 1.

Departures from the paper

1. K local steps a visit instead of 4 epochs; the optimizer of the pFedHN experiments; LeNet instead of ResNet or
   MobileNet. The personal part is the last linear layer (`personal_layers` = 1), as Shamsian et al. describe it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.errors import BadInput
from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class FedPer(Method):
    """Shared body, personal head."""

    title = "FedPer"
    paper = "Arivazhagan et al., Federated Learning with Personalization Layers, arXiv 1912.00818, 2019"

    personal_layers: Annotated[int, Field(ge=0, description="how many of the last layers stay on the client")] = 1

    def __post_init__(self) -> None:
        layers = len(self.task.network.layers)
        if self.personal_layers > layers:
            raise BadInput(f"personal_layers = {self.personal_layers} is more than the network's {layers} layers")

    @property
    def personal(self) -> tuple[str, ...]:
        """Parameter names that never leave the client."""
        layers = self.task.network.layers
        return self.task.network.names(*layers[len(layers) - self.personal_layers :])

    def server_init(self, rng: torch.Generator) -> Tree:
        return tree.drop(self.task.init(rng), self.personal)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return tree.expand(server, len(cohort.ids))

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        return tree.pick(self.task.init(rng), self.personal)

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        model, _ = train(self.task, self.local, {**message, **state}, batches)
        return tree.pick(model, message), tree.pick(model, state)

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.average(upload, cohort.weight)
