"""Forms of a table: Markdown, CSV and the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

import rich.table
from rich.console import Console, Group
from rich.measure import Measurement
from rich.text import Text

from fedbench.reporting.tables.model import INSEPARABLE, Table, body, legend, quoted

WORD = 24  # so long a word of a name is not broken in a terminal


def lines(table: Table) -> Iterable[tuple[str, list[tuple[str, bool]]]]:
    """Every printed line: its label, and for each column the text and whether it is bold."""
    for label, entries in table.rows:
        pairs = list(zip(entries, table.columns, strict=True))
        yield label, [(body(entry, column, table.uneven), entry.best) for entry, column in pairs]
        if any(entry.published for entry in entries):
            yield "  published", [(quoted(entry), False) for entry in entries]


def safe(text: str) -> str:
    """`text` for Markdown, without anything that it would take for markup."""
    return re.sub(r"([\\|*_`\[\]]|~(?=[~\w]))", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def prose(text: str) -> str:
    """`text` outside of tables for Markdown, where brackets and underscores are mostly what they look like."""
    # an ampersand is one, unless what follows makes it an entity
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    return re.sub(r"([*`]|~(?=[~\w])|\](?=\()|(?<!\w)_|_(?!\w))", r"\\\1", text)


def markdown(table: Table) -> str:
    """GitHub's table, with title, legend and notes."""
    heads = [table.corner, *(column.label for column in table.columns)]
    printed = [f"### {safe(table.title)}", "", "| " + " | ".join(map(safe, heads)) + " |"]
    printed.append("| --- |" + " ---: |" * len(table.columns))
    for label, cells in lines(table):
        texts = [f"**{safe(text)}**" if bold else safe(text) for text, bold in cells]
        printed.append(f"| {safe(label.strip())} | " + " | ".join(texts) + " |")
    printed += ["", safe(legend(table))]
    printed += ["", *(f"* {safe(note)}" for note in table.all_notes)] if table.all_notes else []
    return "\n".join(printed) + "\n"


def as_csv(table: Table) -> str:
    """One line an entry, with every number in full."""
    heads = ["table", "row", "column", "value", "sd", "low", "high", "n", "expected", "best", "inseparable", "marks"]
    heads += ["gap", "reason", "published", "published_sd", "certainty", "source", "difference"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for label, entries in table.rows:
        for column, e in zip(table.columns, entries, strict=True):
            row = [table.name, label, column.label, e.value, e.sd, e.low, e.high, e.n, e.expected]
            row += [int(e.best), int(INSEPARABLE in e.marks), e.marks]
            row += [str(e.gap.kind), e.gap.reason] if e.gap else ["", ""]
            p = e.published
            row += (
                [p.mean, p.std, p.certainty if p.mean is not None else "absent", p.origin or p.absent]
                if p
                else [None] * 4
            )
            writer.writerow([*row, e.behind])
    return text.getvalue()


def terminal(table: Table, console: Console | None = None) -> Group:
    """The table for `rich`, with its legend and notes below it, as wide as the screen and not as the table.

    With a `console`, the last columns are left out where there is no room for them, which it says.
    """
    shown = rich.table.Table(title=Text(table.title))
    rows = list(lines(table))
    words = [word for label, _ in rows for word in label.split()]
    # what tells methods apart may be their settings, at the end of the name: none may be cut
    shown.add_column(table.corner, overflow="fold", min_width=min(WORD, max(map(len, words), default=0)))
    for column in table.columns:
        shown.add_column(Text(column.label), justify="right", overflow="fold")
    for label, cells in rows:
        dim = "dim" if label.startswith(" ") else ""
        shown.add_row(Text(label, style=dim), *(Text(text, style="bold" if bold else dim) for text, bold in cells))
    gone: list[str] = []
    if console:
        anywhere = console.options.update(max_width=10_000)  # else what is measured is what there is room for
        while len(shown.columns) > 2 and Measurement.get(console, anywhere, shown).minimum > console.width:
            shown.columns.pop()
            gone.insert(0, table.columns[len(shown.columns) - 1].label)
    missing = [f"Not shown, for want of width: {', '.join(gone)}."] if gone else []
    return Group(shown, Text("\n".join([*missing, legend(table), *table.all_notes]), style="dim"))
