"""Tables as data, and their four forms on paper and screen: Markdown, CSV, LaTeX (booktabs) and the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import rich.table
from rich.text import Text

from fedbench.experiments.schema import CERTAINTY, Published

LEGEND = "Bold: best of the column; ≈: not significantly worse (no mark where pairs are too few for a test)."
PUBLISHED = "Second line: the published value, in brackets ours less the published one; " + "; ".join(
    f"{mark or 'no mark'}: {meaning}" for mark, meaning in CERTAINTY.values()
)


@dataclass(frozen=True)
class Column:
    """What a column shows."""

    label: str
    digits: int = 2
    marked: bool = True  # the greatest value is marked as the best
    signed: bool = False  # a difference
    significant: bool = False  # `digits` counts significant digits instead of decimals


@dataclass(frozen=True)
class Entry:
    """One place of a table. Without a value it is a gap, and `gap` says why in a word or two, `reason` at length."""

    value: float | None = None
    sd: float | None = None  # over seeds
    low: float | None = None  # of a confidence interval
    high: float | None = None
    n: int = 0  # seeds
    expected: int = 0
    best: bool = False
    close: bool = False  # not significantly worse than the best
    gap: str = ""
    reason: str = ""
    published: Published | None = None

    @property
    def behind(self) -> float | None:
        """The value less the published one."""
        if self.value is None or self.published is None or self.published.mean is None:
            return None
        return self.value - self.published.mean


@dataclass(frozen=True)
class Table:
    """Rows of entries, one an entry of `columns`. `name` is also the stem of its files."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, Sequence[Entry]]]
    corner: str = "method"
    notes: Sequence[str] = field(default=())

    @property
    def has_published(self) -> bool:
        """Whether any entry stands beside a published value."""
        return any(entry.published for _, entries in self.rows for entry in entries)

    @property
    def all_notes(self) -> list[str]:
        """The notes, and why entries are gaps or have no published value, each reason once with where it holds."""
        reasons = self._places(lambda entry: entry.reason)
        unquoted = self._places(lambda entry: entry.published.absent if entry.published else "")
        return [
            *self.notes,
            *(f"{where}: {why}" for why, where in reasons.items()),
            *(f"no published value for {where}: {why}" for why, where in unquoted.items()),
        ]

    def _places(self, why: Callable[[Entry], str]) -> dict[str, str]:
        """For each reason, where it holds, in words."""
        found: dict[str, dict[str, list[str]]] = {}  # reason -> column -> rows
        for label, entries in self.rows:
            for column, entry in zip(self.columns, entries, strict=True):
                if why(entry):
                    found.setdefault(why(entry), {}).setdefault(column.label, []).append(label)
        return {
            reason: "; ".join(
                f"{'all methods' if len(rows) == len(self.rows) > 1 else ', '.join(rows)} in {column!r}"
                for column, rows in places.items()
            )
            for reason, places in found.items()
        }


def number(value: float, column: Column) -> str:
    """`value` with the digits of its column, a true minus sign, and a plus sign for a difference."""
    if column.significant:
        text = f"{value:,.0f}" if abs(value) >= 10 ** (column.digits - 1) else f"{value:.{column.digits}g}"
    else:
        text = f"{value:{'+' if column.signed else ''}.{column.digits}f}"
    return text.replace("-", "\u2212")


def body(entry: Entry, column: Column) -> str:
    """The entry as text, without emphasis; a gap says what it is."""
    if entry.value is None:
        return entry.gap or "-"
    text = number(entry.value, column)
    if entry.sd is not None:
        text += f" ± {number(entry.sd, Column('', column.digits, significant=column.significant))}"
    if entry.low is not None and entry.high is not None:
        text += f" [{number(entry.low, column)}, {number(entry.high, column)}]"
    if entry.n < entry.expected:
        text += f" (n={entry.n} of {entry.expected})"
    return text + (" ≈" if entry.close else "")


def quoted(entry: Entry) -> str:
    """The published value with its certainty mark, and the difference to it."""
    if entry.published is None:
        return ""
    if entry.published.mean is None:
        return "-"
    text = f"{entry.published.mean:.2f}"
    text += f" ± {entry.published.std:.2f}" if entry.published.std is not None else ""
    mark = CERTAINTY[entry.published.certainty][0]
    text += f" {mark}" if mark else ""
    return text + (f" ({number(entry.behind, Column('', signed=True))})" if entry.behind is not None else "")


