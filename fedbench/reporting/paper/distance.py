"""Clients that join later: what accuracy costs them, against how far they are from the clients trained on.

The distance of an unseen client is the total variation distance between its label distribution and that of the nearest
training client, 1/2 sum_c |p_c - q_c|, each over the client's own training rows. A column's distance is the mean over
its unseen clients.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fedbench.errors import BadInput
from fedbench.experiments.rules import CellName
from fedbench.reporting.figures import styles
from fedbench.reporting.paper.lines import Axis, Line, draw_lines
from fedbench.reporting.paper.material import Material, Part, entry, problem_table
from fedbench.reporting.tables import Column, Table

AXIS = "distance"


def nearest_distances(histogram: Tensor, unseen: int) -> list[float]:
    """How far each of the last `unseen` clients is from the nearest other, 0 .. 1; `histogram` [N, classes]: rows."""
    shares = histogram.double() / histogram.sum(dim=1, keepdim=True)
    trained, joined = shares[:-unseen], shares[-unseen:]
    apart = (joined[:, None] - trained[None]).abs().sum(dim=2) / 2
    return [float(each) for each in apart.min(dim=1).values]


def part(material: Material) -> Part:
    """A table and two figures: accuracy of unseen clients, and the gap to the others, against the distance."""
    made, problems = Part(), []
    distances: dict[str, dict[int, float]] = {}  # column -> seed -> distance
    for column in (column for column in material.columns if column.novel_clients):
        for method in material.methods:
            for each in material.stored.get((column.name, method), ()):
                if each.seed in distances.get(column.name, {}):
                    continue
                try:
                    counts = material.partition(each).histogram(material.data(each).labels, material.data(each).classes)
                except BadInput as error:
                    problems.append(f"{column.label}: no distance: {error}")
                    continue
                mean = float(np.mean(nearest_distances(counts, column.novel_clients)))
                distances.setdefault(column.name, {})[each.seed] = mean
    if problems:
        made.tables.append(problem_table("distance-problems", "Distance of unseen clients", problems))
    if not distances:
        return made
    made.places = {(AXIS, column): by_seed for column, by_seed in distances.items()}
    values = material.values()
    count = material.plan.experiment.length(material.plan.preset).seeds
    columns = sorted((c for c in material.columns if c.name in distances), key=lambda c: _mean(distances[c.name]))
    rows = [("distance", [entry(distances[c.name], count) for c in columns])]
    for quantity, words in (("unseen", "accuracy of unseen clients, %"), ("gap", "gap, points")):
        rows += [
            (
                f"{material.title(m)}: {words}",
                [entry(values.get(CellName(quantity, m, c.name), {}), count) for c in columns],
            )
            for m in material.methods
        ]
    made.tables.append(
        Table(
            name="distance",
            title="Clients that join later, by their distance from the clients trained on",
            caption="Distance: total variation between the label distribution of an unseen client and that of the "
            "nearest training client, mean over unseen clients. Gap: test accuracy of the training clients less that "
            "of the unseen ones.",
            columns=[Column(column.label, marked=False) for column in columns],
            rows=rows,
            corner="",
        )
    )
    looks = styles(material.methods)
    for quantity, words, name in (
        ("gap", "generalisation gap (points)", "Generalisation gap"),
        ("unseen", "unseen clients (%)", "Accuracy of unseen clients"),
    ):
        made.pictures.append(
            draw_lines(
                f"distance-{quantity}",
                f"{name} against distance",
                f"{name} against the total variation distance between an unseen client's labels and those of the "
                "nearest training client; a point a column, mean ± standard deviation over seeds.",
                [
                    Line.through(
                        material.title(m),
                        looks[m],
                        [(_mean(distances[c.name]), values.get(CellName(quantity, m, c.name), {})) for c in columns],
                    )
                    for m in material.methods
                ],
                Axis("distance to the nearest training client"),
                words,
            )
        )
    return made


def _mean(by_seed: dict[int, float]) -> float:
    return float(np.mean(list(by_seed.values())))
