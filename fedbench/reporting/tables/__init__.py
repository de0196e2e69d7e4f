"""Tables as data, and their forms on paper and screen."""

from fedbench.reporting.tables.forms import (
    Column,
    Entry,
    Table,
    as_csv,
    body,
    latex,
    latex_document,
    legend,
    markdown,
    number,
    quoted,
    terminal,
    tex,
)

__all__ = [
    "Column",
    "Entry",
    "Table",
    "as_csv",
    "body",
    "latex",
    "latex_document",
    "legend",
    "markdown",
    "number",
    "quoted",
    "terminal",
    "tex",
]
