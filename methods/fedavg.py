"""FedAvg: one model, averaged.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, algorithm 1. The server sends w, every client of the cohort trains it for K steps, and
w <- sum_i (m_i / m) w_i with m_i the client's training samples. Every client is scored with the one w.

Departures from the paper

1. A visit is K local steps on fresh batches, not E epochs, so that all methods do the same work a visit.
2. The optimizer is the one of the pFedHN experiments (momentum, weight decay, clipping), not plain SGD. Its rate, not
   published for FedAvg, was chosen on validation: on CIFAR-10 with 10 clients and 200 visits, one seed, 5e-3 beat 1e-2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedbench import tree
from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class FedAvg(Method):
    """One shared model."""

    title = "FedAvg"
    paper = "McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017"

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.init(rng)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return tree.expand(server, len(cohort.ids))

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        return train(self.task, self.local, message, batches)[0], state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.average(upload, cohort.weight)
