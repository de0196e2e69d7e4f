"""How long a comparison is, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """How long a comparison is. `laptop` and `paper` evaluate on one grid, so that the longer run answers for both."""

    visits: int
    seeds: int
    evaluate_every: int
    meaning: str


PRESETS = {
    "smoke": Preset(20, 1, 50, "does it run at all"),
    "laptop": Preset(1000, 3, 50, "a comparison that can be trusted in its order"),
    "paper": Preset(5000, 3, 50, "the effort of Shamsian et al. (2021)"),
}
