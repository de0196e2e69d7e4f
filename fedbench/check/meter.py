"""What a method asks of the network: gradients and forward passes counted, and the questions themselves kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # the stack of transformations that are under way: there is no public way to see it

from fedbench.models import Network
from fedbench.tree import Tree


@dataclass
class Meter:
    """Counts the evaluations of a network, each in batches of `batch` rows.

    A call that is differentiated counts once for each level of differentiation: a product with a Hessian, which is the
    derivative of a gradient, counts twice. A call under `vmap` counts for all that is lifted.
    """

    batch: int = 1
    gradients: float = 0.0
    forwards: float = 0.0  # calls that were not differentiated
    asked: list[Any] | None = None  # parameters and images of every call, where they are wanted

    def network(self, network: Network) -> Network:
        """`network`, watched."""
        inner = network.logits

        def logits(p: Tree, x: Tensor) -> Tensor:
            scores = inner(p, x)
            self._count(p, x, scores)
            return scores

        return replace(network, logits=logits)

    def _count(self, p: Tree, x: Tensor, scores: Tensor) -> None:
        if self.asked is not None:
            self.asked.append(({name: _plain(value) for name, value in p.items()}, _plain(x)))
        amount = x.shape[0] / self.batch
        differentiated = 0
        tracked = {level for value in p.values() for level in _levels(value)}
        lifted = tracked | set(_levels(x))
        for interpreter in _functorch.get_interpreter_stack() or ():
            kind, level = interpreter.key(), interpreter.level()
            if kind == _functorch.TransformType.Vmap and level in lifted:
                amount *= _functorch.CVmapInterpreterPtr(interpreter).batchSize()
            elif kind in (_functorch.TransformType.Grad, _functorch.TransformType.Jvp) and level in tracked:
                differentiated += 1
        if differentiated:
            self.gradients += amount * differentiated
        elif scores.requires_grad:
            scores.register_hook(lambda grad: self._backward(amount))  # type: ignore[no-untyped-call]
        else:
            self.forwards += amount

    def _backward(self, amount: float) -> None:
        self.gradients += amount

    @contextmanager
    def listening(self) -> Iterator[list[Any]]:
        """While inside, the questions that the network is asked, as they come."""
        before, self.asked = self.asked, []
        try:
            yield self.asked
        finally:
            self.asked = before


def _levels(value: Tensor) -> Iterator[int]:
    """The levels of the transformations that follow `value`."""
    while _functorch.is_functorch_wrapped_tensor(value):
        yield _functorch.maybe_get_level(value)
        value = _functorch.get_unwrapped(value)


def _plain(value: Tensor) -> Tensor:
    """A copy of the numbers of `value`, whatever transformation wraps them."""
    while _functorch.is_functorch_wrapped_tensor(value):
        value = _functorch.get_unwrapped(value)
    with torch._C._DisableFuncTorch():
        return value.detach().clone()
