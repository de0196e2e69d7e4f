"""Figures of a report; one colour, marker and line a method, everywhere."""

from fedbench.reporting.figures.canvas import LOOK, Picture, line_styles, new_figure, save_picture, styles
from fedbench.reporting.figures.drawing import draw

__all__ = ["LOOK", "Picture", "draw", "line_styles", "new_figure", "save_picture", "styles"]
