"""Results by hand: the parts of one, and cells made of some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedbench import storage
from fedbench.reporting.cells import Cell, make_cell
from fedbench.reporting.run import read

Maker = Callable[..., storage.Result]  # the fixture `make` of the reporting tests

ROW: dict[str, Any] = {
    "round": 1,
    "visits": 4,
    "steps": 4,
    "bytes_down": 8,
    "bytes_up": 8,
    "bytes_welcome": 0,
    "train_loss": 1.0,
    "val_loss": 1.0,
    "val_accuracy": 0.5,
    "val_client_mean": 0.5,
}
TEST = {"correct": [1, 2], "total": [2, 3], "loss": [0.5, 0.5]}


def put(root: Path, *results: storage.Result) -> Path:
    """Store `results` below `root`, which is returned."""
    for result in results:
        storage.write(root, result)
    return root


def cell_of(root: Path, *results: storage.Result) -> Cell:
    """The cell of `results`, stored and read again."""
    return make_cell([read(storage.write(root, result)) for result in results], len(results))
