r"""A table for LaTeX: booktabs and siunitx, at the width of a column of print (3.25 inches) or of a page.

A table that is too wide for a column becomes a `table*`, one too wide for a page is split. The best of a column is
bold; the second is in \fedbenchsecond, which does nothing until it is told to: put
\renewcommand{\fedbenchsecond}[1]{\underline{#1}} before the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedbench.reporting.tables.model import Entry, Table, body, key, number, quoted, seeds_of

COLUMN, PAGE = 234.0, 487.0  # points: 3.25 inches, and two columns with their gap
LETTER, GAP = 4.25, 6.0  # points: of a letter in \footnotesize on the average, and between two columns
ROWS = 45  # lines of a page, beside caption, heads and notes
HEAD = 11  # letters in a line of a column's head
PREAMBLE = r"""\usepackage{booktabs,siunitx}
\sisetup{separate-uncertainty=true,detect-all}
\providecommand{\fedbenchsecond}[1]{#1}"""

TEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "*": r"$^*$",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    "\u2013": "--",
    "\u2014": "---",
    "\u2018": "`",
    "\u2019": "'",
    "\u201c": "``",
    "\u201d": "''",
    "\u2026": r"\ldots{}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def tex(text: str) -> str:
    """`text` for LaTeX; letters that a plain LaTeX does not have become question marks."""
    return "".join(TEX.get(char) or (char if char.isprintable() and ord(char) < 0x180 else "?") for char in text)


def latex(table: Table) -> str:
    """`table` or `table*` environments, no wider than a column or page; several where one would be too high for it."""
    label = max((len(row) for row, _ in table.rows), default=0)
    first = LETTER * max(label, len(table.corner)) + GAP
    widths = [_width(table, place) for place in range(len(table.columns))]
    wide = first + sum(widths) > COLUMN
    parts = _parts(first, widths, PAGE if wide else COLUMN)
    rows = max(1, ROWS // (len(parts) * (2 if table.has_published else 1)))
    floats = [table.rows[i : i + rows] for i in range(0, len(table.rows), rows)] or [table.rows]
    return "".join(
        _float(replace(table, rows=some), parts, wide, place, len(floats)) for place, some in enumerate(floats, 1)
    )


def _float(table: Table, parts: Sequence[Sequence[int]], wide: bool, place: int, floats: int) -> str:
    """One environment, which is the one in a `place` of so many."""
    environment = "table*" if wide else "table"
    title = table.title if floats == 1 else f"{table.title} (part {place} of {floats})"
    lines = [
        *(f"% needs {line}" for line in PREAMBLE.splitlines()),
        rf"\begin{{{environment}}}[htbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{tex(title)}. {tex(table.caption)}}}",
        rf"\label{{tab:{table.name}{f'-{place}' if place > 1 else ''}}}",
    ]
    for number_of_part, places in enumerate(parts):
        lines += [r"\par\medskip"] if number_of_part else []
        lines += _tabular(table, places)
    notes = [key(table), *table.all_notes]
    text = r" \\ ".join(tex(note) for note in notes if note)
    if text:
        lines.append(rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\scriptsize\raggedright {text}\end{{minipage}}")
    lines.append(rf"\end{{{environment}}}")
    return "\n".join(lines) + "\n"


def _parts(first: float, widths: Sequence[float], room: float) -> list[list[int]]:
    """The columns in as few parts as fit into `room` points, each of them beside the names of the rows."""
    parts: list[list[int]] = [[]]
    used = first
    for place, width in enumerate(widths):
        if parts[-1] and used + width > room:
            parts.append([])
            used = first
        parts[-1].append(place)
        used += width
    return parts


def _texts(table: Table, place: int) -> list[str]:
    column = table.columns[place]
    return [body(row[place], column, table.uneven) for _, row in table.rows] + [
        quoted(row[place]) for _, row in table.rows
    ]


def _width(table: Table, place: int) -> float:
    longest = max(len(text) for text in [*_texts(table, place), *_head(table.columns[place].label)])
    return LETTER * longest + GAP


def _head(label: str) -> list[str]:
    """The head of a column in lines of about HEAD letters."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > HEAD:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _tabular(table: Table, places: Sequence[int]) -> list[str]:
    heads = []
    for place in places:
        lines = [tex(line) for line in _head(table.columns[place].label)]
        stack = r"\\".join(lines)
        heads.append(rf"{{\shortstack[r]{{{stack}}}}}" if len(lines) > 1 else f"{{{lines[0]}}}")
    printed = [
        rf"\begin{{tabular}}{{@{{}}l{''.join(_kind(table, place) for place in places)}@{{}}}}",
        r"\toprule",
        " & ".join([tex(table.corner), *heads]) + r" \\",
        r"\midrule",
    ]
    for label, entries in table.rows:
        cells = [_cell(table, place, entries[place]) for place in places]
        # a name that begins with [ or * would belong to the \\ before it
        printed.append("{}" + " & ".join([rf"\mbox{{{tex(label)}}}", *cells]) + r" \\")
        if any(entries[place].published for place in places):
            second = [f"{{{tex(quoted(entries[place]))}}}" for place in places]
            printed.append("{}" + " & ".join([r"\quad published", *second]) + r" \\")
    return [*printed, r"\bottomrule", r"\end{tabular}"]


def _kind(table: Table, place: int) -> str:
    """The type of a column: siunitx's S where there are numbers to align, r where there are intervals or only words."""
    column = table.columns[place]
    entries = [row[place] for _, row in table.rows]
    values = [entry for entry in entries if entry.value is not None]
    if not values or column.significant or any(entry.low is not None for entry in values):
        return "r"
    whole = max(
        len(re.sub(r"[^0-9]", "", f"{abs(entry.value or 0):.{column.digits}f}".split(".")[0])) for entry in values
    )
    sign = "+" if column.signed else "-" if any((entry.value or 0) < 0 for entry in values) else ""
    spreads = [entry.sd for entry in values if entry.sd is not None]
    digits = max((len(f"{spread:.{column.digits}f}".replace(".", "").lstrip("0")) for spread in spreads), default=0)
    uncertain = f"({max(1, digits)})" if spreads else ""
    behind = _widest_rest(table, place)
    space = f",table-space-text-post={{{tex(behind)}}}" if behind else ""
    return f"S[table-format={sign}{whole}.{column.digits}{uncertain}{space}]"


def _rest(entry: Entry, uneven: bool) -> str:
    """What stands behind a number: its seeds and its marks."""
    return (seeds_of(entry, uneven) + entry.marks) if entry.value is not None else ""


def _widest_rest(table: Table, place: int) -> str:
    return max((_rest(row[place], table.uneven) for _, row in table.rows), key=len, default="")


def _cell(table: Table, place: int, entry: Entry) -> str:
    column = table.columns[place]
    if entry.value is None or column.significant or entry.low is not None:
        return f"{{{tex(body(entry, column, table.uneven))}}}"
    rest, widest = _rest(entry, table.uneven), _widest_rest(table, place)
    lost_zero = entry.sd is not None and not float(f"{entry.sd:.{column.digits}f}")  # siunitx drops ± 0.00
    if entry.best or entry.second or lost_zero:
        missing = widest[len(rest) :] if widest.startswith(rest) else ""
        shown = tex(body(replace(entry, n=0, expected=0, marks=""), column) + rest)
        shown = rf"\bfseries {shown}" if entry.best else rf"\fedbenchsecond{{{shown}}}" if entry.second else shown
        hidden = rf"\phantom{{{tex(missing)}}}" if missing else ""
        return f"{{{shown}{hidden}}}"
    plain = number(entry.value, column).replace("\u2212", "-").replace(",", "")
    if entry.sd is not None:
        plain += rf" \pm {entry.sd:.{column.digits}f}"
    return plain + (f" {{{tex(rest)}}}" if rest else "")


def latex_document(names: Iterable[str]) -> str:
    """A document of two columns, 3.25 inches each, that shows the tables of the given files as they are."""
    inputs = "\n".join(rf"\input{{{name}}}" for name in names)
    return (
        "\\documentclass[twocolumn]{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage[T1]{fontenc}\n"
        f"{PREAMBLE}\n\\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{{geometry}}\n"
        "\\extrafloats{500}\n"
        f"\\begin{{document}}\n{inputs}\n\\clearpage\n\\end{{document}}\n"
    )
