"""Label shares drawn from a Dirichlet distribution."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pydantic
from pydantic import Field
from scipy.special import log_softmax, softmax

from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.partition import Floats, Kind
from fedbench.seeds import numpy_stream


@pydantic.dataclasses.dataclass(frozen=True)
class Dirichlet(Kind):
    """Client i draws label shares p_i ~ Dir(alpha, ..., alpha); of class c it gets the share p_ic / sum_j p_jc.

    So Shamsian et al. 2021 draw their clients for the experiment with unseen ones. All rows are used. As sum_j p_jc is
    at most N, a client's rows are, before rounding, at least one N-th of the rarest class's: nothing has to be drawn
    again, however small alpha. Should a client still have fewer than `min_rows`, it gets rows of the clients that hold
    most, in its own label shares.

    The last `novel` clients, which are those that `novel_clients` holds out of training, may draw with a concentration
    of their own, `novel_alpha`. They share the pool of rows with the others, as in the first public version of the
    official repository; a later one of the same group deals them a tenth of the rows apart. The p_i of the others do
    not depend on `novel_alpha`.
    """

    name: ClassVar[str] = "dirichlet"
    alpha: Annotated[float, Field(ge=1e-3, le=1e6, description="concentration; the smaller, the fewer classes")] = 0.5
    min_rows: Annotated[int, Field(ge=1, description="training rows of a client at least")] = 10
    novel: Annotated[int, Field(ge=0, description="so many of the last clients draw with novel_alpha")] = 0
    novel_alpha: Annotated[
        float | None, Field(ge=1e-3, le=1e6, description="concentration of the last clients; with novel")
    ] = None

    def __post_init__(self) -> None:
        if (self.novel_alpha is None) != (self.novel == 0):
            raise ValueError("novel and novel_alpha belong together: say how many clients and their concentration")

    def __str__(self) -> str:  # where no client is novel, as before there were any: the text is part of a run's name
        text = f"{self.name}:alpha={self.alpha},min_rows={self.min_rows}"
        return f"{text},novel={self.novel},novel_alpha={self.novel_alpha}" if self.novel else text

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """The shares that the class describes. Raises BadInput where all clients would be novel."""
        if self.novel >= clients:
            raise BadInput(f"novel = {self.novel} of {clients} clients leaves none that draws with alpha; ask for less")
        drawn = [_log_shares(self.alpha, clients - self.novel, data.classes, numpy_stream(seed, *STREAM))]
        if self.novel_alpha is not None:
            drawn += [_log_shares(self.novel_alpha, self.novel, data.classes, numpy_stream(seed, *STREAM, "novel"))]
        return np.asarray(softmax(np.concatenate(drawn), axis=0), dtype=np.float64)

    def least(self, split: str) -> int:
        """`min_rows` of the training rows, 1 of the others."""
        return self.min_rows if split == "train" else 1


STREAM = ("partition", "dirichlet")


def _log_shares(alpha: float, clients: int, classes: int, rng: np.random.Generator) -> Floats:
    """log p_i, [clients, classes], as small alphas underflow: log Gamma(a) = log Gamma(a + 1) + log(U) / a."""
    size = (clients, classes)
    gamma = np.log(rng.standard_gamma(alpha + 1, size)) + np.log(1 - rng.random(size)) / alpha
    return np.asarray(log_softmax(gamma, axis=1), dtype=np.float64)
