"""Which figure is drawn for which name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import matplotlib as mpl

from fedbench.reporting.figures.canvas import LOOK, Picture
from fedbench.reporting.figures.clients import balance, clients, gain
from fedbench.reporting.figures.curves import curves
from fedbench.reporting.figures.tradeoffs import front, unseen
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Metric

Kind = Literal["visits", "test", "gradients", "megabytes", "seconds", "front", "clients", "gain", "balance", "unseen"]


def draw(
    setting: SettingResults, kind: Kind, metric: Metric = "pooled", reference: str | None = None
) -> Picture | None:
    """The figure `kind` of a setting; None where the setting has nothing for it."""
    if not setting.filled:
        return None
    makers: dict[Kind, Callable[[], Picture | None]] = {
        "visits": lambda: curves(setting, "visits", metric),
        "test": lambda: curves(setting, "visits", metric, chosen=True),
        "gradients": lambda: curves(setting, "gradients", metric),
        "megabytes": lambda: curves(setting, "megabytes", metric),
        "seconds": lambda: curves(setting, "seconds", metric),
        "front": lambda: front(setting, metric),
        "clients": lambda: clients(setting),
        "gain": lambda: gain(setting, reference),
        "balance": lambda: balance(setting),
        "unseen": lambda: unseen(setting, metric) if setting.has_unseen else None,
    }
    with mpl.rc_context(LOOK):
        return makers[kind]()
