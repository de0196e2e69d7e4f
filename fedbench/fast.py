"""The fast path on a CPU: local SGD of the LeNet with a hand-written backward, and SGD on rank-one gradients.

The numbers are those of the plain path up to rounding, and the bits repeat from call to call. The net is read off the
model: convolutions (each with max-pooling 2 and ReLU), then linear layers with ReLU between them, in the order of the
dict. Letters: M samples, B batch, K steps, c channels, h x w pixels, O x I entries of a matrix.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.tree import Tree

_aten = torch.ops.aten
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of glibc's malloc.h


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """While inside, this process keeps the memory that it frees, for it is wanted again in the next step.

    Otherwise glibc gives large blocks back to the kernel, which clears their pages anew in every step. Changes no
    number, and does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)  # blocks of 32 MB and more come from the heap as well
    libc.mallopt(M_TRIM_THRESHOLD, 2**30)  # up to 1 GB of freed heap is kept
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 2**16)  # glibc's own values
        libc.mallopt(M_TRIM_THRESHOLD, 2**17)
        libc.malloc_trim(0)  # or the next run would find the heap in pieces


class _Block(NamedTuple):
    """What the backward of one convolution with pooling and ReLU needs."""

    name: str
    x: Tensor  # the input
    y: Tensor  # after the convolution
    where: Tensor | None  # where the maxima were; in the blocked layout `p` knows
    p: Tensor  # after pooling and ReLU


class _Trace(NamedTuple):
    """One forward pass: the convolutional blocks, the name and input of every linear layer, the logits."""

    blocks: list[_Block]
    linears: list[tuple[str, Tensor]]
    logits: Tensor  # [B, classes]


def _pool(y: Tensor, train: bool) -> tuple[Tensor, Tensor | None]:
    if y.is_mkldnn:
        # oneDNN notes where the maxima are only for an input that asks for a gradient
        with torch.set_grad_enabled(train):
            return _aten.mkldnn_max_pool2d(y.detach().requires_grad_(train), [2, 2], [2, 2]).detach(), None
    q, where = _aten.max_pool2d_with_indices(y, [2, 2])
    return q, where


def _unpool(grad: Tensor, block: _Block) -> Tensor:
    if block.where is None:
        out: Tensor = _aten.mkldnn_max_pool2d_backward(grad, block.p, block.y, [2, 2], [2, 2])
    else:
        out = _aten.max_pool2d_with_indices_backward(grad, block.y, [2, 2], [2, 2], [0, 0], [1, 1], False, block.where)
    return out


def _forward(model: Tree, x: Tensor, padding: int, train: bool) -> _Trace:
    """The logits of normalised images x [B, c, h, w], and what the backward needs."""
    names = [name.removesuffix(".weight") for name in model if name.endswith(".weight")]
    convs = [name for name in names if model[f"{name}.weight"].ndim == 4]
    # the switch is asked, not only the build: with oneDNN switched off its layout cannot be computed with
    onednn = torch._C._has_mkldnn and torch.backends.mkldnn.enabled
    if convs and x.dtype == torch.float32 and x.device.type == "cpu" and onednn:
        x = x.to_mkldnn()  # a layout, not a rounding: oneDNN need not reorder in between
    trace = _Trace([], [], x)
    for name in convs:
        y = torch.conv2d(x, model[f"{name}.weight"], model[f"{name}.bias"], padding=padding)
        p, where = _pool(y, train)
        p.relu_()  # relu(max(y)) = max(relu(y)): relu is monotone, and the gradients agree; a quarter of the work
        trace.blocks.append(_Block(name, x, y, where, p))
        x = p
    x = (x.to_dense() if x.is_mkldnn else x).flatten(1)
    for name in names[len(convs) :]:
        x = x.relu_() if trace.linears else x  # in place: relu's backward needs its output only
        trace.linears.append((name, x))
        x = torch.addmm(model[f"{name}.bias"], x, model[f"{name}.weight"].t())
    return trace._replace(logits=x)


