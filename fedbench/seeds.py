"""Random streams keyed by what they are for, so that nothing depends on what ran before.

A stream is named by a seed and a key, e.g. `(42, "batches", round, client)`. Equal names give equal numbers, different
names independent ones, whatever was drawn from other streams, in whatever order, by however many processes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def _digest(seed: int, key: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(repr((seed, *key)).encode()).digest()


def numpy_stream(seed: int, *key: str | int) -> np.random.Generator:
    """A numpy generator (Philox, 128-bit key) for the stream `(seed, *key)`."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, key)[:16], "little")))


def torch_stream(seed: int, *key: str | int) -> torch.Generator:
    """A CPU torch generator for the stream `(seed, *key)`; weights are drawn on the CPU whatever the device."""
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, key)[:7], "little"))
