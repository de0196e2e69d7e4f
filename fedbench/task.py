"""What a method may know of the problem: the network, the training rows, the loss. Nothing of validation or test.

Letters: M training samples of all clients, B samples of a batch, N training clients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import fast
from fedbench.models import Network
from fedbench.tree import Tree

Grad = Callable[[Tree, Tensor], Tree]  # (model, rows [B]) -> gradient of the loss, entry by entry


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images [B, c, h, w] to floats (x / 255 - mean) / std in the dtype of `mean` [c, 1, 1]."""
    return (images.to(mean.dtype) / 255 - mean) / std


def padded_loss(logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy over the rows that are not padding (-1), a scalar."""
    real = (rows >= 0).to(logits.dtype)
    return (F.cross_entropy(logits, labels, reduction="none") * real).sum() / real.sum()


@dataclass(frozen=True, kw_only=True)
class Task:
    """The learning problem of one run. Its images are the training rows and no others, so nothing else can leak."""

    network: Network
    images: Tensor  # [M, c, h, w] uint8
    labels: Tensor  # [M] int64
    mean: Tensor  # [c, 1, 1]; its dtype is the dtype of everything
    std: Tensor  # [c, 1, 1]
    clients: int  # N; their ids are 0 .. N - 1, clients unseen in training have larger ones
    classes: int
    plain: bool = False  # never take the fast path: what `vmap` needs, and what tests compare with
    networks: tuple[Network, ...] = ()  # all that clients have, `network` among them; by default that one alone

    def __post_init__(self) -> None:
        if not self.networks:
            object.__setattr__(self, "networks", (self.network,))

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of models."""
        return self.mean.dtype

    @property
    def device(self) -> torch.device:
        """Where models and images live."""
        return self.images.device

    @cached_property
    def body(self) -> tuple[str, ...]:
        """Parameter names of the feature extractor."""
        return self.network.body

    @cached_property
    def head(self) -> tuple[str, ...]:
        """Parameter names of the last linear layer."""
        return self.network.head

    def init(self, rng: torch.Generator) -> Tree:
        """A fresh model, drawn on the CPU so that a seed means the same weights on every device."""
        return {name: value.to(self.device) for name, value in self.network.init(rng, self.dtype).items()}

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B, c, h, w] and labels [B] of `rows` [B]; a padded row (-1) yields row 0, to be masked."""
        index = rows.clamp(min=0)
        return normalise(self.images[index], self.mean, self.std), self.labels[index]

    def logits(self, model: Tree, images: Tensor) -> Tensor:
        """Class scores [B, classes] of normalised `images` [B, c, h, w]."""
        return self.network.logits(model, images)

    def loss(self, model: Tree, rows: Tensor) -> Tensor:
        """Mean cross-entropy of `model` on the training `rows` [B] (-1 pads), a scalar; differentiable."""
        images, labels = self.batch(rows)
        return padded_loss(self.logits(model, images), labels, rows)

    def fast_path(self, model: Tree) -> bool:
        """Whether `fedbench.fast` can take `model`."""
        here = self.network.fast and not self.plain and self.device.type == "cpu"
        return here and model.keys() == self.network.shapes.keys()

    def ordered(self, model: Tree) -> Tree:
        """`model` with its entries in forward order, which is how the fast path reads the network off it."""
        return {name: model[name] for name in self.network.shapes}

    def grad(self, model: Tree, rows: Tensor) -> Tree:
        """The gradient of `loss` at `model` with respect to every entry of it; not differentiable itself."""
        if not self.fast_path(model):
            plain: Tree = torch.func.grad(self.loss)(model, rows)
            return plain
        rows = rows[rows >= 0]
        images, labels = self.images[rows], self.labels[rows]
        return fast.lenet_grad(self.ordered(model), images, labels, self.mean, self.std, padding=self.network.padding)[
            1
        ]

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        """Class scores [B, classes] of normalised `images` [B, c, h, w], where no gradient is wanted."""
        if not self.fast_path(model):
            return self.logits(model, images)
        return fast.lenet_logits(self.ordered(model), images, self.network.padding)
