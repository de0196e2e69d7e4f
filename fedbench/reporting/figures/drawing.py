"""Figures, at the width of a column of print: 3.4 inches. One colour, marker and line a method, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedbench.reporting.cells import Floats
from fedbench.reporting.figures.canvas import LOOK, Picture, Style, line_styles, new_figure, save_picture
from fedbench.reporting.settings import MethodRow, SettingResults, metric_value
from fedbench.reporting.statistics import summary

if TYPE_CHECKING:
    from fedbench.experiments.schema import Draw

POINTS = 200  # of a curve, where seeds were not looked at in the same places
FAR = 30  # an axis becomes logarithmic where the dearest method costs so many times as much as the cheapest
NEAR = 12  # points; a name that is farther from its place has a leader
MANY_POINTS = 300  # from so many clients on a box is drawn without them
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top
AXES: dict[str, tuple[str, str]] = {  # of the curves: the history's name, and the axis's
    "visits": ("visits", "client visits"),
    "megabytes": ("megabytes", "traffic, both directions (MB)"),
    "seconds": ("seconds", "run time (s)"),
}


def _filled(setting: SettingResults) -> list[MethodRow]:
    return [line for line in setting.rows if line.cell.runs]


def draw(setting: SettingResults, kind: Draw, metric: Literal["client mean", "pooled"] = "pooled") -> Picture | None:
    """The figure `kind` of a setting; None where the setting has nothing for it."""
    lines = _filled(setting)
    if not lines or (kind == "unseen" and not setting.has_unseen):
        return None
    makers: dict[str, Callable[..., Picture | None]] = {"front": front, "clients": clients, "unseen": unseen}
    with mpl.rc_context(LOOK):
        if kind in AXES:
            return curves(setting, lines, kind, metric)
        return makers[kind](setting, lines, metric)


def _bars(look: Style) -> dict[str, Any]:
    return {"ecolor": to_rgba(look.color, 0.45), "elinewidth": 0.8, "linestyle": "none"}


def _logarithmic(axes: Axes, first: float, last: float) -> None:
    """A logarithmic x axis from `first` to `last` that has a zero, and ticks at powers of ten that do not touch it."""
    axes.set_xscale("symlog", linthresh=first)
    axes.set_xticks([0, *(10.0**k for k in range(int(np.ceil(np.log10(2 * first))), int(np.log10(last)) + 1))])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


# ---------------------------------------------------------------- labels


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
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


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, Style]) -> None:
    """Names at the right of the axes, at the height where the lines end, with a leader where they had to move."""
    low, high = axes.get_ylim()
    height = 72 * axes.get_window_extent().height / axes.figure.dpi  # points, before the layout is found
    gap = 8.2 / height * (high - low)
    titles = list(ends)
    places = _spread([ends[title][1] for title in titles], gap, low, high)
    for title, place in zip(titles, places, strict=True):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(ends[title]))
        place = (place - low) / (high - low)
        _leader(axes, (x, y), (1.04, place), looks[title])
        axes.text(1.05, place, title, transform=axes.transAxes, va="center", fontsize=7, color=looks[title].color)


def _leader(axes: Axes, start: Sequence[float], end: Sequence[float], look: Style) -> None:
    """A hair line from a place to its name, in fractions of the axes."""
    xs, ys = zip(start, end, strict=True)
    axes.plot(xs, ys, transform=axes.transAxes, color=look.color, linewidth=0.5, alpha=0.7, clip_on=False)


def _label_points(axes: Axes, points: Mapping[str, Point], looks: Mapping[str, Style]) -> None:
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

    for title, (x, y) in sorted(spots.items(), key=lambda item: float(item[1][1])):
        text = axes.text(0, 0, title, fontsize=7, color=looks[title].color, ha="center", va="center")
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


# ---------------------------------------------------------------- figures


def curve(line: MethodRow, x: str, y: str) -> tuple[Floats, Floats, Floats | None]:
    """A method's places, mean over seeds, standard deviation (None for one seed), to where the shortest seed ends."""
    histories = [run.history for run in line.cell.runs]
    grid = histories[0][x]
    if any(not np.array_equal(history[x], grid) for history in histories):
        first, last = max(h[x][0] for h in histories), min(h[x][-1] for h in histories)
        grid = np.linspace(first, last, POINTS)
    values = np.stack([np.interp(grid, history[x], history[y]) for history in histories])
    return grid, values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else None


def curves(setting: SettingResults, lines: Sequence[MethodRow], x: str, metric: str) -> Picture | None:
    """Validation accuracy against effort, with bands of one standard deviation over seeds."""
    key, label = AXES[x]
    shown = [line for line in lines if line.cell.runs[0].history[key][-1] > 0]
    if not shown:
        return None
    figure, axes = new_figure(2.6)
    looks = line_styles(setting)
    ends = {}
    for line in shown:
        look = looks[line.title]
        grid, mean, sd = curve(line, key, "accuracy" if metric == "pooled" else "client_mean")
        every = max(1, len(grid) // 6)
        axes.plot(grid, mean, look.line, color=look.color, marker=look.marker, markersize=3.2, markevery=every)
        if sd is not None:
            axes.fill_between(grid, mean - sd, np.minimum(mean + sd, 100), color=look.color, alpha=0.15, linewidth=0)
        ends[line.title] = (float(grid[-1]), float(mean[-1]))
    axes.set_xlabel(label)
    axes.set_ylabel(f"validation accuracy, {metric} (%)")
    lengths = [end for end, _ in ends.values()]
    wide = max(lengths) > FAR * min(lengths)
    if wide:
        _logarithmic(axes, min(lengths) / 10, max(lengths))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(left=0)
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(101, axes.get_ylim()[1]))
    _label_ends(axes, ends, looks)
    seeds = max(len(line.cell.runs) for line in shown)
    band = f"bands are ± one standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    silent = [line.title for line in lines if line not in shown]
    note = f"; without {', '.join(silent)}, where nothing travels" if silent else ""
    return save_picture(
        figure,
        f"{setting.name}-curves-{x}",
        f"Accuracy against {label.split(',')[0]}: {setting.label}",
        f"Validation accuracy ({metric}) against {label}; {band}{note}.",
    )


