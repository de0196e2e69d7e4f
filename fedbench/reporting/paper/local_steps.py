"""Numbers of local steps: validation accuracy against server steps, and against gradient steps on clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedbench.reporting.figures.canvas import Style
from fedbench.reporting.paper.lines import Axis, Line, draw_lines
from fedbench.reporting.paper.material import Material, Part, Stored

LOOKS = [
    Style("#000000", "o", "-"),
    Style("#E69F00", "s", "--"),
    Style("#56B4E9", "^", "-."),
    Style("#009E73", "D", ":"),
    Style("#0072B2", "v", "-"),
    Style("#D55E00", "P", "--"),
    Style("#CC79A7", "X", "-."),
    Style("#332288", "<", ":"),
]


def part(material: Material) -> Part:
    """Two figures for each method, one a measure of effort; a line a column."""
    made = Part()
    metric = material.plan.experiment.metric
    for method in material.methods:
        for key, label, words in (
            ("round", "server steps", "the number of server steps"),
            ("steps", "local gradient steps, all clients", "the number of gradient steps on all clients together"),
        ):
            lines = [
                _line(column.label, LOOKS[place % len(LOOKS)], material.stored[column.name, method], key, metric)
                for place, column in enumerate(material.columns)
                if (column.name, method) in material.stored
            ]
            made.pictures.append(
                draw_lines(
                    f"local-steps-{method}-{key}",
                    f"{material.title(method)}: accuracy against {label.split(',')[0]}",
                    f"Validation accuracy ({metric}) against {words}; bands are ± one standard deviation over seeds.",
                    lines,
                    Axis(label, logarithmic=key == "steps"),
                    "validation accuracy (%)",
                )
            )
    return made


def _line(label: str, style: Style, results: Sequence[Stored], key: str, metric: str) -> Line:
    """A line through the means over seeds at every evaluation; runs of one column are evaluated at the same places."""
    histories = [each.result.history for each in results]
    length = min(map(len, histories))
    x = np.array([float(getattr(row, key)) for row in histories[0][:length]])
    value = "val_accuracy" if metric == "pooled" else "val_client_mean"
    values = 100 * np.array([[getattr(row, value) for row in history[:length]] for history in histories])
    first = 1 if key == "steps" else 0  # a logarithmic axis has no zero
    sd = values.std(axis=0, ddof=1)[first:] if len(values) > 1 else None
    return Line(label, style, x[first:], values.mean(axis=0)[first:], sd, marked=False)
