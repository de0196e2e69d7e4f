"""Networks as pure functions on `dict[str, Tensor]`: parameter shapes, default initial values, logits.

No network here has buffers (running statistics), so a model is its parameters and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench.tree import Tree


@dataclass(frozen=True)
class Network:
    """A network for images of one shape. `layers` are names in forward order, each with `.weight` and `.bias`."""

    name: str
    shapes: dict[str, tuple[int, ...]]  # of every parameter, in forward order
    logits: Callable[[Tree, Tensor], Tensor]  # (parameters, images [B, c, h, w] float) -> [B, classes]
    # convolutions of stride 1, each with maxpool 2 and ReLU, then linear layers with ReLU between them, and nothing
    # else: what `fedbench.fast` knows how to differentiate by hand
    fast: bool = False
    padding: int = 0  # of the convolutions of a `fast` network

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names in forward order; the last one is the linear classifier, the *head*."""
        return tuple(name.removesuffix(".weight") for name in self.shapes if name.endswith(".weight"))

    def names(self, *layers: str) -> tuple[str, ...]:
        """The parameter names of `layers`."""
        return tuple(name for name in self.shapes if name.rsplit(".", 1)[0] in layers)

    @property
    def head(self) -> tuple[str, ...]:
        """Parameter names of the last linear layer, the part that FedPer and pFedHN-PC keep on the client."""
        return self.names(self.layers[-1])

    @property
    def body(self) -> tuple[str, ...]:
        """Parameter names of everything before the head."""
        return self.names(*self.layers[:-1])

    def init(self, rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tree:
        """Initial parameters as `torch.nn.Linear` and `Conv2d` draw them: uniform in +-1 / sqrt(fan_in).

        A layer whose weight is one number a channel is a normalisation and begins as torch's: weight 1, bias 0.
        """
        tree: Tree = {}
        for layer in self.layers:
            shape = self.shapes[f"{layer}.weight"]
            for name in self.names(layer):
                if len(shape) == 1:
                    tree[name] = torch.full(self.shapes[name], float(name.endswith(".weight")), dtype=dtype)
                else:
                    tree[name] = _uniform(self.shapes[name], prod(shape[1:]), rng, dtype)
        return tree


def linear_init(name: str, rows: int, columns: int, rng: torch.Generator, dtype: torch.dtype) -> Tree:
    """`name.weight` [rows, columns] and `name.bias` [rows] as `torch.nn.Linear` draws them."""
    shapes = {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return {key: _uniform(shape, columns, rng, dtype) for key, shape in shapes.items()}


def _uniform(shape: tuple[int, ...], fan_in: int, rng: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype).uniform_(-1 / sqrt(fan_in), 1 / sqrt(fan_in), generator=rng)


def _shapes(weights: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, shape in weights.items():
        shapes[f"{layer}.weight"] = shape
        shapes[f"{layer}.bias"] = shape[:1]
    return shapes


def _linear(p: Tree, layer: str, x: Tensor) -> Tensor:
    return F.linear(x, p[f"{layer}.weight"], p[f"{layer}.bias"])


def _conv(p: Tree, layer: str, x: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, p[f"{layer}.weight"], p[f"{layer}.bias"], padding=padding)


def _pool(x: Tensor) -> Tensor:
    # relu(maxpool(x)) = maxpool(relu(x)) since both are monotone; this order does a quarter of the work
    return F.relu(F.max_pool2d(x, 2))


def lenet(image: tuple[int, int, int], classes: int, width: int = 16) -> Network:
    """The target network of Shamsian et al. (2021) for CIFAR, as their released code has it.

    conv 5x5 (c -> F), ReLU, maxpool 2, conv 5x5 (F -> 2F), ReLU, maxpool 2, fc 120, ReLU, fc 84, ReLU, fc classes; no
    padding. F = `width`: 16, and 8 or 32 for the small and the large client of the paper's computational-budget
    experiment. The paper's text speaks of two fully connected layers, the code has three.
    """
    c, h, w = image
    flat = 2 * width * prod(max(0, ((side - 4) // 2 - 4) // 2) for side in (h, w))

    def logits(p: Tree, x: Tensor) -> Tensor:
        x = _pool(_conv(p, "conv1", x))
        x = _pool(_conv(p, "conv2", x)).flatten(1)
        x = F.relu(_linear(p, "fc2", F.relu(_linear(p, "fc1", x))))
        return _linear(p, "fc3", x)

    shapes = _shapes(
        {
            "conv1": (width, c, 5, 5),
            "conv2": (2 * width, width, 5, 5),
            "fc1": (120, flat),
            "fc2": (84, 120),
            "fc3": (classes, 84),
        }
    )
    return Network("lenet" if width == 16 else f"lenet-{width}", shapes, logits, fast=True)


def mlp(image: tuple[int, int, int], classes: int, hidden: int, name: str) -> Network:
    """pixels -> hidden, ReLU, hidden -> classes.

    With 100 hidden units this is the MNIST target of the first version of the official pFedHN code (784-100-10).
    """

    def logits(p: Tree, x: Tensor) -> Tensor:
        return _linear(p, "fc2", F.relu(_linear(p, "fc1", x.flatten(1))))

    return Network(name, _shapes({"fc1": (hidden, prod(image)), "fc2": (classes, hidden)}), logits, fast=True)


def omniglot_net(image: tuple[int, int, int], classes: int) -> Network:
    """Four convolutions of 16, 32, 64, 128 kernels and the fully connected layers of the LeNet.

    The widths and "otherwise as for CIFAR" are the first author's answer on the official repository; kernel size,
    padding and pooling are not published. Chosen here: 3x3 with padding 1, each followed by ReLU and maxpool 2.
    """
    c, h, w = image
    flat = 128 * (h // 16) * (w // 16)

    def logits(p: Tree, x: Tensor) -> Tensor:
        for layer in ("conv1", "conv2", "conv3", "conv4"):
            x = _pool(_conv(p, layer, x, padding=1))
        x = F.relu(_linear(p, "fc2", F.relu(_linear(p, "fc1", x.flatten(1)))))
        return _linear(p, "fc3", x)

    convs = {"conv1": (16, c, 3, 3), "conv2": (32, 16, 3, 3), "conv3": (64, 32, 3, 3), "conv4": (128, 64, 3, 3)}
    shapes = _shapes({**convs, "fc1": (120, flat), "fc2": (84, 120), "fc3": (classes, 84)})
    return Network("omniglot", shapes, logits, fast=True, padding=1)


Build = Callable[[tuple[int, int, int], int], Network]  # (image shape [c, h, w], classes) -> network

NETWORKS: dict[str, Build] = {
    "lenet": lambda image, classes: lenet(image, classes, 16),
    "lenet-8": lambda image, classes: lenet(image, classes, 8),
    "lenet-32": lambda image, classes: lenet(image, classes, 32),
    "mnist-mlp": lambda image, classes: mlp(image, classes, 100, "mnist-mlp"),
    "mlp-digits": lambda image, classes: mlp(image, classes, 32, "mlp-digits"),
    "omniglot": omniglot_net,
}
ALIASES = {"lenet-16": "lenet"}  # other names of a network, which is known by one
