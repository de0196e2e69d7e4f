"""How this processor computes: torch's libraries choose kernels by its make, and other kernels add in another order.

Vector instructions alone do not tell: on an AMD EPYC and an Intel Xeon, both with AVX-512, the losses of the same run
differ from the ninth digit on. So a few small computations are made, and the hash of their bits is kept.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fedbench.runs.torch_settings import set_up_torch

SWITCHES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
BATCH = 64


@cache
def instruction_set() -> str:
    """The vector instructions of the processor, and the switches that limit them."""
    limits = [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *limits])


@cache
def arithmetic() -> str:
    """A hash of what a few small computations give on this processor: where it differs, the bits of runs differ.

    Where it does not, they are the same as far as these computations tell: a forward and backward pass of two
    convolutions and two linear layers, in the shapes of a batch of small images, in both precisions.
    """
    digest = hashlib.sha256()
    with set_up_torch(torch.device("cpu")):
        for dtype in (torch.float32, torch.float64):
            for tensor in _computed(dtype):
                digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _computed(dtype: torch.dtype) -> list[Tensor]:
    """The loss of a small network and its gradients."""
    layers = [((16, 3, 5, 5), 1 / 8), ((32, 16, 5, 5), 1 / 16), ((120, 800), 1 / 16), ((10, 120), 1 / 8)]
    weights = [_numbers(shape, dtype, scale).requires_grad_() for shape, scale in layers]
    images = _numbers((BATCH, 3, 32, 32), dtype, 1.0)
    hidden = F.max_pool2d(F.conv2d(images, weights[0]).relu(), 2)
    hidden = F.max_pool2d(F.conv2d(hidden, weights[1]).relu(), 2).flatten(1)
    logits = F.linear(F.linear(hidden, weights[2]).relu(), weights[3])
    loss = F.cross_entropy(logits, torch.arange(BATCH) % 10)
    return [loss, *torch.autograd.grad(loss, weights)]


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, scale: float) -> Tensor:
    """Numbers between -scale and scale that are the same on every machine: scaled remainders, without a sum."""
    count = int(torch.tensor(shape).prod())
    remainders = torch.arange(count, dtype=torch.int64) * 7919 % 2003 - 1001
    return (remainders.to(dtype) * (scale / 1001)).reshape(shape)
