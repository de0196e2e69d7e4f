"""Accuracy against effort: on validation, and on test at the round that validation had chosen by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from fedbench.reporting.figures.canvas import Picture, Series, line_styles, new_figure, save_picture
from fedbench.reporting.figures.labels import label_ends, tall_enough
from fedbench.reporting.run import Floats
from fedbench.reporting.settings import MethodRow, SettingResults
from fedbench.reporting.statistics import Metric
from fedbench.reporting.tables import amount

Effort = Literal["visits", "megabytes", "seconds", "gradients"]
FAR = 30  # an axis becomes logarithmic where one method costs so many times as much as another
FOLDED = 0.18  # of the axis: what is left for accuracies below the range in which methods differ
WORDS: dict[Effort, str] = {
    "visits": "client visits",
    "megabytes": "traffic, both directions (MB)",
    "seconds": "run time (s)",
    "gradients": "gradient evaluations",
}


def shared_grid(row: MethodRow, x: str) -> Floats | None:
    """Where all seeds of a method were evaluated; None where that differs from seed to seed."""
    grids = [run.history[x] for run in row.cell.runs]
    return grids[0] if all(np.array_equal(grids[0], grid) for grid in grids) else None


def curve(row: MethodRow, x: str, y: str) -> tuple[Floats, Floats, Floats | None]:
    """A method's places, mean over seeds and standard deviation (None for one seed), on the grid of all seeds."""
    grid = shared_grid(row, x)
    assert grid is not None
    values = np.stack([run.history[y] for run in row.cell.runs])
    return grid, values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else None