def on_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Those of (cost, accuracy) that no other point beats in one and equals in the other, from cheap to dear."""

    def beaten(title: str) -> bool:
        x, y = points[title]
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points.values())

    return sorted((title for title in points if not beaten(title)), key=lambda title: points[title])


def front(
    setting: SettingResults, lines: Sequence[MethodRow], metric: Literal["client mean", "pooled"]
) -> Picture | None:
    """Test accuracy against the traffic of the whole run."""
    value = metric_value(metric, "seen")
    looks = line_styles(setting)
    points: dict[str, tuple[float, float]] = {}
    errors = {}
    for line in lines:
        accuracy = summary([value(run) or 0.0 for run in line.cell.runs])
        points[line.title] = (float(np.mean([run.megabytes for run in line.cell.runs])), accuracy.mean)
        errors[line.title] = accuracy.sd
    best = on_front(points)
    costs = [x for x, _ in points.values() if x > 0]
    figure, axes = new_figure(2.7)
    for title, (x, y) in points.items():
        look = looks[title]
        face = look.color if title in best else "white"
        axes.errorbar(x, y, errors[title], color=look.color, marker=look.marker, mfc=face, ms=5, **_bars(look))
    steps = [points[title] for title in best]
    axes.plot(*zip(*steps, strict=True), color="#999999", linewidth=0.8, zorder=0, drawstyle="steps-post")
    narrow = not costs or max(costs) <= FAR * min(costs)
    if not narrow:
        _logarithmic(axes, min(costs), max(costs))
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
    _label_points(axes, points, looks)
    return save_picture(
        figure,
        f"{setting.name}-front",
        f"Accuracy against traffic: {setting.label}",
        "Test accuracy against the traffic of the whole run; filled: on the front, where no other method has more "
        "accuracy for fewer bytes. Bars are one standard deviation over seeds.",
    )


def clients(setting: SettingResults, lines: Sequence[MethodRow], metric: str) -> Picture | None:
    """How test accuracy is spread over clients."""
    import seaborn as sns

    looks = line_styles(setting)
    pools = {line.title: np.concatenate([run.seen.client for run in line.cell.runs]) for line in lines}
    order = sorted(pools, key=lambda title: -pools[title].mean())
    figure, axes = new_figure(0.62 + 0.2 * len(order))
    palette = {title: looks[title].color for title in order}
    sns.boxplot(
        {"method": [t for t in order for _ in pools[t]], "accuracy": np.concatenate([pools[t] for t in order])},
        x="accuracy",
        y="method",
        order=order,
        hue="method",
        palette=palette,
        legend=False,
        whis=(10, 90),
        fliersize=0,
        width=0.62,
        fill=False,
        linewidth=0.8,
        ax=axes,
    )
    rng = np.random.default_rng(0)
    for row, title in enumerate(order):
        if len(pools[title]) <= MANY_POINTS:
            height = row + rng.uniform(-0.26, 0.26, len(pools[title]))
            axes.plot(pools[title], height, ".", color=palette[title], markersize=4, mew=0, alpha=0.5, zorder=1)
        axes.plot(pools[title].mean(), row, "D", color=palette[title], markersize=3.5, mec="white", mew=0.5, zorder=5)
    axes.set_xlabel("test accuracy of a client (%)")
    axes.set_ylabel("")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    return save_picture(
        figure,
        f"{setting.name}-clients",
        f"Accuracy over clients: {setting.label}",
        "Test accuracy of every client under every seed: box from the lower to the upper quartile with the median, "
        "whiskers to the worst and best decile, diamond: mean.",
    )


def unseen(
    setting: SettingResults, lines: Sequence[MethodRow], metric: Literal["client mean", "pooled"]
) -> Picture | None:
    """Accuracy of clients that were held out of training against that of the others."""
    looks = line_styles(setting)
    figure, axes = new_figure(2.9)
    points = {}
    for line in lines:
        both = [
            [number for run in line.cell.runs if (number := metric_value(metric, side)(run)) is not None]
            for side in ("seen", "unseen")
        ]
        if not both[1]:
            continue
        x, y = summary(both[0]), summary(both[1])
        look = looks[line.title]
        axes.errorbar(x.mean, y.mean, y.sd, x.sd, color=look.color, marker=look.marker, ms=4.5, **_bars(look))
        points[line.title] = (x.mean, y.mean)
    axes.margins(0.15)
    across, up = ((low, min(101.5, high)) for low, high in (axes.get_xlim(), axes.get_ylim()))
    axes.plot([0, 100], [0, 100], color="#999999", linewidth=0.7, linestyle="--", zorder=0)
    axes.set_xlim(across)
    axes.set_ylim(up)
    axes.set_xlabel(f"seen clients, {metric} (%)")
    axes.set_ylabel(f"unseen clients, {metric} (%)")
    _label_points(axes, points, looks)
    return save_picture(
        figure,
        f"{setting.name}-unseen",
        f"Seen and unseen clients: {setting.label}",
        "Test accuracy of clients that joined after training against that of the others; on the dashed line both are "
        "equal. Bars are one standard deviation over seeds.",
    )
