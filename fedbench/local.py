"""SGD as a value, and the local loop: the hot path of every method.

Letters: K local steps, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedbench import fast, tree
from fedbench.search import RATES, Grid
from fedbench.task import Grad, Task
from fedbench.tree import Tree


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Minibatch SGD on a client. The defaults are those of the released pFedHN code."""

    lr: Annotated[float, Field(gt=0, description="learning rate"), Grid(*RATES)] = 5e-3
    momentum: Annotated[float, Field(ge=0, lt=1, description="momentum, started at zero at every visit")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="L2 penalty added to the gradient")] = 5e-5
    max_norm: Annotated[float, Field(gt=0, description="gradients are clipped to this global norm at every step")] = (
        50.0
    )
    steps: Annotated[int, Field(ge=1, description="local steps K of one visit")] = 50
    batch_size: Annotated[int, Field(ge=1, description="samples B of a batch, all of the client's if it has fewer")] = (
        64
    )

    def step(self, model: Tree, grads: Tree, momentum: Tree, clip: Collection[str] | None = None) -> tuple[Tree, Tree]:
        """One step of `clip_grad_norm_` and `torch.optim.SGD`: the new model and the new momentum.

        `clip` names the entries whose common norm is clipped, all of them by default.
        """
        clipped = grads if clip is None else tree.pick(grads, clip)
        factor = (self.max_norm / (tree.norm(clipped.values()) + 1e-6)).clamp(max=1.0)
        grads = {name: g * factor if name in clipped else g for name, g in grads.items()}
        momentum = {
            name: self.momentum * momentum[name] + grads[name] + self.weight_decay * value
            for name, value in model.items()
        }
        return tree.add_scaled(model, momentum, -self.lr), momentum


def descend(
    sgd: SGD,
    grad: Grad,
    model: Tree,
    batches: Tensor,
    momentum: Tree | None = None,
    clip: Collection[str] | None = None,
) -> tuple[Tree, Tree]:
    """K steps of `sgd` along any `grad` over `batches` [K, B]; the model and the momentum they end with."""
    momentum = momentum or {}
    momentum = {name: momentum.get(name, torch.zeros_like(value)) for name, value in model.items()}
    for rows in batches:
        model, momentum = sgd.step(model, grad(model, rows), momentum, clip)
    return model, momentum


def train(
    task: Task,
    sgd: SGD,
    model: Tree,
    batches: Tensor,
    momentum: Tree | None = None,
    clip: Collection[str] | None = None,
) -> tuple[Tree, Tree]:
    """K steps of `sgd` on the loss of `task` over `batches` [K, B] of row numbers, -1 pads.

    `momentum` holds what some entries start with (the others start at zero), `clip` the names whose gradient norm is
    clipped (all by default). Returns the trained model and its momentum; the arguments are left alone.
    """
    if not task.fast_path(model) or bool((batches < 0).any()):
        return descend(sgd, task.grad, model, batches, momentum, clip)
    return fast.lenet_sgd(
        task.ordered(model),
        task.images,
        task.labels,
        batches,
        mean=task.mean,
        std=task.std,
        lr=sgd.lr,
        momentum=sgd.momentum,
        weight_decay=sgd.weight_decay,
        max_norm=sgd.max_norm,
        buffers=momentum,
        clip=clip,
        padding=task.network.padding,
    )
