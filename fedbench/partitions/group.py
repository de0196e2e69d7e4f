"""A client is a natural group: a writer, an alphabet."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pydantic

from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.partition import Floats, Ints, Kind
from fedbench.seeds import numpy_stream


@pydantic.dataclasses.dataclass(frozen=True)
class Group(Kind):
    """A client is a natural group (a writer, an alphabet) and holds all its rows.

    Fewer clients than groups: the seed draws which groups take part, and nobody holds the others' rows. Clients are in
    the order of the groups.
    """

    name: ClassVar[str] = "group"

    def strata(self, data: Data) -> Ints:
        """The group of every sample."""
        if data.group is None:
            raise BadInput(
                "the partition 'group' needs natural groups and this data set has none; use classes, dirichlet or iid"
            )
        return data.group.numpy()

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """One group a client."""
        if clients > data.groups:
            raise BadInput(
                f"{clients} clients are more than the {data.groups} groups; ask for at most {data.groups} clients"
            )
        chosen = numpy_stream(seed, "partition", "group").choice(data.groups, clients, replace=False)
        return np.eye(data.groups)[np.sort(chosen)]
