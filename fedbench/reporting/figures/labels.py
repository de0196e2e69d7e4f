"""Names beside curves and points, moved as little as they must be to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fedbench.reporting.figures.canvas import Style, short_names

LINE = 8.4  # points from one name to the next
NEAR = 12  # points; a name that is farther from its place has a leader
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`places` moved as little as they must be to lie `gap` apart, within `low` .. `high` where there is room."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    groups: list[list[float]] = []  # [number of labels, sum of the wished place of the lowest one]
    for rank in range(len(order)):
        groups.append([1.0, places[order[rank]]])
        while len(groups) > 1 and groups[-2][1] / groups[-2][0] + gap * groups[-2][0] > groups[-1][1] / groups[-1][0]:
            count, total = groups.pop()
            groups[-1][1] += total - gap * groups[-1][0] * count
            groups[-1][0] += count
    put = []
    for count, total in groups:
        put += [total / count + gap * i for i in range(int(count))]
    for i, place in enumerate(put):
        put[i] = max(place, low + gap * i)
    for i in reversed(range(len(put))):
        put[i] = min(put[i], high - gap * (len(put) - 1 - i))
    result = [0.0] * len(places)
    for rank, i in enumerate(order):
        result[i] = put[rank]
    return result


def tall_enough(height: float, names: int) -> float:
    """The height in inches, `height` at least, of a figure at whose right so many names stand."""
    return max(height, 0.6 + names * LINE / 72)


def label_ends(
    axes: Axes, ends: Mapping[str, Point], looks: Mapping[str, Style], texts: Mapping[str, str] | None = None
) -> None:
    """Names at the right of the axes, at the height where the lines end, with a leader where they had to move.

    `ends` are in the coordinates of the data; `texts` are what is written, by default the names themselves.
    """
    axes.set_xlim(axes.get_xlim())  # from here on fixed, as places are computed from them
    axes.set_ylim(axes.get_ylim())
    height = 72 * axes.get_window_extent().height / axes.figure.dpi  # points, before the layout is found
    to_axes = axes.transAxes.inverted()
    points = {title: to_axes.transform(axes.transData.transform(end)) for title, end in ends.items()}
    places = spread([float(points[title][1]) for title in ends], LINE / height, 0.0, 1.0)
    texts = texts or short_names(ends)
    for number, (title, place) in enumerate(zip(ends, places, strict=True)):
        leader = _leader(axes, points[title].tolist(), (1.04, place), looks[title])
        leader.set_gid(f"series-{number}-leader")
        name = axes.text(
            1.05, place, texts[title], transform=axes.transAxes, va="center", fontsize=7, color=looks[title].ink
        )
        name.set_gid(f"series-{number}-name")


def _leader(axes: Axes, start: Sequence[float], end: Sequence[float], look: Style) -> Line2D:
    """A hair line from a place to its name, in fractions of the axes."""
    xs, ys = zip(start, end, strict=True)
    (line,) = axes.plot(xs, ys, transform=axes.transAxes, color=look.color, linewidth=0.5, alpha=0.7, clip_on=False)
    return line


def label_points(axes: Axes, points: Mapping[str, Point], looks: Mapping[str, Style]) -> None:
    """A name beside each point, where it covers least of the other names and points; a leader where it is far."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # the layout decides where points are
    figure.set_layout_engine("none")
    inside = axes.get_window_extent()
    to_axes = axes.transAxes.inverted()
    scale = figure.dpi / 72  # pixels a point
    spots = {title: axes.transData.transform(point) for title, point in points.items()}
    taken = {t: (x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for t, (x, y) in spots.items()}

    def cost(title: str, box: Box, radius: float) -> float:
        out = max(0, inside.x0 - box[0], box[2] - inside.x1) + max(0, inside.y0 - box[1], box[3] - inside.y1)
        covered = sum(_covered(box, other) for other in taken.values())
        crossed = 0.0
        if radius > NEAR:  # then it has a leader
            middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            places = np.linspace(spots[title], middle, 12)
            others = [other for name, other in taken.items() if name != title]
            crossed = sum(any(o[0] < x < o[2] and o[1] < y < o[3] for o in others) for x, y in places) / len(places)
        return float(out + 4 * covered + 2 * crossed + 0.01 * radius)

    names = short_names(points)
    for title, (x, y) in sorted(spots.items(), key=lambda item: float(item[1][1])):
        text = axes.text(0, 0, names[title], fontsize=7, color=looks[title].ink, ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])
        size = text.get_window_extent()
        places = []
        for radius in (6, 12, 20, 30, 42, 56):
            for angle in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225]):
                across, up = np.cos(angle), np.sin(angle)
                left = x + radius * scale * across + size.width * (round(across) - 1) / 2
                bottom = y + radius * scale * up - size.height / 2
                places.append(((left, bottom, left + size.width, bottom + size.height), radius))
        box, radius = min(places, key=lambda place, title=title: cost(title, *place))  # type: ignore[misc]
        taken[f"name of {title}"] = box
        middle: Point = tuple(to_axes.transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)).tolist())
        if radius > NEAR:
            _leader(axes, to_axes.transform((x, y)).tolist(), middle, looks[title])
        text.set_transform(axes.transAxes)
        text.set_position(middle)


def _covered(a: Box, b: Box) -> float:
    """How much of the smaller box the other one covers, 0 .. 1."""
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
