"""pFedHN-PC: the hypernetwork writes the feature extractor, the classifier stays on the client.

Shamsian, Navon, Fetaya, Chechik, ICML 2021, section on personal classifiers. As pFedHN, but theta_i stops before the
last linear layer. Extractor and head descend on the same minibatch gradient; the extractor's change is sent, the head
never. As in the released code, the head's momentum lives on between visits while the extractor's starts at zero, and
only the extractor's gradient is clipped. The server rate is five times that of pFedHN.

Departures from the paper

1. Those of pFedHN.
2. For unseen clients the head is new as well, and trained like any head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.local import SGD, train
from fedbench.method import Cohort, Method
from fedbench.methods.pfedhn import Hypernetwork, key  # type: ignore[import-not-found]
from fedbench.search import PERSONAL_RATES, Grid
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class PFedHNPC(Method):
    """A hypernetwork on the server generates each client's feature extractor; the head is personal."""

    title = "pFedHN-PC"
    paper = "Shamsian et al., Personalized Federated Learning using Hypernetworks, ICML 2021"

    mixed = True

    local: Annotated[SGD, Field(description="local training"), Grid(*PERSONAL_RATES, of="lr")] = SGD()
    clients_per_round: Annotated[int, Field(ge=1, description="clients that the server visits in a round")] = 1
    hypernetwork: Annotated[Hypernetwork, Field(description="the generator and its SGD")] = Hypernetwork(lr=5e-2)

    def server_init(self, rng: torch.Generator) -> dict[str, Any]:
        task = self.task
        heads = {key(task, each, name): each.shapes[name] for each in task.networks for name in each.body}
        return self.hypernetwork.init(heads, task.clients, rng, task.dtype, task.device, task.classes)  # type: ignore[no-any-return]

    def server_send(self, server: dict[str, Any], cohort: Cohort) -> Tree:
        network = self.task.network
        heads = {key(self.task, network, name): network.shapes[name] for name in self.task.body}
        made = self.hypernetwork.generate(server["phi"], self.hypernetwork.vectors(server, cohort), heads)
        return dict(zip(self.task.body, made.values(), strict=True))

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        head = tree.pick(self.task.init(rng), self.task.head)
        return {**head, **{f"momentum.{name}": torch.zeros_like(value) for name, value in head.items()}}

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        kept = {name: state[f"momentum.{name}"] for name in self.task.head}
        start = self.client_personalize(message, state, batches)
        model, momentum = train(self.task, self.local, start, batches, momentum=kept, clip=self.task.body)
        head = {name: model[name] for name in self.task.head}
        return tree.sub(message, model), {**head, **{f"momentum.{name}": momentum[name] for name in head}}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return {**message, **tree.pick(state, self.task.head)}

    def server_receive(self, server: dict[str, Any], cohort: Cohort, upload: Tree) -> dict[str, Any]:
        change = {key(self.task, self.task.network, name): value for name, value in upload.items()}
        return self.hypernetwork.update(server, cohort, change)  # type: ignore[no-any-return]

    def server_admit(self, server: dict[str, Any], count: int, rng: torch.Generator) -> dict[str, Any] | None:
        return self.hypernetwork.admit(server, count, rng)  # type: ignore[no-any-return]

    def server_embeddings(self, server: dict[str, Any]) -> Tensor | None:
        return server.get("embedding")
