"""The contract of a federated learning method.

**Server functions see the stacked cohort. Client functions see one client.** All of them are pure: state is returned,
never hidden, and arguments are never modified. A client can know of the server only what a message carries, and the
server of a client only what an upload carries.

Letters: N training clients, C clients of a cohort, K local steps, B samples of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fedbench.local import SGD
from fedbench.task import Task
from fedbench.tree import Tree

State = Any  # the server's memory: nested dicts, lists and tuples of tensors and plain values


class Cohort(NamedTuple):
    """The clients of one round, as the server sees them."""

    ids: Tensor  # [C] int64
    weight: Tensor  # [C] each client's share of the cohort's training samples; sums to 1
    round: int  # this round, from 0
    rounds: int  # how many rounds the run has
    # [C, classes] share of each class among a client's training samples: for methods that let the server know it, as
    # pFedHN's fixed representation; what it takes to tell the server is not counted as traffic
    class_shares: Tensor = torch.empty((0, 0))


class Draw(NamedTuple):
    """Batches that a client function is given: `steps` of them, each `size` rows drawn without replacement."""

    steps: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A federated learning method. A subclass's fields are its hyperparameters, with the paper's defaults.

    Every field is annotated with its range and meaning, `name: Annotated[float, Field(gt=0, description="...")] = 1.0`;
    `--set METHOD.name=VALUE` sets it. Four functions are mandatory; the others have defaults.
    """

    title: ClassVar[str]  # as it stands in tables
    paper: ClassVar[str]  # authors, title, venue, year
    # sentences of the contract that the method breaks knowingly, and why: `fedbench check` must find them broken
    deviations: ClassVar[dict[str, str]] = {}
    # whether one server state serves clients of all `task.networks`; otherwise the engine keeps one for each network
    mixed: ClassVar[bool] = False
    # whether the beginning of a longer run differs from a shorter one, as where a rate or a phase follows `rounds`
    depends_on_length: ClassVar[bool] = False

    task: Task
    local: Annotated[SGD, Field(description="local training")] = SGD()
    clients_per_round: Annotated[int, Field(ge=1, description="clients that the server visits in a round")] = 5

    @abstractmethod
    def server_init(self, rng: torch.Generator) -> State:
        """What the server knows before the first round."""

    @abstractmethod
    def server_send(self, server: State, cohort: Cohort) -> Tree:
        """The messages of this round, every tensor [C, ...]."""

    @abstractmethod
    def server_receive(self, server: State, cohort: Cohort, upload: Tree) -> State:
        """What the server knows after the cohort's uploads, every tensor [C, ...]."""

    @abstractmethod
    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        """One visit: the upload and what the client keeps. `batches` [K, B] are training row numbers, -1 pads."""

    def server_welcome(self, server: State, cohort: Cohort) -> Tree:
        """Sent, beside the message, to clients that keep nothing yet; every tensor [C, ...]. Default: nothing."""
        return {}

    def server_admit(self, server: State, count: int, rng: torch.Generator) -> State | None:
        """A server for `count` unseen clients, ids N .. N + count - 1, that learns about them and forgets nothing.

        Default None: the server stays as it is, and unseen clients fit only what they keep.
        """
        return None

    def client_init(self, welcome: Tree, rng: torch.Generator) -> Tree:
        """What a client keeps when it joins. Default: nothing, and then it is welcomed again at its next visit."""
        return {}

    def client_personalize(self, message: Tree, state: Tree, batches: Tensor) -> Tree:
        """The full model of the client that is scored. Default: what it received and what it keeps, together."""
        return {**state, **message}

    def predict(self, model: Tree, images: Tensor) -> Tensor:
        """Class scores [B, classes] of normalised `images` [B, c, h, w] by a personal model, each image for itself."""
        return self.task.predict(model, images)

    @property
    def train_draw(self) -> Draw:
        """The batches that `client_train` is given."""
        return Draw(self.local.steps, self.local.batch_size)

    @property
    def personalize_draw(self) -> Draw:
        """The batches that `client_personalize` is given."""
        return Draw(0, self.local.batch_size)

    @property
    def steps_per_visit(self) -> int:
        """Gradient steps of one visit, for the record of effort; where a step needs more than one batch, still one."""
        return self.local.steps

    @property
    def gradients_per_visit(self) -> int:
        """Gradient evaluations of one visit, each on a batch of `local.batch_size`; default: one a step.

        A product with a Hessian counts as two.
        """
        return self.steps_per_visit

    @property
    def gradients_to_personalize(self) -> int:
        """Gradient evaluations that `client_personalize` makes; default: one for each of its batches."""
        return self.personalize_draw.steps

    def server_embeddings(self, server: State) -> Tensor | None:
        """What the server has learned of each training client, [N, k], to be looked at; default None: nothing."""
        return None
