"""Lifting a client function over a cohort: a plain loop, or `vmap` over `width` clients at a time.

Letters: C clients of a cohort, K steps, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.tree import Tree


def lift(
    function: Callable[..., Any], message: Tree, states: Sequence[Tree], batches: Sequence[Tensor], width: int
) -> list[Any]:
    """What `function` makes of the message, state and batches of each of C clients, in their order.

    `message` is stacked, [C, ...]. With `width` 1 this is a loop. Otherwise batches are padded with -1 to the longest,
    and `vmap` takes up to `width` clients at a time whose states have the same names, shapes and types: a client that
    keeps nothing yet is not lifted together with one that keeps a model.
    """
    if width == 1:
        return [function(tree.row(message, i), state, batches[i]) for i, state in enumerate(states)]
    size = max(rows.shape[1] for rows in batches)
    padded = torch.stack([F.pad(rows, (0, size - rows.shape[1]), value=-1) for rows in batches])
    alike: dict[Any, list[int]] = {}
    for place, state in enumerate(states):
        alike.setdefault(tree.form(state), []).append(place)
    results: dict[int, Any] = {}
    for places in alike.values():
        for first in range(0, len(places), width):
            chunk = places[first : first + width]
            # neighbours are a view, which leaves a message that was expanded to the cohort in one copy
            index = slice(chunk[0], chunk[-1] + 1) if chunk[-1] - chunk[0] + 1 == len(chunk) else chunk
            part = {name: value[index] for name, value in message.items()}
            together = torch.func.vmap(function)(part, tree.stack([states[i] for i in chunk]), padded[index])
            for place, i in enumerate(chunk):
                results[i] = torch.utils._pytree.tree_map(lambda value, place=place: value[place].clone(), together)
    return [results[i] for i in range(len(states))]
