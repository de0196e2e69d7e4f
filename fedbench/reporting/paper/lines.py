"""The figure that most parts draw: a line for each method, with a legend below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from fedbench.reporting.figures import LOOK, Picture, new_figure, save_picture
from fedbench.reporting.figures.canvas import Style
from fedbench.reporting.paper.material import BySeed
from fedbench.reporting.run import Floats

HEIGHT = 2.2  # inches, of the axes and what belongs to them
LEGEND_ROW = 0.17  # inches
LEGEND_COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """Places [P] and values [P], with a standard deviation over seeds, which is nan where there is one."""

    label: str
    style: Style
    x: Floats
    y: Floats
    sd: Floats | None = None
    marked: bool = True  # with a marker at every place

    @staticmethod
    def through(label: str, style: Style, cells: Sequence[tuple[float, BySeed]]) -> Line:
        """A line through the means of numbers by seed, at their places."""
        cells = sorted((cell for cell in cells if cell[1]), key=lambda cell: cell[0])
        numbers = [np.array(list(by_seed.values())) for _, by_seed in cells]
        sd = np.array([each.std(ddof=1) if len(each) > 1 else np.nan for each in numbers])
        means = np.array([each.mean() for each in numbers])
        return Line(label, style, np.array([x for x, _ in cells]), means, None if np.isnan(sd).all() else sd)


@dataclass(frozen=True)
class Axis:
    """A label, and where ticks stand by themselves: their places, with texts or without."""

    label: str
    ticks: Sequence[float] | None = None
    texts: Sequence[str] | None = None
    logarithmic: bool = False


def draw_lines(name: str, title: str, caption: str, lines: Sequence[Line], x: Axis, y: str) -> Picture:
    """Lines with error bars where they are marked, with bands where they are not."""
    rows = -(-len(lines) // LEGEND_COLUMNS)
    with rc_context(LOOK):
        figure, (axes,) = new_figure(HEIGHT + LEGEND_ROW * rows)
        for line in lines:
            _draw(axes, line)
        if x.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        if x.ticks is not None:
            axes.set_xticks(x.ticks, x.texts or [f"{tick:g}" for tick in x.ticks])
            axes.xaxis.minorticks_off()
        if x.texts is not None:
            axes.margins(x=0.3 / max(1, len(x.texts) - 1) if len(x.texts) < 4 else 0.05)
        axes.set_xlabel(x.label)
        axes.set_ylabel(y)
        figure.legend(loc="outside lower center", ncols=min(LEGEND_COLUMNS, len(lines)), fontsize=7, frameon=False)
        texts = dict(zip(x.ticks or (), x.texts or (), strict=bool(x.texts)))
        where = x.label or "column"
        data = [
            {"line": line.label, where: texts.get(place, place), y: value}
            | ({} if line.sd is None or np.isnan(line.sd[i]) else {"sd": line.sd[i]})
            for line in lines
            for i, (place, value) in enumerate(zip(line.x, line.y, strict=True))
        ]
        return save_picture(figure, name, title, caption, data)


def _draw(axes: Axes, line: Line) -> None:
    color, marker, dash = line.style
    if not line.marked:
        every = max(1, len(line.x) // 6)
        axes.plot(line.x, line.y, dash, color=color, marker=marker, markersize=3.2, markevery=every, label=line.label)
        if line.sd is not None:
            axes.fill_between(line.x, line.y - line.sd, line.y + line.sd, color=color, alpha=0.15, linewidth=0)
        return
    axes.errorbar(
        line.x, line.y, line.sd, linestyle=dash, color=color, marker=marker, ms=4, elinewidth=0.8, label=line.label
    )
