"""Nested values compared: how much they differ, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Gap(NamedTuple):
    """The largest difference of two nested values; infinite where names, shapes, types or plain values differ."""

    size: float
    what: str = ""

    def __str__(self) -> str:
        return self.what or "no difference"


def leaves(value: Any) -> list[Any]:
    """The tensors and plain values inside nested dicts, lists and tuples."""
    return list(torch.utils._pytree.tree_leaves(value))


def clone(value: Any) -> Any:
    """A deep copy of nested dicts, lists and tuples of tensors."""
    return torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value)


def finite(value: Any) -> bool:
    """Whether all numbers inside of `value` are finite."""
    return all(bool(torch.isfinite(x).all()) for x in leaves(value) if isinstance(x, Tensor))


def gap(a: Any, b: Any) -> Gap:
    """The largest difference of `a` and `b`, relative where they are above 1; of size 0 only where all are equal."""
    return max(_gaps(a, b, ""), key=lambda found: found.size, default=Gap(0.0))


def _gaps(a: Any, b: Any, place: str) -> Iterator[Gap]:
    here = repr(place) if place else "the value"
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        yield _tensors(a, b, here)
    elif isinstance(a, dict) and isinstance(b, dict):
        if only := sorted(map(str, a.keys() ^ b.keys())):
            yield Gap(float("inf"), f"only one of the two has {', '.join(only)}")
        else:
            for key in a:
                yield from _gaps(a[key], b[key], f"{place}/{key}".lstrip("/"))
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            yield Gap(float("inf"), f"{here} has {len(a)} parts in the one and {len(b)} in the other")
        else:
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                yield from _gaps(x, y, f"{place}/{i}".lstrip("/"))
    elif not (a == b or (a != a and b != b)):
        numbers = all(isinstance(x, (int, float)) for x in (a, b))
        size = abs(a - b) / max(1.0, abs(b)) if numbers else float("inf")
        yield Gap(
            size if size == size else float("inf"), f"{here} is {_short(a)} in the one and {_short(b)} in the other"
        )


def _tensors(a: Tensor, b: Tensor, here: str) -> Gap:
    if a.shape != b.shape or a.dtype != b.dtype:
        kinds = [f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in (a, b)]
        return Gap(float("inf"), f"shapes or types differ: {here} is {kinds[0]} in the one and {kinds[1]} in the other")
    if not a.numel() or torch.equal(a, b):
        return Gap(0.0)
    x, y = a.double(), b.double()
    each = ((x - y).abs() / y.abs().clamp(min=1)).masked_fill((x == y) | (x.isnan() & y.isnan()), 0.0)
    size = float(each.nan_to_num(float("inf")).max())
    return Gap(size, f"a difference of {size:.1e} in {here}" if size else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
