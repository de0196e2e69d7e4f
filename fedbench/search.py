"""What of a hyperparameter may be searched: a note in its annotation, beside its range and meaning.

    alpha: Annotated[float, Field(ge=0, description="..."), Grid(5e-2, 1e-2, 5e-3, 1e-3)] = 1e-2
    tuning: Annotated[SGD, Field(description="..."), Grid(5e-2, 1e-2, of="lr"), LogRange(1e-6, 1e-2, of="weight_decay")]

On a group of hyperparameters, `of` names the field that is meant, and replaces what the field itself says;
`Grid(of="lr")`, without a value, takes the field out of the search. A field without such a note is not searched.
"""

from __future__ import annotations

from dataclasses import dataclass

# Shamsian et al. (2021) searched these, for every method and, where it has one, its personal rate; remembered
RATES = (1e-1, 5e-2, 1e-2, 5e-3)
PERSONAL_RATES = (5e-2, 1e-2, 5e-3, 1e-3)


@dataclass(frozen=True, init=False)
class Grid:
    """The values that are tried."""

    values: tuple[bool | int | float | str, ...]
    of: str

    def __init__(self, *values: bool | int | float | str, of: str = "") -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "of", of)


@dataclass(frozen=True)
class LogRange:
    """Values from `low` to `high`, drawn uniformly in their logarithm. Raises ValueError unless 0 < low < high."""

    low: float
    high: float
    of: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise ValueError(f"a logarithmic range needs 0 < low < high, not {self.low} .. {self.high}")
