"""Per-FedAvg: a shared starting point from which one gradient step personalizes.

Fallah, Mokhtari, Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
Meta-Learning Approach", NeurIPS 2020, algorithm 1. It minimises F(w) = (1/N) sum_i f_i(w - a grad f_i(w)). One local
step uses independent batches D, D', D'' (g gradient, H Hessian of the client's loss):

    u = w - a g(w; D)
    exact:  w <- w - b (I - a H(w; D'')) g(u; D')
    fo:     w <- w - b g(u; D')                                 the Hessian term dropped
    hf:     w <- w - b (v - a [g(w + d v; D'') - g(w - d v; D'')] / (2 d)),   v = g(u; D')

b is `local.lr`. The personal model is one step of rate a from w on a batch of the client's own training data.

Departures from the paper

1. The server weights clients by training samples; the paper takes the plain mean.
2. The step b uses the optimizer of the pFedHN experiments, with momentum and clipping; `local.momentum=0` is the paper.
3. Shamsian et al. (2021) do not say which variant or rates they ran. `fo` is the default because it costs two
   gradients a step where `exact` and `hf` cost four. a = 1e-2 is the usual default; b is the client rate of the
   released pFedHN configuration. Neither was tuned here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.local import descend
from fedbench.method import Cohort, Draw, Method
from fedbench.search import PERSONAL_RATES, Grid
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class PerFedAvg(Method):
    """A shared model that one gradient step personalizes."""

    title = "Per-FedAvg"
    paper = "Fallah et al., Personalized Federated Learning with Theoretical Guarantees, NeurIPS 2020"

    variant: Annotated[Literal["fo", "exact", "hf"], Field(description="first-order, exact, or Hessian-free")] = "fo"
    alpha: Annotated[float, Field(ge=0, description="rate a of the personalizing step"), Grid(*PERSONAL_RATES)] = 1e-2
    delta: Annotated[float, Field(gt=0, description="half-width d of the finite difference in `hf`")] = 1e-3

    def server_init(self, rng: torch.Generator) -> Tree:
        return self.task.init(rng)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        return tree.expand(server, len(cohort.ids))

    @property
    def batches_per_step(self) -> int:
        """D and D', and D'' where the Hessian is used."""
        return 2 if self.variant == "fo" else 3

    @property
    def gradients_per_visit(self) -> int:
        """g(w) and g(u), and where the Hessian is used as much again for its product with a vector."""
        return self.local.steps * (2 if self.variant == "fo" else 4)

    @property
    def train_draw(self) -> Draw:
        return Draw(self.local.steps * self.batches_per_step, self.local.batch_size)

    def meta_gradient(self, model: Tree, rows: Tensor) -> Tree:
        """The gradient of f(w - a grad f(w)) in the chosen variant; `rows` [2 or 3, B] are D, D' (and D'')."""
        grad = self.task.grad
        adapted = tree.add_scaled(model, grad(model, rows[0]), -self.alpha)
        v = grad(adapted, rows[1])
        if self.variant == "fo":
            return v
        if self.variant == "hf":
            ahead = grad(tree.add_scaled(model, v, self.delta), rows[2])
            behind = grad(tree.add_scaled(model, v, -self.delta), rows[2])
            return tree.add_scaled(v, tree.sub(ahead, behind), -self.alpha / (2 * self.delta))
        # the Hessian is symmetric, so its product with v is the pull-back of v through the gradient
        pull_back = torch.func.vjp(lambda w: torch.func.grad(self.task.loss)(w, rows[2]), model)[1]
        return tree.add_scaled(v, pull_back(v)[0], -self.alpha)

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        grouped = batches.unflatten(0, (self.local.steps, self.batches_per_step))  # type: ignore[no-untyped-call]
        return descend(self.local, self.meta_gradient, message, grouped)[0], state

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return tree.average(upload, cohort.weight)

    @property
    def personalize_draw(self) -> Draw:
        return Draw(1, self.local.batch_size)

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        return tree.add_scaled(message, self.task.grad(message, batches[0]), -self.alpha)
