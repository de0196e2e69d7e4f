"""One self-contained HTML page: no network, no other file, everything that comes from outside escaped.

Without JavaScript it shows everything; with it, tables sort and copy, and the methods of curves can be hidden.
"""

from __future__ import annotations

import ast
import base64
import gzip
import html
import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedbench import __version__
from fedbench.reporting.collection import Collection
from fedbench.reporting.figures.canvas import Picture
from fedbench.reporting.run import Run, title_in_code
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import explanation
from fedbench.reporting.tables import Entry, Table, amount, as_csv, body, latex, legend, markdown, quoted
from fedbench.storage.command import command

if TYPE_CHECKING:
    from fedbench.reporting.writing import Claim

PLOT = 120  # pixels: the width of the plot of a difference
LONG = 26  # letters: a longer name may break
FIRST = 3  # settings whose answers stand on the first screen


@dataclass(frozen=True)
class Group:
    """The runs of one cell, as the page lists them."""

    anchor: str
    title: str
    label: str
    runs: Sequence[Run]
    command: str
    spec: str  # JSON, without the seed


def page(
    title: str,
    caption: str,
    out: Path,
    settings: Sequence[SettingResults],
    answers: Sequence[tuple[str, str]],
    claims: Sequence[Claim],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    collection: Collection,
    warnings: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The page as text; links to results are relative to the folder `out`.

    `settings` are those with results, `answers` what is said first, each with the label of what it is about.
    """
    environment = Environment(
        loader=PackageLoader("fedbench.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        amount=amount,
        body=body,
        quoted=quoted,
        legend=legend,
        sort_key=sort_key,
        plot=plot,
        plot_width=PLOT,
        link=lambda run: _link(out, run),
    )
    environment.filters["whole"] = whole_names
    environment.filters["between_tags"] = between_tags
    listed = groups(settings, collection.runs)
    anchors = {group.anchor: f"r{place}" for place, group in enumerate(listed)}  # short, for they are there often
    software = {_key(facts): facts for facts in map(_software, collection.runs)}
    numbers = {key: place + 1 for place, key in enumerate(software)}
    above = [
        f"{setting.label}: {text}" for setting in settings for text in [*setting.warnings, setting.unlike_times] if text
    ]
    return environment.get_template("index.html").render(
        title=title,
        caption=caption,
        version=__version__,
        explanation=explanation(bool(claims)),
        answers=answers,
        first=FIRST,
        long=LONG,
        claims=claims,
        tables=tables,
        pictures=pictures,
        images={p.name: _base64(p.files["png"]) for p in pictures},
        papers={p.name: _base64(p.files["pdf"]) for p in pictures},
        drawings={p.name: Markup(p.files["svg"].decode()) for p in pictures if "svg" in p.files},
        forms=_packed(tables, pictures),
        groups=listed,
        anchors=anchors,
        software=software,
        software_of={run.spec.identity: numbers[_key(_software(run))] for run in collection.runs},
        failures=collection.failures,
        problems=warnings,
        warnings=list(dict.fromkeys(above)),
        said={*above, *(text for text in notes)},
        notes=notes,
        methods=_methods(settings),
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _packed(tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """The texts behind the buttons, by the path of their file: JSON, compressed, so that thousands of runs fit in."""
    forms = {"csv": as_csv, "tex": latex, "md": markdown}
    texts = {f"tables/{table.name}.{suffix}": form(table) for table in tables for suffix, form in forms.items()}
    texts |= {f"figures/{p.name}.csv": p.files["csv"].decode() for p in pictures if "csv" in p.files}
    return _base64(gzip.compress(json.dumps(texts).encode(), mtime=0))


def sort_key(entry: Entry) -> str:
    """What the page sorts an entry by; gaps have nothing and come last."""
    return "" if entry.value is None else f"{entry.value:.7g}"


def between_tags(text: str) -> Markup:
    """`text` as HTML says it between tags, where a quote is a quote: a spec is full of them."""
    return Markup(html.escape(text, quote=False))


def whole_names(text: str) -> Markup:
    """`text`, escaped, in which no line breaks at a hyphen inside a short word."""
    safe = html.escape(str(text))
    return Markup(
        re.sub(
            r"[\w\u2011]+(?:-[\w]+)+", lambda m: f'<span class="n">{m[0]}</span>' if len(m[0]) <= LONG else m[0], safe
        )
    )


def plot(table: Table, place: int, entry: Entry) -> Markup:
    """A dot, with its interval if it is a difference, to the scale of its column; empty where a column has no plot."""
    kind = table.columns[place].plot
    if not kind or entry.value is None:
        return Markup("")
    column = [row[place] for _, row in table.rows if row[place].value is not None]
    if kind == "lead":  # what it is behind the best of its column
        best = max(e.value or 0.0 for e in column)
        column = [Entry((e.value or 0.0) - best) for e in column]
        entry = Entry(entry.value - best)
    value = entry.value or 0.0
    ends = [0.0, *(v for e in column for v in (e.value, e.low, e.high) if v is not None)]
    # an interval that dwarfs all differences is cut off, or nothing else could be seen
    reach = 3 * max(abs(e.value or 0.0) for e in column) or 1.0
    low, high = max(min(ends), -reach), min(max(ends), reach)
    scale = (PLOT - 8) / ((high - low) or 1.0)

    def x(value: float) -> int:
        return round(4 + scale * (min(max(value, low), high) - low))

    parts = [f'<path class="zero" d="M{x(0)} 0v14"/>']
    if entry.low is not None and entry.high is not None:
        parts.append(f'<path class="span" d="M{x(entry.low)} 7H{x(entry.high)}"/>')
    parts.append(f'<circle cx="{x(value)}" cy="7" r="3"/>')
    return Markup(f'<svg class="dots">{"".join(parts)}</svg>')


# ---------------------------------------------------------------- runs


def groups(settings: Sequence[SettingResults], runs: Sequence[Run]) -> list[Group]:
    """The runs of every cell, and those that stand in none because they must not be averaged."""
    made = []
    shown: set[str] = set()
    for setting in settings:
        for row in setting.rows:
            if row.cell.runs:
                made.append(_group(setting.anchor(row), row.title, setting.label, row.cell.runs))
                shown |= {run.spec.identity for run in row.cell.runs}
    rest: dict[str, list[Run]] = {}
    for run in runs:
        if run.spec.identity not in shown:
            rest.setdefault(f"{run.spec.dataset}, {run.spec.clients} clients, {run.title}", []).append(run)
    for place, (label, members) in enumerate(rest.items()):
        made.append(_group(f"runs-rest-{place + 1}", members[0].title, f"{label}: not averaged", members))
    return made


def _group(anchor: str, title: str, label: str, runs: Sequence[Run]) -> Group:
    spec = runs[0].spec
    text = json.dumps(spec.model_dump(mode="json", exclude={"seed"}))
    made_by = command(spec, [run.spec.seed for run in runs])
    if title_in_code(spec.method) is None:
        made_by += f"\n# {spec.method} is not built in: where it is a file, give that in place of the name"
    return Group(anchor, title, label, runs, made_by, text)


def _link(out: Path, run: Run) -> str:
    # bytes, for the name of a folder need be no text
    return quote(os.fsencode(Path(os.path.relpath(run.path.absolute(), out.absolute())).as_posix()))


def _software(run: Run) -> dict[str, Any]:
    """Where a run was made, in flat form; when, and of what it is the beginning, is not part of it."""
    flat: dict[str, Any] = {}
    for key, value in run.provenance.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        elif key not in ("finished", "cut_from"):
            flat[key] = value
    return flat


def _key(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, default=str)


# ---------------------------------------------------------------- methods


def _methods(settings: Sequence[SettingResults]) -> list[tuple[str, str, str]]:
    """Name, title and departures from its paper of every method."""
    found = {row.name: row.cell.runs[0].title for setting in settings for row in setting.filled}
    return [(name, title, departures(name)) for name, title in sorted(found.items())]


def departures(method: str) -> str:
    """What the docstring of a built-in method says of its departures from the paper; empty where it is not built in.

    The source is read and not imported, as importing it would import torch.
    """
    for folder in importlib.import_module("fedbench.methods").__path__:
        path = Path(folder) / f"{method.replace('-', '_')}.py"
        if path.is_file():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            return text.partition("Departures from the paper")[2].strip(" \n:-*")
    return ""
