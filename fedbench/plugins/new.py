"""`fedbench new method NAME`: a commented plug-in to start from, which passes the conformance kit as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from fedbench import plugins
from fedbench.errors import BadInput, canonical

METHOD = '''\
"""{title}: replace this line by the idea of the method in one sentence.

Authors, "Paper", venue year, algorithm number. Then the algorithm in symbols, as the paper states it. What stands here
now is FedAvg with a head of its own on every client, to show every part of the contract: change what differs.

Departures from the paper

1. Number them all: readers compare this file with the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedbench import tree
from fedbench.local import train
from fedbench.method import Cohort, Method
from fedbench.tree import Tree

# Three rules, which `fedbench check {file}` tries:
#
# * Server functions see the stacked cohort: every tensor of a message or an upload is [C, ...], C clients. Client
#   functions see one client: the same tensors without C.
# * Functions are pure: they return new tensors and modify no argument. What must be remembered is returned, as the
#   server's state or as what the client keeps; nothing is kept on the object.
# * No random numbers but from `rng`. Batches arrive as row numbers; `self.task.loss(model, rows)`,
#   `self.task.grad(model, rows)` and `train(self.task, self.local, model, batches)` take them.


@dataclass(frozen=True, kw_only=True)
class {cls}(Method):
    """One sentence: what is shared, what is personal."""

    title = "{title}"  # as it stands in tables
    paper = "Authors, Paper, venue year"

    # Hyperparameters are fields with a range, a meaning and the paper's default; `--set {name}.mix=0.5` sets
    # this one. `self.local` (rate, momentum, steps, batch size) and `self.clients_per_round` are there already.
    mix: Annotated[float, Field(gt=0, le=1, description="weight of the new average at the server")] = 1.0

    def server_init(self, rng: torch.Generator) -> Tree:
        """What the server knows before the first round: here a model without its last linear layer."""
        return tree.drop(self.task.init(rng), self.task.head)

    def server_send(self, server: Tree, cohort: Cohort) -> Tree:
        """The messages, every tensor [C, ...]: here the same one for all clients of the cohort."""
        return tree.expand(server, len(cohort.ids))

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        """What a client keeps when it joins: here a head. Leave this function out where clients keep nothing."""
        return tree.pick(self.task.init(rng), self.task.head)

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        """One visit: the upload, and what the client keeps. `batches` [K, B] are row numbers of its training data."""
        model, _ = train(self.task, self.local, {{**message, **state}}, batches)
        return tree.pick(model, self.task.body), tree.pick(model, self.task.head)

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        """What the server knows afterwards; `cohort.weight` [C] are the clients' shares of the training samples."""
        return tree.lerp(server, tree.average(upload, cohort.weight), self.mix)

    # The personal model, the one that is scored, is what the client keeps and what it received, together. Define
    # `client_personalize` where that is not the full model or more is to be done, and `personalize_draw` where that
    # takes batches; `server_admit` where the server must learn of clients that join after training.
'''

TEST = '''\
"""The method keeps the contract: one test case for each sentence of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fedbench.check

METHOD = Path(__file__).with_name("{file}")


@fedbench.check.parametrize([str(METHOD)])
def test_contract(check: Callable[[], None]) -> None:
    check()
'''


def new_method(name: str, folder: Path = Path()) -> tuple[Path, Path]:
    """Write `folder/NAME.py` and `folder/test_NAME.py`; their paths.

    Raises BadInput for a name that is not letters, digits, `-` and `_`, that a built-in method has, or whose files are
    there already.
    """
    plain = canonical(name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plain) or len(plain) > 60:
        raise BadInput(f"{name!r} is no name for a method: use letters, digits and single dashes, e.g. my-method")
    if plain in plugins.names("method"):
        raise BadInput(f"there is a method called {plain!r} already: choose another name")
    module = plain.replace("-", "_")
    words = [word.capitalize() for word in plain.split("-")]
    cls = "".join(words)
    taken = cls in ("Annotated", "Cohort", "Field", "Method", "Tensor", "Tree")  # names that the file imports
    values = {
        "name": plain,
        "file": f"{module}.py",
        "cls": f"{cls}Method" if taken else cls,
        "title": "-".join(words),
    }
    texts = {folder / f"{module}.py": METHOD, folder / f"test_{module}.py": TEST}
    for path in texts:
        if path.exists():
            raise BadInput(f"{path} is there already, and is not overwritten")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with path.open("x") as file:
                file.write(text.format(**values))
    except OSError as error:
        raise BadInput(f"{folder} cannot be written to: {error.strerror}") from None
    first, second = texts
    return first, second
