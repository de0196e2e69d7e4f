"""The same share of every class for every client."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pydantic

from fedbench.dataset import Data
from fedbench.partition import Floats, Kind


@pydantic.dataclasses.dataclass(frozen=True)
class IID(Kind):
    """Every client holds an equal share of every class; all rows are used and totals differ by at most one row."""

    name: ClassVar[str] = "iid"

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """1 / N."""
        return np.full((clients, data.classes), 1 / clients)