def curves(setting: SettingResults, x: Effort, metric: Metric, chosen: bool = False) -> Picture | None:
    """Validation accuracy against effort, or, where `chosen`, test accuracy at the round validation had chosen by then.

    Bands are one standard deviation over seeds. Seeds that were evaluated at other places (as run times are) are drawn
    one by one, each to its own end: nothing is interpolated. None where nothing can be drawn.
    """
    y = "accuracy" if metric == "pooled" else "client_mean"
    y = f"test_{y}" if chosen else y
    shown = [row for row in setting.filled if all({x, y} <= run.history.keys() for run in row.cell.runs)]
    shown = [row for row in shown if max(run.history[x][-1] for run in row.cell.runs) > 0]
    if not shown:
        return None
    figure, (axes,) = new_figure(tall_enough(2.6, len(shown)))
    looks = line_styles(setting)
    ends: dict[str, tuple[float, float]] = {}
    series: list[Series] = []
    data: list[dict[str, object]] = []
    for number, row in enumerate(shown):
        look = looks[row.title]
        if shared_grid(row, x) is not None:
            grid, mean, sd = curve(row, x, y)
            lines = [(grid, mean)]
            if sd is not None:
                band = axes.fill_between(grid, mean - sd, mean + sd, color=look.color, alpha=0.1, linewidth=0)
                band.set_gid(f"series-{number}-band")
            spread = sd if sd is not None else np.full(len(grid), np.nan)
            texts = [
                f"{row.title}: {b:.2f} %{f' ± {c:.2f}' if sd is not None else ''} at {amount(a)} {WORDS[x]}"
                for a, b, c in zip(grid, mean, spread, strict=True)
            ]
            series.append(Series(row.title, grid, mean, texts))
            for a, b, c in zip(grid, mean, spread, strict=True):
                data.append({"method": row.title, x: a, "mean": b, "sd": "" if np.isnan(c) else c})
        else:
            lines = [(run.history[x], run.history[y]) for run in row.cell.runs]
            both = [np.concatenate([line[i] for line in lines]) for i in range(2)]
            texts = [
                f"{row.title}, seed {run.spec.seed}: {b:.2f} % at {amount(a)} {WORDS[x]}"
                for run in row.cell.runs
                for a, b in zip(run.history[x], run.history[y], strict=True)
            ]
            series.append(Series(row.title, both[0], both[1], texts))
            for run in row.cell.runs:
                for a, b in zip(run.history[x], run.history[y], strict=True):
                    data.append({"method": row.title, "seed": run.spec.seed, x: a, "accuracy": b})
        for place, (grid, values) in enumerate(lines):
            every = max(1, len(grid) // 6)
            width = 1.2 if len(lines) == 1 else 0.7
            (line,) = axes.plot(
                grid,
                values,
                look.line,
                color=look.color,
                marker=look.marker,
                markersize=3.2 if len(lines) == 1 else 2.2,
                markevery=every,
                linewidth=width,
            )
            line.set_gid(f"series-{number}-line{place}")
        longest = max(lines, key=lambda line: float(line[0][-1]))
        ends[row.title] = (float(longest[0][-1]), float(longest[1][-1]))
    what = "test accuracy at the chosen round" if chosen else "validation accuracy"
    axes.set_xlabel(WORDS[x])
    axes.set_ylabel(f"test accuracy at the\nchosen round, {metric} (%)" if chosen else f"{what}, {metric} (%)")
    _scale(axes, [end for end, _ in ends.values()])
    folded = _fold(axes, [each.y for each in series])
    label_ends(axes, ends, looks)
    return save_picture(
        figure,
        f"{setting.name}-curves-{'test-' if chosen else ''}{x}",
        f"{what[0].upper()}{what[1:]} against {WORDS[x].split(',')[0]}: {setting.label}",
        _caption(setting, shown, x, metric, chosen, folded),
        data,
        series,
    )


def _caption(
    setting: SettingResults, shown: Sequence[MethodRow], x: Effort, metric: Metric, chosen: bool, folded: float | None
) -> str:
    counts = sorted({len(row.cell.runs) for row in shown})
    if any(shared_grid(row, x) is None for row in shown):
        seeds = "one line a seed, each to its own end"
    elif counts[-1] == 1:
        seeds = "one seed"
    else:
        several = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        seeds = f"bands: ± one standard deviation over {several} seeds"
    what = "Test accuracy at the round that validation had chosen by then" if chosen else "Validation accuracy"
    silent = [row.title for row in setting.filled if row not in shown]
    why = "whose results do not hold it" if chosen else "where nothing travels"
    note = f"; without {', '.join(silent)}, {why}" if silent else ""
    fold = f" Below {folded:g} % the axis is folded." if folded is not None else ""
    times = (
        f" {setting.unlike_times[0].upper()}{setting.unlike_times[1:]}."
        if x == "seconds" and setting.unlike_times
        else ""
    )
    return f"{what} ({metric}) against {WORDS[x]}; {seeds}{note}.{fold}{times}"


def _scale(axes: Axes, lengths: Sequence[float]) -> None:
    """Begin at zero; be logarithmic where one method costs so much that the others would be a line at the left."""
    if max(lengths) > FAR * min(lengths):
        logarithmic(axes, min(lengths) / 10, max(lengths))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(left=0)


def logarithmic(axes: Axes, first: float, last: float) -> None:
    """A logarithmic x axis from `first` to `last` that has a zero, and ticks at powers of ten that do not touch it."""
    axes.set_xscale("symlog", linthresh=first)
    axes.set_xticks([0, *(10.0**k for k in range(int(np.ceil(np.log10(2 * first))), int(np.log10(last)) + 1))])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def fold_place(curves: Sequence[Floats]) -> float | None:
    """The accuracy below which an axis is folded, a multiple of 5; None where folding gains little.

    Methods differ where the later halves of most curves lie: above the lower quartile of their values.
    """
    late = np.concatenate([values[len(values) // 2 :] for values in curves])
    low, high = min(float(values.min()) for values in curves), max(float(values.max()) for values in curves)
    place = 5.0 * np.floor((np.quantile(late, 0.25) - 2) / 5)
    return float(place) if high > low and (place - low) > 0.45 * (high - low) else None


def _fold(axes: Axes, values: Sequence[Floats]) -> float | None:
    """Give the range in which methods differ most of the axis; the accuracy at the fold."""
    low = max(0.0, min(float(each.min()) for each in values) - 1)
    high = min(100.5, max(float(each.max()) for each in values) + 1)
    place = fold_place(values)
    axes.set_ylim(low, high)
    if place is None:
        return None
    factor = FOLDED / (1 - FOLDED) * (high - place) / (place - low)
    axes.set_yscale(
        "function",
        functions=(
            lambda y: np.where(y < place, place - (place - y) * factor, y),
            lambda z: np.where(z < place, place - (place - z) / factor, z),
        ),
    )
    upper = [tick for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(place, high) if place <= tick <= high]
    bottom = 10 * np.ceil(low / 10)
    ticks = ([bottom] if place - bottom > 10 else []) + ([] if upper and upper[0] == place else [place]) + upper
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_ylim(low, high)
    axes.axhspan(low, place, color="#f2f2f2", zorder=0, linewidth=0)
    return place
