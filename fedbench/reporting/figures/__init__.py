"""Figures of a report; one colour, marker and line a method, everywhere."""

from fedbench.reporting.figures.canvas import LOOK, Picture, Series, line_styles, new_figure, save_picture, styles
from fedbench.reporting.figures.drawing import Kind, draw

__all__ = ["LOOK", "Kind", "Picture", "Series", "draw", "line_styles", "new_figure", "save_picture", "styles"]
