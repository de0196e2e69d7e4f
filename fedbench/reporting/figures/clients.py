"""Client by client: how accuracy is spread, what is gained over a reference, and whom a method serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from fedbench.reporting.figures.canvas import LOOK, Picture, line_styles, new_figure, save_picture, short_names
from fedbench.reporting.figures.labels import label_ends, tall_enough
from fedbench.reporting.run import Floats
from fedbench.reporting.settings import SettingResults, pick_reference
from fedbench.reporting.statistics import Pairs, losing_share, paired

MANY_POINTS = 300  # from so many clients on a box is drawn without them
GROUPS = 5  # of clients with about equal numbers of samples


def clients(setting: SettingResults) -> Picture | None:
    """How test accuracy is spread over clients."""
    import seaborn as sns

    looks = line_styles(setting)
    pools = {row.title: np.concatenate([run.seen.client for run in row.cell.runs]) for row in setting.filled}
    order = sorted(pools, key=lambda title: -pools[title].mean())
    figure, (axes,) = new_figure(0.62 + 0.2 * len(order))
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
    for place, title in enumerate(order):
        if len(pools[title]) <= MANY_POINTS:
            height = place + rng.uniform(-0.26, 0.26, len(pools[title]))
            axes.plot(pools[title], height, ".", color=palette[title], markersize=4, mew=0, alpha=0.5, zorder=1)
        axes.plot(pools[title].mean(), place, "D", color=palette[title], markersize=3.5, mec="white", mew=0.5, zorder=5)
    axes.set_xlabel("test accuracy of a client (%)")
    axes.set_yticks(range(len(order)), list(short_names(order).values()))
    axes.set_ylabel("")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    return save_picture(
        figure,
        f"{setting.name}-clients",
        f"Accuracy over clients: {setting.label}",
        "Test accuracy of every client under every seed: box from the lower to the upper quartile with the median, "
        "whiskers to the worst and best decile, diamond: mean.",
        [
            {"method": row.title, "seed": run.spec.seed, "client": client, "accuracy": accuracy}
            for row in setting.filled
            for run in row.cell.runs
            for client, accuracy in enumerate(run.seen.client)
        ],
    )


def gain(setting: SettingResults, wanted: str | None = None) -> Picture | None:
    """What each client gains over a reference method (by default Local), sorted; None where there is none to pair.

    The reference is the method `wanted`; without one, and without Local, there is no figure.
    """
    reference = pick_reference(setting, wanted or "local")
    if reference is None:
        return None
    found = {
        row.title: np.sort(pairs.all_clients)
        for row in setting.filled
        if row.title != reference and isinstance(pairs := paired(row.cell, setting.cells[reference]), Pairs)
    }
    if not found:
        return None
    looks = line_styles(setting)
    figure, (axes,) = new_figure(tall_enough(2.6, len(found)))
    axes.axhline(0, color="#333333", linewidth=0.8, zorder=1)
    texts, ends, data = {}, {}, []
    names = short_names(found)
    for title, values in found.items():
        share = 100 * (np.arange(len(values)) + 0.5) / len(values)
        axes.plot(share, values, looks[title].marker, color=looks[title].color, markersize=2.4, mew=0, alpha=0.85)
        ends[title] = (float(share[-1]), float(values[-1]))
        losing = losing_share(values)
        texts[title] = f"{names[title]}: {losing:.0%} lose"
        data += [{"method": title, "clients_percent": a, "gain": b} for a, b in zip(share, values, strict=True)]
    axes.set_xlim(0, 100)
    # near zero, where methods differ, a point has more room than far from it
    axes.set_yscale("symlog", linthresh=5, linscale=1.2)
    low, high = axes.get_ylim()
    ticks = (-100, -50, -20, -10, -5, 0, 5, 10, 20, 50, 100)
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "\u2212")))
    axes.set_xlabel("clients, sorted by their gain (%)")
    axes.set_ylabel(f"gain over {reference} (points)")
    label_ends(axes, ends, looks, texts)
    return save_picture(
        figure,
        f"{setting.name}-gain",
        f"Gain over {reference}, client by client: {setting.label}",
        f"Test accuracy of every client under every seed less what it has with {reference}, each method sorted by "
        "itself; with the name: the share of clients that lose. Beyond 5 points the axis is logarithmic.",
        data,
    )


def balance(
    setting: SettingResults, samples: Mapping[int, Floats] | None = None, entropy: Mapping[int, Floats] | None = None
) -> Picture | None:
    """Accuracy against the client's number of samples and, where it is known, the entropy of its labels.

    `samples` and `entropy` have a value a client [N] for each seed; without them, the number of test rows is used,
    which results hold. Clients of all seeds are cut into groups of equal size. None where all clients are alike.
    """
    tested = {run.spec.seed: run.seen.samples for run in setting.runs}
    panels: list[tuple[str, Mapping[int, Floats]]] = [("training rows" if samples else "test rows", samples or tested)]
    if entropy:
        panels.append(("label entropy (bits)", entropy))
    panels = [(label, known) for label, known in panels if _varies(known)]
    if not panels:
        return None
    looks = line_styles(setting)
    data: list[dict[str, object]] = []
    with mpl.rc_context(LOOK):
        figure, all_axes = new_figure(tall_enough(2.6, len(setting.filled)), len(panels))
        for axes, (label, known) in zip(all_axes, panels, strict=True):
            ends = {}
            for row in setting.filled:
                x = np.concatenate([known[run.spec.seed] for run in row.cell.runs])
                y = np.concatenate([run.seen.client for run in row.cell.runs])
                grouped = _in_groups(x, y)
                look = looks[row.title]
                axes.plot(*grouped, look.line, color=look.color, marker=look.marker, markersize=3.2)
                ends[row.title] = (float(grouped[0][-1]), float(grouped[1][-1]))
                data += [
                    {"method": row.title, "measure": label, "value": a, "accuracy": b}
                    for a, b in zip(x, y, strict=True)
                ]
            axes.set_xlabel(f"{label} of a client" if len(panels) == 1 else label)
            axes.xaxis.set_major_locator(MaxNLocator(4 if len(panels) == 1 else 2))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        for axes in all_axes[1:]:
            axes.sharey(all_axes[0])
            axes.tick_params(labelleft=False)
        all_axes[0].set_ylabel("test accuracy (%)")
        label_ends(all_axes[-1], ends, looks)
        measures = " and ".join(label for label, _ in panels)
        return save_picture(
            figure,
            f"{setting.name}-balance",
            f"Accuracy against the clients' {measures}: {setting.label}",
            f"Mean test accuracy of {GROUPS} groups of equal size, of the clients of all seeds, by their {measures}; "
            "each group stands at its median.",
            data,
        )


def _varies(known: Mapping[int, Floats]) -> bool:
    values = np.concatenate(list(known.values()))
    return len(np.unique(np.round(values, 6))) >= GROUPS


def _in_groups(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Medians of x and means of y of GROUPS groups of clients with about equal numbers, by x."""
    order: Sequence[Floats] = np.array_split(np.argsort(x, kind="stable"), min(GROUPS, len(x)))
    return np.array([np.median(x[part]) for part in order]), np.array([y[part].mean() for part in order])
