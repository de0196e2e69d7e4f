"""Dealing: the rows of every client, drawn from one seed.

Letters: N clients, S strata, M samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.partition import Floats, Ints, Kind
from fedbench.seeds import numpy_stream

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of every client: int64 row numbers into Data, ascending, one tensor a client; no row occurs twice."""

    train: tuple[Tensor, ...]
    validation: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    samples: int  # M, those that nobody holds included

    @property
    def clients(self) -> int:
        """The number of clients, N."""
        return len(self.train)

    @property
    def used(self) -> float:
        """The share of the samples that some client holds, 0 .. 1."""
        return sum(len(rows) for part in (self.train, self.validation, self.test) for rows in part) / self.samples

    def checksum(self) -> str:
        """SHA-256 of all row numbers and of who holds them, in hex."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for rows in part:
                digest.update(len(rows).to_bytes(8, "little") + rows.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def histogram(self, labels: Tensor, classes: int) -> Tensor:
        """Training rows of each client and class, [N, classes] int64."""
        return torch.stack([torch.bincount(labels[rows], minlength=classes) for rows in self.train])


def split(data: Data, kind: Kind, clients: int, seed: int, validation_rows: int) -> Partition:
    """Deals the samples to `clients` clients. The same arguments give the same partition on every machine.

    Where the data set has test rows of its own, `validation_rows` of the others are drawn for validation; elsewhere
    70 / 15 / 15 % of every stratum and class are for training / validation / test. Raises BadInput where the setting
    is impossible.
    """
    samples = len(data.labels)
    if clients < 1:
        raise BadInput(f"there must be at least 1 client, not {clients}")
    if clients > samples:
        raise BadInput(f"{clients} clients cannot share {samples} samples; ask for fewer clients")
    strata = _strata(kind, data)
    shares = _shares(kind, data, clients, seed, strata)
    parts: list[tuple[Tensor, ...]] = []
    for name, pool in zip(SPLITS, _pools(data, strata, seed, validation_rows), strict=True):
        counts = _counts(kind, shares, np.bincount(strata[pool], minlength=shares.shape[1]), name)
        totals = counts.sum(axis=1)
        poorest = int(totals.argmin())
        if totals[poorest] < kind.least(name):
            raise BadInput(
                f"client {poorest} of {clients} would hold {totals[poorest]} of the {len(pool)} {name} rows, and must "
                f"hold at least {kind.least(name)} (partition {kind}); ask for fewer clients or for another partition"
            )
        parts.append(_deal(pool, strata, counts, numpy_stream(seed, "partition", name)))
    return Partition(parts[0], parts[1], parts[2], samples)


def _strata(kind: Kind, data: Data) -> Ints:
    """What a kind says the strata are. Raises BadInput where that is not a whole number for every sample."""
    strata: object = kind.strata(data)
    rows = len(data.labels)
    if not isinstance(strata, np.ndarray) or strata.shape != (rows,) or strata.dtype.kind not in "iu":
        raise _wrong(kind, "strata", f"an array of {rows} whole numbers, one for each sample", _form(strata))
    if rows and not 0 <= strata.min() <= strata.max() < rows:
        raise _wrong(kind, "strata", f"numbers 0 .. {rows - 1}", f"{strata.min()} .. {strata.max()}")
    return strata


def _shares(kind: Kind, data: Data, clients: int, seed: int, strata: Ints) -> Floats:
    """What a kind says the shares are. Raises BadInput where they are no shares."""
    shares: object = kind.shares(data, clients, seed)
    if (
        not isinstance(shares, np.ndarray)
        or shares.ndim != 2
        or len(shares) != clients
        or shares.dtype.kind not in "fiu"
    ):
        raise _wrong(kind, "shares", f"an array [{clients}, strata] of numbers, a row for each client", _form(shares))
    if len(strata) and shares.shape[1] <= strata.max():
        least = int(strata.max()) + 1
        raise _wrong(kind, "shares", f"a column for each of the {least} strata", f"{shares.shape[1]} columns")
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise _wrong(kind, "shares", "finite numbers of at least 0", "others among them")
    if shares.sum(axis=0).max() > 1 + 1e-6:
        seen = f"the shares of stratum {shares.sum(axis=0).argmax()} sum to {shares.sum(axis=0).max():g}"
        raise _wrong(kind, "shares", "columns that sum to 1 at most", seen)
    return shares


def _counts(kind: Kind, shares: Floats, rows: Ints, split: str) -> Ints:
    """What a kind says the numbers of rows are. Raises BadInput where they are more than there are."""
    counts: object = kind.counts(shares, rows, split)
    if not isinstance(counts, np.ndarray) or counts.shape != shares.shape or counts.dtype.kind not in "iu":
        raise _wrong(kind, "counts", f"an array {list(shares.shape)} of whole numbers", _form(counts))
    if (counts < 0).any() or (counts.sum(axis=0) > rows).any():
        raise _wrong(kind, "counts", f"numbers of at least 0 that no stratum of the {split} rows runs out of", "others")
    return counts


def _form(value: object) -> str:
    shape = f" {list(value.shape)} of {value.dtype}" if isinstance(value, np.ndarray) else ""
    return f"a {type(value).__name__}{shape}"


def _wrong(kind: Kind, function: str, expected: str, seen: str) -> BadInput:
    return BadInput(f"the partition {kind}: `{function}` must return {expected}, not {seen}")


def _pools(data: Data, strata: Ints, seed: int, validation_rows: int) -> Sequence[Ints]:
    """The training, validation and test rows of all clients together."""
    rng = numpy_stream(seed, "partition", "pools")
    if data.test is not None:
        test = data.test.numpy()
        rest = rng.permutation(np.flatnonzero(~test))
        if not 0 < validation_rows < len(rest):
            raise BadInput(
                f"validation_rows = {validation_rows} must be 1 .. {len(rest) - 1}, one less than the training rows"
            )
        return rest[validation_rows:], rest[:validation_rows], np.flatnonzero(test)
    rows = rng.permutation(len(strata))
    rows = rows[np.lexsort((data.labels.numpy()[rows], strata[rows]))]  # like beside like, otherwise in random order
    place = np.arange(len(rows)) % 20  # of every 20 neighbours 14 are for training, 3 for validation, 3 for test
    validation, test = np.isin(place, (3, 10, 16)), np.isin(place, (6, 13, 19))
    return rows[~(validation | test)], rows[validation], rows[test]


def _deal(pool: Ints, strata: Ints, counts: Ints, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Shuffles the pool and hands every client, in order, its `counts` [N, S] consecutive rows of every stratum."""
    rows = rng.permutation(pool)
    rows = rows[np.argsort(strata[rows], kind="stable")]
    clients = len(counts)
    nobody = np.bincount(strata[pool], minlength=counts.shape[1]) - counts.sum(axis=0)
    owner = np.repeat(np.tile(np.arange(clients + 1), counts.shape[1]), np.vstack([counts, nobody]).T.ravel())
    held = rows[np.argsort(owner, kind="stable")]
    return tuple(torch.from_numpy(np.sort(own)) for own in np.split(held, counts.sum(axis=1).cumsum())[:clients])
