"""One measure against another, a point a method: accuracy against traffic, unseen clients against the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedbench.reporting.figures.canvas import Picture, Style, line_styles, new_figure, save_picture
from fedbench.reporting.figures.curves import FAR, logarithmic
from fedbench.reporting.figures.labels import label_points
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Metric, summary
from fedbench.reporting.tables import metric_value


def _bars(look: Style) -> dict[str, Any]:
    return {"ecolor": to_rgba(look.color, 0.45), "elinewidth": 0.8, "linestyle": "none"}


def on_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The points (cost, accuracy) that no other point beats in one and equals in the other, from cheap to dear."""

    def beaten(title: str) -> bool:
        x, y = points[title]
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points.values())

    return sorted((title for title in points if not beaten(title)), key=lambda title: points[title])


def front(setting: SettingResults, metric: Metric) -> Picture | None:
    """Test accuracy against the traffic of the whole run."""
    value = metric_value(metric, "seen")
    looks = line_styles(setting)
    points: dict[str, tuple[float, float]] = {}
    errors = {}
    for row in setting.filled:
        accuracy = summary([value(run) or 0.0 for run in row.cell.runs])
        points[row.title] = (float(np.mean([run.megabytes for run in row.cell.runs])), accuracy.mean)
        errors[row.title] = accuracy.sd
    best = on_front(points)
    costs = [x for x, _ in points.values() if x > 0]
    figure, (axes,) = new_figure(2.7)
    for title, (x, y) in points.items():
        look = looks[title]
        face = look.color if title in best else "white"
        axes.errorbar(x, y, errors[title], color=look.color, marker=look.marker, mfc=face, ms=5, **_bars(look))
    steps = [points[title] for title in best]
    axes.plot(*zip(*steps, strict=True), color="#999999", linewidth=0.8, zorder=0, drawstyle="steps-post")
    narrow = not costs or max(costs) <= FAR * min(costs)
    if not narrow:
        logarithmic(axes, min(costs), max(costs))
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.12 * (high - low), high + 0.15 * (high - low)) if narrow else axes.set_xlim(
        -0.35 * min(costs), 3 * max(costs)
    )
    if narrow:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "" if x < 0 else f"{x:g}"))
    axes.margins(y=0.12)
    axes.set_ylim(top=min(101.5, axes.get_ylim()[1]))
    axes.set_xlabel("traffic of a run, both directions (MB)")
    axes.set_ylabel(f"test accuracy, {metric} (%)")
    label_points(axes, points, looks)
    return save_picture(
        figure,
        f"{setting.name}-front",
        f"Accuracy against traffic: {setting.label}",
        "Test accuracy against the traffic of the whole run; filled: on the front, where no other method has more "
        "accuracy for fewer bytes. Bars are one standard deviation over seeds.",
        [
            {"method": title, "megabytes": x, "accuracy": y, "sd": errors[title], "front": int(title in best)}
            for title, (x, y) in points.items()
        ],
    )


def unseen(setting: SettingResults, metric: Metric) -> Picture | None:
    """Accuracy of clients that were held out of training against that of the others."""
    looks = line_styles(setting)
    figure, (axes,) = new_figure(2.9)
    points = {}
    for row in setting.filled:
        both = [
            [number for run in row.cell.runs if (number := metric_value(metric, side)(run)) is not None]
            for side in ("seen", "unseen")
        ]
        if not both[1]:
            continue
        x, y = summary(both[0]), summary(both[1])
        look = looks[row.title]
        axes.errorbar(x.mean, y.mean, y.sd, x.sd, color=look.color, marker=look.marker, ms=4.5, **_bars(look))
        points[row.title] = (x.mean, y.mean)
    axes.margins(0.15)
    across, up = ((low, min(101.5, high)) for low, high in (axes.get_xlim(), axes.get_ylim()))
    axes.plot([0, 100], [0, 100], color="#999999", linewidth=0.7, linestyle="--", zorder=0)
    axes.set_xlim(across)
    axes.set_ylim(up)
    axes.set_xlabel(f"seen clients, {metric} (%)")
    axes.set_ylabel(f"unseen clients, {metric} (%)")
    label_points(axes, points, looks)
    return save_picture(
        figure,
        f"{setting.name}-unseen",
        f"Seen and unseen clients: {setting.label}",
        "Test accuracy of clients that joined after training against that of the others; on the dashed line both are "
        "equal. Bars are one standard deviation over seeds.",
        [{"method": title, "seen": x, "unseen": y} for title, (x, y) in points.items()],
    )
