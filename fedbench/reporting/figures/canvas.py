"""What all figures have in common: their width, their look, one style a method, and how they become files."""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedbench.reporting.settings import SettingResults

WIDTH = 3.4  # inches
DPI = 200
LOOK: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # letters that an editor can select
    "svg.hashsalt": "fedbench",
    "text.parse_math": False,  # a $ in a title is a $
}


class Style(NamedTuple):
    """How a method looks."""

    color: str
    marker: str
    line: str


@dataclass(frozen=True)
class Picture:
    """A figure that was made: the stem of its files, what it shows, and its bytes by format."""

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]  # "png", "pdf"


@cache
def _styles() -> tuple[dict[str, Style], list[Style]]:
    text = tomllib.loads(Path(__file__).with_name("style.toml").read_text(encoding="utf-8"))
    return {name: Style(*style) for name, style in text["method"].items()}, [Style(*s) for s in text["free"]["styles"]]


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for every method: its own, or a free one that its name chooses; none twice while they last."""
    own, free = _styles()
    chosen: dict[str, Style] = {}
    for name in sorted(set(names)):
        if name in own:
            chosen[name] = own[name]
            continue
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(free)
        order = free[start:] + free[:start]
        chosen[name] = next((style for style in order if style not in chosen.values()), order[0])
    return chosen


def line_styles(setting: SettingResults) -> dict[str, Style]:
    """By title. Variants of one method share its colour and differ in marker and line."""
    by_name = styles(line.name for line in setting.rows)
    dashes, markers = ("-", "--", ":", "-."), "os^DvPX<>"
    made: dict[str, Style] = {}
    seen: dict[str, int] = {}
    for line in setting.rows:
        style, twin = by_name[line.name], seen.get(line.name, 0)
        seen[line.name] = twin + 1
        if twin:
            style = Style(
                style.color,
                markers[(markers.find(style.marker) + twin) % len(markers)],
                dashes[(dashes.index(style.line) + twin) % len(dashes)],
            )
        made[line.title] = style
    return made


def new_figure(height: float) -> tuple[Figure, Axes]:
    """An empty figure of the common width, `height` inches high. Draw inside `rc_context(LOOK)`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_picture(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """The finished figure as a picture, which has the same bytes every time."""
    files = {}
    for kind in ("png", "pdf"):
        buffer = io.BytesIO()
        stamp = {"CreationDate": None} if kind == "pdf" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=stamp)
        files[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # the layout is found; finding it again takes as long as drawing
    return Picture(name, title, caption, files)
