"""Tables of a report: as data, what stands in them, and their forms on paper and screen."""

from fedbench.reporting.tables.contents import (
    difference_table,
    effort,
    fairness,
    grids,
    ranking,
    sends_alike,
    targets,
)
from fedbench.reporting.tables.entries import best_of, metric_value, whole
from fedbench.reporting.tables.forms import as_csv, markdown, prose, terminal
from fedbench.reporting.tables.model import Column, Entry, Table, amount, body, legend, number, quoted
from fedbench.reporting.tables.typeset import latex, latex_document, tex

__all__ = [
    "Column",
    "Entry",
    "Table",
    "amount",
    "as_csv",
    "best_of",
    "body",
    "difference_table",
    "effort",
    "fairness",
    "grids",
    "latex",
    "latex_document",
    "legend",
    "markdown",
    "metric_value",
    "number",
    "prose",
    "quoted",
    "ranking",
    "sends_alike",
    "targets",
    "terminal",
    "tex",
    "whole",
]
