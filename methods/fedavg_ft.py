"""FedAvg-FT: FedAvg, and every client fine-tunes the shared model on its own data before it is scored.

The cheap reference that every personalized method has to beat: Wang et al. 2019 (arXiv 1910.10252), Yu et al. 2020
(arXiv 2002.04758). Training is FedAvg's to the last bit; only `client_personalize` differs.

Departures from the paper

1. The number of fine-tuning steps is a hyperparameter in steps, not epochs. Its default, one visit's worth (50 steps),
   and the rate, that of training, were chosen for likeness to a visit and are not from a paper.
2. All layers are tuned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.local import SGD, train
from fedbench.method import Cohort, Draw, Method
from fedbench.search import PERSONAL_RATES, Grid
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class FedAvgFT(Method):
    """One shared model, fine-tuned by each client before it is scored."""

    title = "FedAvg-FT"
    paper = "Wang et al., Federated Evaluation of On-device Personalization, arXiv 1910.10252, 2019"

    tuning: Annotated[SGD, Field(description="fine-tuning before scoring"), Grid(*PERSONAL_RATES, of="lr")] = SGD()

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.init(rng)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return tree.expand(server, len(cohort.ids))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return train(self.task, self.local, message, batches)[0], state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.average(upload, cohort.weight)

    @property
    def personalize_draw(self) -> Draw:
        return Draw(self.tuning.steps, self.tuning.batch_size)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return train(self.task, self.tuning, message, batches)[0]
