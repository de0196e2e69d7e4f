"""One run as plain data, and its identity."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str | None
Name = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)
]  # also a folder's name: no dots, no slashes


class Spec(BaseModel):
    """Everything that decides a run's numbers, beside the code: equal specs give equal bits on one kind of device.

    The number of jobs, where files lie, and how often a checkpoint is written are not here, for they decide nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Name
    params: dict[str, Scalar]  # every hyperparameter, by dotted name
    dataset: Name
    network: str
    partition: str  # canonical text, e.g. "classes:per_client=2,spare=1"
    clients: Annotated[int, Field(ge=1)]  # all clients, the unseen ones among them
    novel_clients: Annotated[int, Field(ge=0)] = 0  # the last ones, held out of training
    adapt_visits: Annotated[int, Field(ge=0)] = 0  # visits to each of them afterwards
    seed: Annotated[int, Field(ge=0)]
    visits: Annotated[int, Field(ge=1)]
    evaluate_every: Annotated[int, Field(ge=1)]  # visits
    width: Annotated[int, Field(ge=1)] = 1  # clients trained at once; changes float rounding
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    @property
    def identity(self) -> str:
        """The name of this run: 16 hex digits of a SHA-256 over the canonical JSON."""
        return _name(self.model_dump(mode="json"))

    @property
    def family(self) -> str:
        """What runs have in common that differ in their visits only: the name of the spec without them."""
        return _name(self.model_dump(mode="json", exclude={"visits"}))


def _name(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


SEEDS = (42, 27, 13)  # the seeds of the official pFedHN sweep; a longer list goes on with 0, 1, 2, ...


def seed_list(count: int) -> list[int]:
    """The first `count` seeds."""
    more = (seed for seed in range(count) if seed not in SEEDS)
    return [*SEEDS, *more][:count]