def legend(table: Table) -> str:
    """What the marks in `table` mean."""
    entries = [entry for _, row in table.rows for entry in row]
    parts = [table.caption]
    parts += [LEGEND] if any(entry.best for entry in entries) else []
    parts += [PUBLISHED + "."] if table.has_published else []
    return " ".join(part for part in parts if part)


# ---------------------------------------------------------------- forms


def _lines(table: Table) -> Iterable[tuple[str, list[tuple[str, bool]]]]:
    """Every printed line: its label, and for each column the text and whether it is bold."""
    for label, entries in table.rows:
        pairs = list(zip(entries, table.columns, strict=True))
        yield label, [(body(entry, column), entry.best) for entry, column in pairs]
        if any(entry.published for entry in entries):
            yield "  published", [(quoted(entry), False) for entry in entries]


def markdown(table: Table) -> str:
    """GitHub's table, with title, legend and notes."""

    def safe(text: str) -> str:
        return re.sub(r"([\\|*_`\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))

    heads = [table.corner, *(column.label for column in table.columns)]
    lines = [f"### {safe(table.title)}", "", "| " + " | ".join(map(safe, heads)) + " |"]
    lines.append("| --- |" + " ---: |" * len(table.columns))
    for label, cells in _lines(table):
        texts = [f"**{safe(text)}**" if bold else safe(text) for text, bold in cells]
        lines.append(f"| {safe(label.strip())} | " + " | ".join(texts) + " |")
    lines += ["", safe(legend(table))]
    lines += ["", *(f"* {safe(note)}" for note in table.all_notes)] if table.all_notes else []
    return "\n".join(lines) + "\n"


def as_csv(table: Table) -> str:
    """One line an entry, with every number in full."""
    heads = ["table", "row", "column", "value", "sd", "low", "high", "n", "expected", "best", "not_worse", "gap"]
    heads += ["reason", "published", "published_sd", "certainty", "source", "difference"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for label, entries in table.rows:
        for column, e in zip(table.columns, entries, strict=True):
            row = [table.name, label, column.label, e.value, e.sd, e.low, e.high, e.n, e.expected]
            row += [int(e.best), int(e.best or e.close), e.gap, e.reason]
            p = e.published
            row += (
                [p.mean, p.std, p.certainty if p.mean is not None else "absent", p.origin or p.absent]
                if p
                else [None] * 4
            )
            writer.writerow([*row, e.behind])
    return text.getvalue()


TEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    "\u2013": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def tex(text: str) -> str:
    """`text` for LaTeX; letters that a plain LaTeX does not have become question marks."""
    return "".join(TEX.get(char) or (char if char.isprintable() and ord(char) < 0x180 else "?") for char in text)


def latex(table: Table) -> str:
    """A `table` environment with a booktabs tabular, never wider than the line; needs booktabs and graphicx."""
    lines = [
        r"% needs \usepackage{booktabs,graphicx} and UTF-8 input",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{tex(table.title)}. {tex(legend(table))}}}",
        rf"\label{{tab:{table.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        " & ".join(tex(head) for head in [table.corner, *(column.label for column in table.columns)]) + r" \\",
        r"\midrule",
    ]
    for label, cells in _lines(table):
        texts = [rf"\textbf{{{tex(text)}}}" if bold else tex(text) for text, bold in cells]
        name = rf"\quad {tex(label.strip())}" if label.startswith(" ") else tex(label)
        lines.append("{}" + " & ".join([name, *texts]) + r" \\")  # or a name that begins with [ or * belongs to the \\
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.all_notes:
        notes = r" \\ ".join(tex(note) for note in table.all_notes)
        lines.append(
            rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {notes}\end{{minipage}}"
        )
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def latex_document(names: Iterable[str]) -> str:
    """A document that shows the tables of the given files; it compiles beside them as it is."""
    inputs = "\n".join(rf"\input{{{name}}}\clearpage" for name in names)
    return (
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage[T1]{fontenc}\n"
        "\\usepackage{booktabs,graphicx}\n\\usepackage[margin=2cm]{geometry}\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )


def terminal(table: Table) -> rich.table.Table:
    """For `rich`."""
    shown = rich.table.Table(title=Text(table.title), caption=Text("\n".join([legend(table), *table.all_notes])))
    shown.caption_justify = "left"
    shown.add_column(table.corner)
    for column in table.columns:
        shown.add_column(Text(column.label), justify="right")
    for label, cells in _lines(table):
        dim = "dim" if label.startswith(" ") else ""
        shown.add_row(Text(label, style=dim), *(Text(text, style="bold" if bold else dim) for text, bold in cells))
    return shown
