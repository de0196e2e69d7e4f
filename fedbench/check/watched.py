"""Methods whose calls are recorded, or made on objects of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fedbench.check.comparing import clone, gap
from fedbench.check.process import changed, opened, process_state
from fedbench.method import Cohort, Method
from fedbench.plugins.settings import EFFORT

SERVER = ("server_init", "server_send", "server_receive", "server_welcome", "server_admit")
CLIENT = ("client_init", "client_train", "client_personalize", "predict")
PROPERTIES = ("train_draw", "personalize_draw", *EFFORT)
LATER = (10, 100, 1000)  # rounds that no check reaches, and where a method may do what it did not before


def packed(value: Any) -> Any:
    """A copy of an argument as tensors and plain data, which can be stored without pickling code."""
    if isinstance(value, Cohort):
        return {"a cohort": [x.clone() if isinstance(x, torch.Tensor) else x for x in value]}
    if isinstance(value, torch.Generator):
        return {"a generator": value.get_state()}
    return clone(value)


def unpacked(value: Any) -> Any:
    """The argument that `packed` made a copy of."""
    if isinstance(value, dict) and value.keys() == {"a cohort"}:
        return Cohort(*value["a cohort"])
    if isinstance(value, dict) and value.keys() == {"a generator"}:
        rng = torch.Generator()
        rng.set_state(value["a generator"])
        return rng
    return clone(value)


@dataclass
class Call:
    """One call of a contract function: its arguments, packed, and its result as it was at that time."""

    name: str
    arguments: tuple[Any, ...]
    result: Any

    def again(self, method: Method) -> Any:
        """What `method` answers to the same arguments."""
        with torch.no_grad():
            return getattr(method, self.name)(*(unpacked(value) for value in self.arguments))

    @property
    def rounds(self) -> list[int]:
        """The round that the call is of; empty where it is given no cohort."""
        return [a["a cohort"][2] for a in self.arguments if isinstance(a, dict) and a.keys() == {"a cohort"}]

    def at(self, round_: int, rounds: int) -> tuple[Any, ...]:
        """The arguments of the same call in another round, of a run of so many."""
        return tuple(
            {"a cohort": [*a["a cohort"][:2], round_, rounds, *a["a cohort"][4:]]}
            if isinstance(a, dict) and a.keys() == {"a cohort"}
            else a
            for a in self.arguments
        )


class Watched:
    """A method that is watched while it is made, in its contract functions, and in its properties.

    `calls` is the record, and `later` that of calls in rounds far behind; `modified` says which inputs and earlier
    results were changed, `left` what of the process was not left as it was, `opened` what was opened: each with the
    function that did it.
    """

    def __init__(self, make: Callable[[], Method]) -> None:
        self.calls: list[Call] = []
        self.later: list[Call] = []
        self.modified: list[tuple[str, str]] = []  # what, and the function
        self.left: list[tuple[str, str]] = []
        self.opened: list[tuple[str, str]] = []
        self._alive: list[tuple[str, Any, Any]] = []  # what was returned, and a copy made then
        self.method = self._heard("__post_init__", make)

    def __getattr__(self, name: str) -> Any:
        if name in PROPERTIES:
            return self._heard(name, lambda: getattr(self.method, name))
        value = getattr(self.method, name)
        return self._watch(name, value) if name in SERVER + CLIENT else value

    def _heard(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; what it opens and does not leave as it was is recorded."""
        process = process_state()
        with opened() as found:
            result = function(*arguments)
        self.opened += [(what, name) for what in found]
        self.left += [(what, name) for what in changed(process, process_state())]
        return result

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            before = [packed(a) for a in arguments]
            result = self._heard(name, function, *arguments)
            # a generator is meant to move on
            kept = [(a, b) for a, b in zip(arguments, before, strict=True) if not isinstance(a, torch.Generator)]
            if any(gap(packed(a), b).size for a, b in kept):
                self.modified.append((f"an argument of {name}", name))
            self.calls.append(Call(name, tuple(before), clone(result)))
            self._alive.append((name, result, self.calls[-1].result))
            return result

        return watched

    def look_ahead(self) -> None:
        """Make the last call of each server function again as of rounds LATER; what fails there is not recorded.

        A state of the beginning need not be one that these rounds can have.
        """
        made = len(self.calls)
        last = {call.name: call for call in self.calls}.values()
        for call in last:
            for round_ in LATER if call.rounds else ():
                with torch.no_grad(), contextlib.suppress(Exception):
                    getattr(self, call.name)(*map(unpacked, call.at(round_, round_ + 1)))
        self.calls, self.later = self.calls[:made], self.calls[made:]

    def finish(self) -> None:
        """Look at everything that was ever returned once more."""
        for name, result, copy in self._alive:
            if gap(result, copy).size:
                self.modified.append((f"what {name} had returned", name))

    def results(self, name: str) -> list[Call]:
        """The calls of one contract function."""
        return [call for call in self.calls if call.name == name]


class Apart:
    """A method whose server lives on one object and whose every client function on a fresh one, as on other machines.

    What is handed over is copied: nothing but tensors that were sent can get across.
    """

    def __init__(self, make: Callable[[], Method]) -> None:
        self._make, self._server = make, make()

    def __getattr__(self, name: str) -> Any:
        if name not in SERVER + CLIENT:
            return getattr(self._server, name)
        function = getattr(self._server if name in SERVER else self._make(), name)

        def apart(*arguments: Any) -> Any:
            return clone(function(*(a if isinstance(a, torch.Generator) else clone(a) for a in arguments)))

        return apart
