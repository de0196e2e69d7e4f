"""The fast path on a CPU: local SGD of the LeNet with a hand-written backward, and SGD on rank-one gradients.

The numbers are those of the plain path up to rounding, and the bits repeat from call to call. The net is read off the
model: convolutions (each with max-pooling 2 and ReLU), then linear layers with ReLU between them, in the order of the
dict. Letters: M samples, B batch, K steps, c channels, h x w pixels, O x I entries of a matrix.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from fedbench.tree import Tree

_aten = torch.ops.aten


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for it is wanted again in the next step.

    Otherwise glibc gives large blocks back to the kernel, which clears their pages anew in every step. Call it once
    when a process starts. Changes no number; False where there is no glibc, and then nothing is done.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    no_mmap = libc.mallopt(-4, 0)  # M_MMAP_MAX: blocks of 32 MB and more come from the heap as well
    return bool(no_mmap and libc.mallopt(-1, 2**30))  # M_TRIM_THRESHOLD: up to 1 GB of freed heap is kept


class _Block(NamedTuple):
    """What the backward of one convolution, pooling and ReLU needs."""

    name: str
    x: Tensor  # input
    y: Tensor  # after the convolution
    q: Tensor  # after the pooling
    index: Tensor | None  # where the maxima were (the blocked layout keeps that inside of `q`)
    p: Tensor  # after the ReLU, the output


def _pool(y: Tensor, train: bool) -> tuple[Tensor, Tensor | None]:
    if not y.is_mkldnn:
        return _aten.max_pool2d_with_indices(y, [2, 2])
    # oneDNN notes where the maxima are only for an input that asks for a gradient
    with torch.set_grad_enabled(train):
        return _aten.mkldnn_max_pool2d(y.detach().requires_grad_(train), [2, 2], [2, 2]).detach(), None


def _unpool(grad: Tensor, block: _Block) -> Tensor:
    if block.index is None:
        return _aten.mkldnn_max_pool2d_backward(grad, block.q, block.y, [2, 2], [2, 2])
    return _aten.max_pool2d_with_indices_backward(
        grad, block.y, [2, 2], [2, 2], [0, 0], [1, 1], False, block.index
    )


def _forward(model: Tree, x: Tensor, padding: int, train: bool) -> tuple[list[_Block], list[tuple[str, Tensor]], Tensor]:
    """The blocks, the input of every linear layer, and the logits [B, classes], of float images x [B, c, h, w]."""
    names = [name.removesuffix(".weight") for name in model if name.endswith(".weight")]
    convs = [name for name in names if model[f"{name}.weight"].ndim == 4]
    if convs and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        x = x.to_mkldnn()  # only a layout: blocks of 16 channels, which every operation up to `to_dense` reads and writes
    blocks, inputs = [], []
    for name in convs:
        y = torch.conv2d(x, model[f"{name}.weight"], model[f"{name}.bias"], padding=padding)
        q, index = _pool(y, train)
        p = q.relu()  # relu(max(y)) = max(relu(y)), gradients included: both are zero where the maximum is not positive
        blocks.append(_Block(name, x, y, q, index, p))
        x = p
    x = (x.to_dense() if x.is_mkldnn else x).flatten(1)
    for name in names[len(convs) :]:
        x = x.relu_() if inputs else x
        inputs.append((name, x))
        x = torch.addmm(model[f"{name}.bias"], x, model[f"{name}.weight"].t())
    return blocks, inputs, x


def _backward(
    model: Tree, blocks: list[_Block], inputs: list[tuple[str, Tensor]], grad: Tensor, padding: int
) -> Tree:
    """The gradient of every parameter from that of the logits, `grad` [B, classes]."""
    grads: Tree = {}
    for i, (name, x) in reversed(list(enumerate(inputs))):
        grads[f"{name}.weight"], grads[f"{name}.bias"] = grad.t().mm(x), grad.sum(0)
        if i or blocks:
            grad = grad.mm(model[f"{name}.weight"])
        if i:
            grad = _aten.threshold_backward(grad, x, 0)
    if blocks:
        grad = grad.view(blocks[-1].p.shape)
        grad = grad.to_mkldnn() if blocks[-1].p.is_mkldnn else grad
    for i, block in reversed(list(enumerate(blocks))):
        weight = model[f"{block.name}.weight"]
        grad = _unpool(_aten.threshold_backward(grad, block.p, 0), block)
        # the gradient with respect to the images is not asked for
        grad, grads[f"{block.name}.weight"], grads[f"{block.name}.bias"] = _aten.convolution_backward(
            grad, block.x, weight, weight.shape[:1], [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, [i > 0, True, True]
        )
    return {name: grads[name] for name in model}


class _Gather:
    """Normalised float batches of uint8 images [M, c, h, w] in NCHW or channels-last storage; never a float copy of all."""

    def __init__(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        _, c, h, w = images.shape
        self.last = not images.is_contiguous()
        self.flat = (images.permute(0, 2, 3, 1) if self.last else images).view(len(images), -1)
        self.shape = (-1, h, w, c) if self.last else (-1, c, h, w)
        # (x / 255 - mean) / std = x * scale + shift: one multiplication and one addition
        scale, shift = (1 / (255 * std)).expand(c, h, w), (-mean / std).expand(c, h, w)
        self.scale, self.shift = (
            (t.permute(1, 2, 0) if self.last else t).reshape(1, -1) for t in (scale, shift)
        )

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        flat = self.flat if rows is None else self.flat.index_select(0, rows)
        x = flat.to(self.scale.dtype).mul_(self.scale).add_(self.shift).view(self.shape)
        return x.permute(0, 3, 1, 2) if self.last else x


@torch.no_grad()
def lenet_logits(model: Tree, images: Tensor, mean: Tensor, std: Tensor, padding: int = 0, chunk: int = 128) -> Tensor:
    """Class scores [B, classes] of uint8 images [B, c, h, w]; `mean` and `std` [c, 1, 1] set the type."""
    parts = [_Gather(part, mean, std)() for part in images.split(chunk)]
    return torch.cat([_forward(model, x, padding, False)[2] for x in parts])


@torch.no_grad()
def lenet_grad(
    model: Tree, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor, padding: int = 0
) -> tuple[Tensor, Tree]:
    """Mean cross-entropy of uint8 images [B, c, h, w] with labels [B], and its gradient."""
    blocks, inputs, logits = _forward(model, _Gather(images, mean, std)(), padding, True)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    hot = torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return loss, _backward(model, blocks, inputs, logits.softmax(1).sub_(hot).div_(len(labels)), padding)


@torch.no_grad()
def lenet_sgd(
    model: Tree,
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    lr: float,
    momentum: float,
    weight_decay: float,
    max_norm: float,
    buffers: Tree | None = None,
    clip: Collection[str] | None = None,
    padding: int = 0,
) -> tuple[Tree, Tree]:
    """K steps of `clip_grad_norm_` and `torch.optim.SGD` on batches `rows` [K, B] of uint8 images [M, c, h, w].

    `buffers` holds the momentum that some entries start with (the others start at zero), `clip` the names whose common
    norm is clipped (all by default). Returns the trained model and its momentum; the arguments are left alone.
    """
    gather = _Gather(images, mean, std)
    # one flat vector with the clipped entries first, and views of it as the model: clip and SGD are a few vector operations
    names = sorted(model, key=lambda name: clip is not None and name not in clip)
    shapes, sizes = [model[name].shape for name in names], [model[name].numel() for name in names]
    clipped = sum(size for name, size in zip(names, sizes, strict=True) if clip is None or name in clip)

    def views(flat: Tensor) -> Tree:
        parts = zip(names, flat.split(sizes), shapes, strict=True)
        tree = {name: part.view(shape) for name, part, shape in parts}
        return {name: tree[name] for name in model}

    w = torch.cat([model[name].reshape(-1) for name in names])
    v = torch.zeros_like(w)
    for name, part in views(v).items():
        if buffers and name in buffers:
            part.copy_(buffers[name])
    g, p = torch.empty_like(w), views(w)
    hots = torch.nn.functional.one_hot(labels[rows], len(model[list(model)[-1]])).to(w.dtype)
    for index, hot in zip(rows, hots, strict=True):
        blocks, inputs, logits = _forward(p, gather(index), padding, True)
        # d cross-entropy / d logits = (softmax - one-hot) / B
        grads = _backward(p, blocks, inputs, logits.softmax(1).sub_(hot).div_(len(index)), padding)
        torch.cat([grads[name].reshape(-1) for name in names], out=g)
        head = g[:clipped]
        head.mul_((max_norm / (torch.linalg.vector_norm(head) + 1e-6)).clamp(max=1.0))
        v.mul_(momentum).add_(g).add_(w, alpha=weight_decay)
        w.add_(v, alpha=-lr)
    return views(w), views(v)


def rank_one_sgd(
    weight: Tensor,
    buffer: Tensor,
    left: Tensor,
    right: Tensor,
    *,
    scale: Tensor | float,
    lr: float,
    momentum: float,
    weight_decay: float,
    chunk: int = 2**18,
) -> tuple[Tensor, Tensor]:
    """One step of SGD on `weight` [O, I] along scale * outer(left [O], right [I]): the new weight and momentum buffer.

    The gradient is never formed; its norm is |left| |right|. A chunk of `chunk` entries stays in the cache during its
    four operations, so that main memory is passed once. The arguments are left alone.
    """
    new_weight, new_buffer = torch.empty_like(weight), torch.empty_like(buffer)
    tensors = weight, buffer, left.unsqueeze(1), new_weight, new_buffer
    rows = max(1, chunk // weight.shape[1])
    right = right * scale
    for w, v, column, new_w, new_v in zip(*(t.split(rows) for t in tensors), strict=True):
        torch.mul(column, right, out=new_v)
        new_v.add_(v, alpha=momentum).add_(w, alpha=weight_decay)
        torch.add(w, new_v, alpha=-lr, out=new_w)
    return new_weight, new_buffer
