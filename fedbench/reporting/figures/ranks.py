"""Average ranks of methods over settings, with their critical difference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from fedbench.reporting.figures.canvas import LOOK, Picture, new_figure, readable, save_picture, short_names, styles
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import LEVEL, Metric, average_ranks, critical_difference
from fedbench.reporting.tables import metric_value

ENOUGH = 3  # settings from which ranks are averaged


def independent(settings: Sequence[SettingResults]) -> list[SettingResults]:
    """The settings without those that are the beginning of another one: of equal ones, that with most visits."""
    longest: dict[tuple[object, ...], SettingResults] = {}
    for setting in settings:
        if setting.runs:
            spec = setting.runs[0].spec
            same = (spec.dataset, spec.clients, spec.novel_clients, spec.network, spec.partition, spec.dtype)
            known = longest.get(same)
            if known is None or known.runs[0].spec.visits < spec.visits:
                longest[same] = setting
    return [setting for setting in settings if setting in longest.values()]


def ranks(settings: Sequence[SettingResults], metric: Metric) -> Picture | None:
    """A critical-difference diagram of the methods that have a value in every setting; None for too few of either."""
    blocks = independent(settings)
    names = {row.title: row.name for setting in blocks for row in setting.filled}
    cells = [setting.cells for setting in blocks]
    value = metric_value(metric)
    values = {
        title: [float(np.mean([value(run) for run in each[title].runs])) for each in cells]
        for title in names
        if all(title in each and each[title].runs for each in cells)
    }
    if len(blocks) < ENOUGH or len(values) < 3:
        return None
    found = average_ranks(values)
    reach = critical_difference(len(values), len(blocks))
    order = sorted(found, key=lambda title: found[title])
    looks = styles(names.values())
    with mpl.rc_context(LOOK):
        figure, (axes,) = new_figure(0.75 + 0.17 * len(order))
        for place, title in enumerate(order):
            look = looks[names[title]]
            axes.plot([found[title]], [place], look.marker, color=look.color, markersize=5, zorder=3)
            axes.plot([found[title], found[title] + reach], [place, place], color="#bbbbbb", linewidth=2.5, zorder=2)
        axes.axvspan(found[order[0]], found[order[0]] + reach, color="#eef4fb", zorder=0)
        axes.set_yticks(range(len(order)), list(short_names(order).values()))
        for label, title in zip(axes.get_yticklabels(), order, strict=True):
            label.set_color(readable(looks[names[title]].color))
        axes.set_ylim(len(order) - 0.5, -0.5)  # the best at the top
        axes.set_xlim(0.8, max(len(order), found[order[-1]] + reach) + 0.2)
        axes.set_xlabel(f"average rank over {len(blocks)} settings (1: best)")
        axes.grid(visible=False, axis="y")
        return save_picture(
            figure,
            "average-ranks",
            f"Average ranks over {len(blocks)} settings",
            f"Mean rank by {metric}; methods that are not in all settings are left out. Two methods whose ranks differ "
            f"by less than the critical difference {reach:.2f} (grey; Nemenyi, level {LEVEL}) cannot be told apart; "
            "shaded: those that cannot be told from the first. Beginnings of longer settings do not count.",
            [
                {"method": title, "average_rank": found[title], "critical_difference": reach, "settings": len(blocks)}
                for title in order
            ],
        )
