"""Local: every client trains a model of its own and nothing is sent.

The lower reference of every table on personalization: what a client reaches without the others.

Departures from the paper

1. Shamsian et al. (2021) train each client for 2000 steps. Here a client trains in the visits that fall to it, as with
   every other method, so that the effort is equal: V visits of K steps over N clients are V K / N steps for each.
2. Momentum starts at zero at every visit, as for the other methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class Local(Method):
    """No federation: each client keeps its model."""

    title = "Local"
    paper = "baseline without federation, as in Shamsian et al., ICML 2021"
    deviations = {"the server changes after a round": "there is no server, nothing is sent"}

    def server_init(self, rng: torch.Generator) -> Tree:
        return {}

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return {}

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        return self.task.init(rng)

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return {}, train(self.task, self.local, state, batches)[0]

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return server
