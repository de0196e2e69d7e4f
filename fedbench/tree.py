"""Arithmetic on flat dicts of tensors: what models, messages, uploads and client states are made of.

Letters: C clients of a cohort. A *stacked* tree has a leading dimension C in every tensor. Nothing here modifies its
arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

Tree = dict[str, Tensor]


def pick(tree: Tree, names: Collection[str]) -> Tree:
    """The entries of `tree` called `names`, in the order of `tree`."""
    return {name: value for name, value in tree.items() if name in names}


def drop(tree: Tree, names: Collection[str]) -> Tree:
    """The entries of `tree` not called `names`."""
    return {name: value for name, value in tree.items() if name not in names}


def sub(a: Tree, b: Tree) -> Tree:
    """a - b, entry by entry; the names are those of `a`."""
    return {name: value - b[name] for name, value in a.items()}


def add_scaled(a: Tree, b: Tree, scale: float | Tensor) -> Tree:
    """a + scale * b, entry by entry."""
    return {name: value + scale * b[name] for name, value in a.items()}


def lerp(a: Tree, b: Tree, weight: float) -> Tree:
    """(1 - weight) a + weight b, entry by entry; exactly `b` where the weight is 1."""
    return {name: torch.lerp(value, b[name], weight) for name, value in a.items()}


def zeros_like(tree: Tree) -> Tree:
    """Zeros in the shapes of `tree`."""
    return {name: torch.zeros_like(value) for name, value in tree.items()}


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all values together, a scalar; the norm of norms, as `clip_grad_norm_` computes it."""
    total: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))
    return total


def form(tree: Tree) -> tuple[tuple[str, torch.Size, torch.dtype], ...]:
    """Names, shapes and types of the entries, in the order of the names: equal where trees can be stacked."""
    return tuple((name, tree[name].shape, tree[name].dtype) for name in sorted(tree))


def stack(trees: Sequence[Tree]) -> Tree:
    """C trees as one stacked tree; a view where C = 1. Raises ValueError where names, shapes or types differ."""
    if len(trees) == 1:
        return {name: value.unsqueeze(0) for name, value in trees[0].items()}
    for place, other in enumerate(trees[1:], 1):
        if form(other) != form(trees[0]):
            raise ValueError(f"trees 0 and {place} cannot be stacked: {_mismatch(trees[0], other)}")
    return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}


def _mismatch(a: Tree, b: Tree) -> str:
    """What the first entry is that differs in name, shape or type."""
    for name in sorted({*a, *b}):
        kinds = [f"{list(t[name].shape)} {t[name].dtype}" if name in t else "absent" for t in (a, b)]
        if kinds[0] != kinds[1]:
            return f"{name!r} is {kinds[0]} in the one and {kinds[1]} in the other"
    return "they are alike"


def row(tree: Tree, index: int) -> Tree:
    """One client's part of a stacked tree (views)."""
    return {name: value[index] for name, value in tree.items()}


def expand(tree: Tree, count: int) -> Tree:
    """`tree` stacked `count` times without a copy: the broadcast of one model to a cohort."""
    return {name: value.unsqueeze(0).expand(count, *value.shape) for name, value in tree.items()}


def average(tree: Tree, weight: Tensor) -> Tree:
    """Weighted sum over the leading dimension C of a stacked tree; `weight` [C] sums to 1.

    Raises ValueError for an entry of whole numbers, in whose type every weight below 1 is 0.
    """
    for name, value in tree.items():
        if not (value.is_floating_point() or value.is_complex()):
            raise ValueError(f"{name!r} holds {value.dtype}, of which there is no weighted average: convert it first")
    return {name: torch.tensordot(weight.to(value.dtype), value, dims=1) for name, value in tree.items()}


def nbytes(tree: Tree) -> int:
    """Bytes that `tree` takes on the wire: an expanded tensor counts in full, for every client gets its copy."""
    return sum(value.numel() * value.element_size() for value in tree.values())
