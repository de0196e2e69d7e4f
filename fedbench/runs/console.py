"""Where things are printed: a terminal of any width and encoding, a log file, a notebook. Without torch."""

from __future__ import annotations

import codecs
import contextlib
import sys
import unicodedata
from collections.abc import Sequence
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDE = 120  # columns of what is no terminal: a log file, a pipe, a text in Python
PLAIN = {
    "±": "+-",
    "…": ".",
    "†": "*",
    "‡": "#",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "\N{EN DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What a terminal shows that does not know a character: its nearest in ASCII, else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    near = (PLAIN.get(c) or unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?" for c in text)
    return "".join(near), error.end


codecs.register_error("fedbench.plain", _plain)


class _Stream:
    """Standard output or error as it is at the moment. Nothing that it cannot show, and no end of it, is an error.

    A pipe that nobody reads any more, or a terminal that was closed, must not end the runs.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _now(self) -> IO[str]:
        stream = getattr(sys, self._name)
        return cast(IO[str], getattr(stream, "rich_proxied_file", stream))  # while something live is shown

    @property
    def rich_proxied_file(self) -> _Stream:
        """What rich writes to while something live is shown: this, and not what it stands for."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def said(self, text: str) -> str:
        """`text` in characters that the stream has."""
        encoding = getattr(self._now, "encoding", None) or "utf-8"
        return text.encode(encoding, "fedbench.plain").decode(encoding)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed; None where there never was one
            self._now.write(self.said(text))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._now.flush()


class _Console(Console):
    """A console that measures a text as it will be shown, so that tables stay aligned."""

    def _said(self, text: str) -> str:
        return _Stream("stderr" if self.stderr else "stdout").said(text)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(self._said(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        for table in objects:
            if isinstance(table, Table):
                for column in table.columns:
                    column._cells = [self._plain(cell) for cell in column.cells]
        super().print(*objects, **options)

    def _plain(self, cell: RenderableType) -> RenderableType:
        if not isinstance(cell, Text) or self._said(cell.plain) == cell.plain:
            return cell
        return Text(self._said(cell.plain), style=cell.style)


def new_console(*, stderr: bool = False) -> Console:
    """A console for standard output or error, wide where it is no terminal."""
    stream = _Stream("stderr" if stderr else "stdout")
    console = _Console(file=cast(IO[str], stream), stderr=stderr, highlight=False)
    if not console.is_terminal and not console.is_jupyter:
        console.width = WIDE
    return console


def rendered(what: RenderableType) -> str:
    """`what` as text, as `print` would show it."""
    stream = _Stream("stdout")
    console = _Console(file=cast(IO[str], stream), width=WIDE, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in stream.said(captured.get()).strip("\n").splitlines())


def fitting(table: Table, console: Console, wanted: Sequence[str]) -> Table:
    """`table` with as many columns as fit; it says which were left out.

    The last columns go first, then those that are `wanted`, of which the first one stays in any case.
    """
    for column in table.columns:
        column.no_wrap = True
    heads = [str(column.header) for column in table.columns]
    others = [head for head in heads if head not in wanted]
    gone, wide = [], console.options.update(max_width=10_000)
    for head in [*reversed(others), *reversed(wanted[1:])]:
        if Measurement.get(console, wide, table).maximum <= console.width:
            break
        gone.append(head)
        table.columns = [column for column in table.columns if column.header != head]
    if gone:
        table.caption = (
            f"{table.caption}. Not shown, for want of width: {', '.join(head for head in heads if head in gone)}"
        )
    return table
