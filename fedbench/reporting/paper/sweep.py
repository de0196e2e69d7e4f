"""One setting varied: accuracy along the axis of the experiment."""

from __future__ import annotations

from fedbench.experiments.parts import Column as Setting
from fedbench.experiments.rules import ACCURACY, CellName
from fedbench.reporting.claims import interval
from fedbench.reporting.figures import styles
from fedbench.reporting.paper.lines import Axis, Line, draw_lines
from fedbench.reporting.paper.material import Material, Part
from fedbench.reporting.tables import Column, Entry, Table
from fedbench.storage.gap import Gap, Missing


def part(material: Material) -> Part:
    """A figure of accuracy along the axis (side by side where there is none), and the differences between columns."""
    values, experiment = material.values(), material.plan.experiment
    made = Part()
    axis, columns = experiment.axis, material.columns
    if axis is not None:
        columns = sorted((column for column in columns if column.x is not None), key=_place)
    if len(columns) > 1:
        ticks = [float(i) if axis is None else _place(column) for i, column in enumerate(columns)]
        looks = styles(material.methods)
        made.pictures.append(
            draw_lines(
                "sweep",
                f"{experiment.title}: accuracy",
                f"Test accuracy ({experiment.metric}){f' against {axis}' if axis else ''}, mean ± standard deviation "
                "over seeds.",
                [
                    Line.through(
                        material.title(method),
                        looks[method] if axis else looks[method]._replace(line="none"),
                        [
                            (tick, values.get(CellName(ACCURACY, method, column.name), {}))
                            for tick, column in zip(ticks, columns, strict=True)
                        ],
                    )
                    for method in material.methods
                ],
                Axis(axis, ticks, logarithmic=min(ticks) > 0 and max(ticks) >= 20 * min(ticks))
                if axis
                else Axis("", ticks, [column.label for column in columns]),
                "test accuracy (%)",
            )
        )
    if len(material.columns) > 1:
        made.tables.append(_differences(material, values))
    return made


def _place(column: Setting) -> float:
    return float(column.x or 0)


def _differences(material: Material, values: dict[CellName, dict[int, float]]) -> Table:
    """Every column less the first one, paired by seed, for each method."""
    first, *others = material.columns
    rows = []
    for method in material.methods:
        base = values.get(CellName(ACCURACY, method, first.name), {})
        row = []
        for column in others:
            mine = values.get(CellName(ACCURACY, method, column.name), {})
            differences = [mine[seed] - base[seed] for seed in mine if seed in base]
            if not differences:
                row.append(Entry(gap=Gap(Missing.NOT_RUN)))
                continue
            over = interval(differences)
            row.append(Entry(over.mean, low=over.low, high=over.high))
        rows.append((material.title(method), row))
    return Table(
        name="sweep-differences",
        title=f"Difference to {first.label}",
        caption="Test accuracy less that of the first column, in points, paired by seed; the interval is Student's, at "
        "95 %, over seeds (none for one seed).",
        columns=[Column(column.label, signed=True, marked=False) for column in others],
        rows=rows,
    )
