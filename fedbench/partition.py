"""The contract of a partition: who holds which share of the data.

Every kind of partition is a matrix of shares, one row a client and one column a *stratum* (a class or a natural group),
that is used for training, validation and test rows alike: a client's three parts have the same label shares, up to
rounding. Letters: N clients, S strata, M samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fedbench.dataset import Data

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind(ABC):
    """A way to spread samples over clients; its fields are its settings, `str` the text that it is parsed from."""

    name: ClassVar[str]

    def __str__(self) -> str:
        settings = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return f"{self.name}:{settings}" if settings else self.name

    def strata(self, data: Data) -> Ints:
        """The stratum of every sample, [M]: its class, unless a kind says otherwise."""
        return data.labels.numpy()

    @abstractmethod
    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """The share of every stratum that each client holds, [N, S]; a column sums to 1 at most."""

    def counts(self, shares: Floats, rows: Ints, split: str) -> Ints:
        """How many of the `rows` [S] of a split every client holds, [N, S]: `shares * rows`, rounded."""
        return apportion(shares, rows, self.least(split))

    def least(self, split: str) -> int:
        """The rows that a client must have of a split."""
        return 1


def apportion(shares: Floats, rows: Ints, least: int) -> Ints:
    """`shares * rows` [N, S] in whole rows: down or up, so that columns keep their sums and clients nearly theirs.

    A client whose total is below `least` is then filled up, in its own label shares, from the clients that hold most,
    as far as the rows go round.
    """
    exact = shares * rows
    counts = np.floor(exact + 1e-9).astype(np.int64)
    fraction = exact - counts
    owed = fraction.sum(axis=1)
    for stratum in range(len(rows)):  # the rows that rounding down left over, to those whom it cost most so far
        over = round(fraction[:, stratum].sum())
        ranking = np.argsort(np.where(fraction[:, stratum] > 1e-9, -owed, np.inf), kind="stable")[:over]
        counts[ranking, stratum] += 1
        owed[ranking] -= 1
    for poor in np.flatnonzero(counts.sum(axis=1) < least):
        target = exact[poor] * (least / exact[poor].sum()) if exact[poor].any() else exact[poor]
        for _ in range(least - counts[poor].sum()):
            give = np.where(counts.sum(axis=1, keepdims=True) > least, counts, 0)
            wish = np.where((shares[poor] > 0) & give.any(axis=0), target - counts[poor], -np.inf)
            stratum = int(wish.argmax())
            if wish[stratum] == -np.inf:
                break
            counts[give[:, stratum].argmax(), stratum] -= 1
            counts[poor, stratum] += 1
    return counts
