"""Label shares drawn from a Dirichlet distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import pydantic
from pydantic import Field
from scipy.special import log_softmax, softmax

from fedbench.dataset import Data
from fedbench.seeds import numpy_stream

if TYPE_CHECKING:
    pass

from fedbench.partition import Floats, Kind


@pydantic.dataclasses.dataclass(frozen=True)
class Dirichlet(Kind):
    """Client i draws label shares p_i ~ Dir(alpha, ..., alpha); of class c it gets the share p_ic / sum_j p_jc.

    So Shamsian et al. 2021 draw their clients for the experiment with unseen ones. All rows are used. As sum_j p_jc is
    at most N, a client's rows are, before rounding, at least one N-th of the rarest class's: nothing has to be drawn
    again, however small alpha. Should a client still have fewer than `min_rows`, it gets rows of the clients that hold
    most, in its own label shares.
    """

    name: ClassVar[str] = "dirichlet"
    alpha: Annotated[float, Field(ge=1e-3, le=1e6, description="concentration; the smaller, the fewer classes")] = 0.5
    min_rows: Annotated[int, Field(ge=1, description="training rows of a client at least")] = 10

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """See the class. Logarithms, as small alphas underflow: log Gamma(a) = log Gamma(a + 1) + log(U) / a."""
        rng = numpy_stream(seed, "partition", "dirichlet")
        size = (clients, data.classes)
        gamma = np.log(rng.standard_gamma(self.alpha + 1, size)) + np.log(1 - rng.random(size)) / self.alpha
        return np.asarray(softmax(log_softmax(gamma, axis=1), axis=0), dtype=np.float64)

    def least(self, split: str) -> int:
        """`min_rows` of the training rows, 1 of the others."""
        return self.min_rows if split == "train" else 1