def _backward(model: Tree, trace: _Trace, hot: Tensor, padding: int) -> Tree:
    """The gradient of the mean cross-entropy for labels `hot` [B, classes], one-hot."""
    grads: Tree = {}
    # d cross-entropy / d logits = (softmax - one-hot) / B
    grad = trace.logits.softmax(1).sub_(hot).div_(len(hot))
    for i, (name, x) in reversed(list(enumerate(trace.linears))):
        grads[f"{name}.weight"], grads[f"{name}.bias"] = grad.t().mm(x), grad.sum(0)
        if i or trace.blocks:
            grad = grad.mm(model[f"{name}.weight"])
        if i:
            grad = _aten.threshold_backward(grad, x, 0)
    if trace.blocks:
        last = trace.blocks[-1].p
        grad = grad.view(last.shape)
        grad = grad.to_mkldnn() if last.is_mkldnn else grad
    for i, block in reversed(list(enumerate(trace.blocks))):
        name, weight = block.name, model[f"{block.name}.weight"]
        grad = _unpool(_aten.threshold_backward(grad, block.p, 0), block)
        wanted = [i > 0, True, True]  # the gradient with respect to the images is not asked for
        grad, grads[f"{name}.weight"], grads[f"{name}.bias"] = _aten.convolution_backward(
            grad, block.x, weight, weight.shape[:1], [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, wanted
        )
    return {name: grads[name] for name in model}


class _Gather:
    """Normalised batches of uint8 images [M, c, h, w] in NCHW or channels-last storage, never a float copy of all."""

    def __init__(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        _, c, h, w = images.shape
        self.last = not images.is_contiguous()  # channels last; the view below refuses any other storage
        self.flat = (images.permute(0, 2, 3, 1) if self.last else images).view(len(images), -1)
        self.shape = (-1, h, w, c) if self.last else (-1, c, h, w)
        # (x / 255 - mean) / std = x * scale + shift
        scale, shift = (1 / (255 * std)).expand(c, h, w), (-mean / std).expand(c, h, w)
        order = (1, 2, 0) if self.last else (0, 1, 2)
        self.scale, self.shift = scale.permute(order).reshape(1, -1), shift.permute(order).reshape(1, -1)

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        flat = self.flat if rows is None else self.flat.index_select(0, rows)
        x = flat.to(self.scale.dtype).mul_(self.scale).add_(self.shift).view(self.shape)
        return x.permute(0, 3, 1, 2) if self.last else x


@torch.no_grad()
def lenet_logits(model: Tree, images: Tensor, padding: int = 0) -> Tensor:
    """Class scores [B, classes] of normalised float images [B, c, h, w]."""
    return _forward(model, images, padding, train=False).logits


@torch.no_grad()
def lenet_grad(
    model: Tree, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor, padding: int = 0
) -> tuple[Tensor, Tree]:
    """Mean cross-entropy of uint8 images [B, c, h, w] with labels [B], and its gradient."""
    trace = _forward(model, _Gather(images, mean, std)(), padding, train=True)
    hot = functional.one_hot(labels, trace.logits.shape[1])
    return functional.cross_entropy(trace.logits, labels), _backward(model, trace, hot, padding)


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
    """K steps of `clip_grad_norm_` and `torch.optim.SGD` on the batches `rows` [K, B] of uint8 images [M, c, h, w].

    `buffers` holds the momentum that some entries start with (the others start at zero), `clip` the names whose common
    norm is clipped (all by default). Returns the trained model and its momentum; the arguments are left alone.
    """
    gather = _Gather(images, mean, std)
    # one flat vector, clipped entries first, and views of it as the model: clip and SGD are a few vector operations
    names = sorted(model, key=lambda name: clip is not None and name not in clip)
    sizes = [model[name].numel() for name in names]
    clipped = sum(model[name].numel() for name in names if clip is None or name in clip)

    def views(flat: Tensor) -> Tree:
        parts = dict(zip(names, torch.split(flat, sizes), strict=True))
        return {name: parts[name].view(value.shape) for name, value in model.items()}

    start = {name: torch.zeros_like(value) for name, value in model.items()} | (buffers or {})
    w, v = (torch.cat([tree[name].reshape(-1) for name in names]) for tree in (model, start))
    g, p = torch.empty_like(w), views(w)
    bounded = g[:clipped]
    hots = functional.one_hot(labels[rows], len(model[list(model)[-1]])).to(w.dtype)
    for index, hot in zip(rows, hots, strict=True):
        grads = _backward(p, _forward(p, gather(index), padding, train=True), hot, padding)
        torch.cat([grads[name].reshape(-1) for name in names], out=g)
        bounded.mul_((max_norm / (torch.linalg.vector_norm(bounded) + 1e-6)).clamp(max=1.0))
        v.mul_(momentum).add_(g).add_(w, alpha=weight_decay)
        w.add_(v, alpha=-lr)
    return {k: t.clone() for k, t in views(w).items()}, {k: t.clone() for k, t in views(v).items()}


def _unwritten(like: Tensor) -> Tensor:
    """Memory of the shape of `like`. Deterministic mode would fill it, lest it be read; here all of it is written."""
    settings: Any = torch.utils.deterministic  # a module whose attribute is a property, which type checkers do not see
    filled = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        return torch.empty_like(like)
    finally:
        settings.fill_uninitialized_memory = filled


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
    new_weight, new_buffer = _unwritten(weight), _unwritten(buffer)
    tensors = weight, buffer, left.unsqueeze(1), new_weight, new_buffer
    rows = max(1, chunk // weight.shape[1])
    right = right * scale
    for w, v, column, new_w, new_v in zip(*(torch.split(t, rows) for t in tensors), strict=True):
        torch.mul(column, right, out=new_v)
        new_v.add_(v, alpha=momentum).add_(w, alpha=weight_decay)
        torch.add(w, new_v, alpha=-lr, out=new_w)
    return new_weight, new_buffer
