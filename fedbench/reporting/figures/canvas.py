"""What all figures have in common: width, look, one style a method, and how they become files."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from fedbench.reporting.run import Floats
from fedbench.reporting.settings import SettingResults

WIDTH = 3.25  # inches: a column of print
DPI = 200
NAME = 28  # letters of a name beside a curve
CONTRAST = 4.5  # of letters on white, as WCAG asks for
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
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a title is a $
}


class Style(NamedTuple):
    """How a method looks."""

    color: str
    marker: str
    line: str

    @property
    def ink(self) -> str:
        """The colour for letters: darkened until its contrast with white suffices."""
        return readable(self.color)


def contrast(color: str) -> float:
    """The contrast ratio of a colour with white, 1 .. 21. Source: WCAG 2, relative luminance."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05))


@cache
def readable(color: str) -> str:
    """`color`, darkened as little as letters need."""
    shade = np.array(to_rgb(color))
    while contrast(to_hex(tuple(shade))) < CONTRAST:
        shade = shade * 0.97
    return to_hex(tuple(shade))


def short_names(titles: Iterable[str]) -> dict[str, str]:
    """Methods' names as figures have room for them, by title, no two of them alike.

    Of a long one its two ends. Where that makes some alike, long ones have initials for the rooms of hyperparameters,
    `l.lr=0.05` for `local.lr=0.05`; and what is alike then is whole.
    """
    titles = list(titles)
    for form in (_ends, _initials):
        made = {title: title if len(title) <= NAME else form(title) for title in titles}
        count = Counter(made.values())
        if max(count.values(), default=1) == 1:
            return made
    return {title: title if count[short] > 1 else short for title, short in made.items()}


def _ends(title: str) -> str:
    return f"{title[: NAME // 2 - 1].rstrip()}\u2026{title[-NAME // 2 :].lstrip()}"


def _initials(title: str) -> str:
    return re.sub(r"\b([a-z])\w*\.(?=[a-z])", r"\1.", title)


@dataclass(frozen=True)
class Picture:
    """A figure that was made: the stem of its files, what it shows, and its bytes by format.

    A picture with an "svg" is shown by it in the page; `series` are then the methods that can be hidden there.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]  # "png", "pdf", "csv"; "svg" where points have values to show
    series: Sequence[str] = ()


class Series(NamedTuple):
    """Points of a curve with the text that each shows on hover."""

    title: str
    x: Floats
    y: Floats
    texts: Sequence[str]


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
    """The style of each method, by title. Variants of one method share its colour and differ in marker and line."""
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


def new_figure(height: float, panels: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure of the common width, `height` inches high. Draw inside `rc_context(LOOK)`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def save_picture(
    figure: Figure,
    name: str,
    title: str,
    caption: str,
    data: Iterable[Mapping[str, object]] = (),
    series: Sequence[Series] = (),
) -> Picture:
    """The finished figure as a picture, which has the same bytes every time.

    `data` are the rows of its CSV file. With `series`, the picture has an SVG too, in which the points of the curves
    show their values.
    """
    files = {}
    for kind, stamp in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        files[kind] = _printed(figure, kind, stamp)
        figure.set_layout_engine("none")  # the layout is found; finding it again takes as long as drawing
    if series:
        for number, each in enumerate(series):
            (points,) = figure.axes[0].plot(each.x, each.y, "o", color="black", markersize=7, mew=0, alpha=0)
            points.set_gid(f"series-{number}-points")
        files["svg"] = _with_texts(_printed(figure, "svg", {"Date": None}).decode(), name, series).encode()
    files["csv"] = _csv(data).encode()
    return Picture(name, title, caption, files, [each.title for each in series])


def _printed(figure: Figure, kind: str, stamp: Mapping[str, None]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "fedbench"}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=dict(stamp))
    return buffer.getvalue()


def _csv(data: Iterable[Mapping[str, object]]) -> str:
    rows = list(data)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _with_texts(svg: str, name: str, series: Sequence[Series]) -> str:
    """The SVG for the page: no declarations, ids of its own, a title in every point, and nothing more than needed."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # hundredths of a point are enough, but not in what is written
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r" ?\n(?=[LCz])", "", svg).replace("xlink:href=", "href=")
    for number, each in enumerate(series):
        start = svg.index(f'id="series-{number}-points"')
        svg = f'{svg[:start]}fill-opacity="0" {svg[start:]}'
        end = svg.index("</g>", svg.index("<use", start))
        group = svg[start:end].replace(' style="fill-opacity: 0"', "")  # the group says it once
        points = re.split(r"(<use [^>]*)/>", group)  # what is between, a point, what is between, ...
        for place, text in enumerate(each.texts[: len(points) // 2]):
            points[2 * place + 1] += f"><title>{html.escape(text)}</title></use>"
        svg = svg[:start] + "".join(points) + svg[end:]
    mine = hashlib.sha256(name.encode()).hexdigest()[:6]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{mine}-", svg)
