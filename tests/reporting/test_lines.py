"""The figure that most parts of experiments draw, and the file of its numbers."""

from __future__ import annotations

import csv
import io

from fedbench.reporting.figures import Picture, styles
from fedbench.reporting.paper.lines import Axis, Line, draw_lines

LOOK = styles(["pfedhn"])["pfedhn"]
CELLS = [(0.0, {42: 50.0, 27: 52.0}), (1.0, {42: 60.0}), (2.0, {})]


def rows(picture: Picture) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(picture.files["csv"].decode())))


def drawn(x: Axis) -> list[dict[str, str]]:
    return rows(draw_lines("n", "T", "C", [Line.through("pFedHN", LOOK, CELLS)], x, "accuracy"))


def test_the_file_names_columns_that_have_no_number() -> None:
    """And one seed has no standard deviation, which keeps nothing from another place's: of 50 and 52 it is 2 ** 0.5."""
    found = drawn(Axis("", [0, 1, 2], ["learned", "fixed", "absent"]))
    assert [list(row)[:3] for row in found] == [["line", "column", "accuracy"]] * 2
    assert [row["column"] for row in found] == ["learned", "fixed"]
    assert [float(row["sd"]) if row["sd"] else None for row in found] == [2**0.5, None]


def test_places_on_an_axis_are_numbers() -> None:
    assert [row["k"] for row in drawn(Axis("k", [0, 1, 2]))] == ["0.0", "1.0"]
