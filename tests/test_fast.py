"""The fast path against the plain one: same numbers, same bits from call to call."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench.task import normalise
from fedbench.tree import Tree

SGD = {"lr": 5e-3, "momentum": 0.9, "weight_decay": 5e-5}
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-12}


def problem(c: int, size: int, classes: int, dtype: torch.dtype, storage: str = "last") -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    # smooth images with saturated areas, as photographs have: equal maxima in a pooling window do occur
    images = F.interpolate(torch.randn(500, c, 8, 8, generator=rng), size, mode="bilinear") * 150 + 128
    images = images.clamp(0, 255).to(torch.uint8)
    if storage == "last":
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (500,), generator=rng)
    mean, std = torch.tensor([0.49, 0.48, 0.45])[:c], torch.tensor([0.25, 0.24, 0.26])[:c]
    return images, labels, mean.to(dtype).view(-1, 1, 1), std.to(dtype).view(-1, 1, 1)


def plain_sgd(network, model: Tree, data: tuple[Tensor, ...], rows: Tensor, max_norm: float, clip=None, buffers=None):
    """`torch.optim.SGD` and `clip_grad_norm_` on the functional network, NCHW."""
    images, labels, mean, std = data
    params = {name: value.clone().contiguous().requires_grad_() for name, value in model.items()}
    optimizer = torch.optim.SGD(params.values(), **SGD)
    for name, value in (buffers or {}).items():
        optimizer.state[params[name]]["momentum_buffer"] = value.clone()
    for index in rows:
        x = normalise(images[index].contiguous(), mean, std)
        optimizer.zero_grad()
        F.cross_entropy(network.logits(params, x), labels[index]).backward()
        torch.nn.utils.clip_grad_norm_([params[name] for name in clip or params], max_norm)
        optimizer.step()
    momentum = {name: optimizer.state[value]["momentum_buffer"] for name, value in params.items()}
    return {name: value.detach() for name, value in params.items()}, momentum


def distance(a: Tree, b: Tree) -> float:
    """The largest relative error of a tensor, in the Euclidean norm."""
    assert list(a) == list(b)
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in b)
