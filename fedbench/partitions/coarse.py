"""Clients of one group hold the same group of classes: all kinds of fish, all kinds of trees."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pydantic
from pydantic import Field

from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.partition import Floats, Ints, Kind


@pydantic.dataclasses.dataclass(frozen=True)
class Coarse(Kind):
    """Classes come in groups, and every group of classes is dealt evenly to clients of its own.

    So Shamsian et al. 2021 deal CIFAR-100 for the figure of the learned embeddings: each of its 20 coarse classes to 5
    of 100 clients. With `size=0` the groups are the data set's own, which must put every class into one group; else
    `size` neighbouring classes make a group. Clients are in the order of their groups, whose numbers of clients differ
    by one at most. Nothing is drawn but which rows of a class a client gets.
    """

    name: ClassVar[str] = "coarse"
    size: Annotated[int, Field(ge=0, description="classes of a group; 0: the data set's own groups")] = 0

    def class_groups(self, data: Data) -> Ints:
        """The group of every class, [classes]. Raises BadInput where classes and groups do not fit."""
        if self.size:
            if data.classes % self.size:
                raise BadInput(f"size = {self.size} does not divide the {data.classes} classes of the data set")
            return np.arange(data.classes) // self.size
        if data.group is None:
            raise BadInput("this data set has no groups of classes: make some of neighbours, as in coarse:size=2")
        pairs = np.unique(np.stack([data.labels.numpy(), data.group.numpy()]), axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            raise BadInput("the groups of this data set are no groups of classes: some class lies in several of them")
        groups = np.full(data.classes, -1, dtype=np.int64)
        groups[pairs[0]] = np.unique(pairs[1], return_inverse=True)[1].reshape(-1)
        return groups

    def client_groups(self, data: Data, clients: int) -> Ints:
        """The group of every client, [N], ascending. Raises BadInput where there are fewer clients than groups."""
        count = int(self.class_groups(data).max()) + 1
        if clients < count:
            raise BadInput(f"{clients} clients are fewer than the {count} groups of classes; ask for at least {count}")
        return np.arange(clients) * count // clients

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """Each client of a group gets an equal share of every class of the group."""
        of_client = self.client_groups(data, clients)
        mine = of_client[:, None] == self.class_groups(data)[None, :]
        shares: Floats = mine / np.maximum(1, mine.sum(axis=0, keepdims=True))
        return shares
