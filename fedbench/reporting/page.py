"""One self-contained HTML page: no network, no other file, everything that comes from outside escaped."""

from __future__ import annotations

import ast
import base64
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedbench import __version__
from fedbench.reporting import tables as forms
from fedbench.reporting.cells import Collection, Run
from fedbench.reporting.figures import Picture
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import EXPLANATION
from fedbench.reporting.tables import Entry, Table

if TYPE_CHECKING:
    from fedbench.reporting.compose import Claim


def page(
    title: str,
    caption: str,
    by_setting: Sequence[SettingResults],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    collection: Collection,
    warnings: Sequence[str],
    notes: Sequence[str],
    claims: Sequence[Claim] = (),
) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("fedbench.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(body=forms.body, quoted=forms.quoted, legend=forms.legend, sort_key=sort_key)
    settings, software = _distinct(collection.runs)
    images = {p.name: base64.b64encode(p.files["png"]).decode() for p in pictures}
    return environment.get_template("index.html").render(
        title=title,
        caption=caption,
        version=__version__,
        explanation=EXPLANATION,
        tables=tables,
        pictures=pictures,
        images=images,
        runs=collection.runs,
        settings=settings,
        software=software,
        settings_of={run.spec.identity: _number(settings, _settings(run)) for run in collection.runs},
        software_of={run.spec.identity: _number(software, _software(run)) for run in collection.runs},
        failures=collection.failures,
        warnings=warnings,
        notes=notes,
        claims=claims,
        methods=_methods(by_setting),
    )


def sort_key(entry: Entry) -> str:
    """What the page sorts an entry by; gaps have nothing and come last."""
    return "" if entry.value is None else repr(entry.value)


# ---------------------------------------------------------------- runs


def _settings(run: Run) -> dict[str, Any]:
    spec = run.spec.model_dump(exclude={"seed", "params"})
    return {**spec, **run.spec.params, "code": run.code}


def _software(run: Run) -> dict[str, Any]:
    """Where a run was made, in flat form; when is not part of it."""
    flat: dict[str, Any] = {}
    for key, value in run.provenance.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        elif key != "finished":
            flat[key] = value
    return flat


def _distinct(runs: Sequence[Run]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The different settings and environments of all runs, each once, by their canonical text."""
    settings = {_key(_settings(run)): _settings(run) for run in runs}
    return settings, {_key(_software(run)): _software(run) for run in runs}


def _key(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, default=str)


def _number(known: Mapping[str, Any], facts: Mapping[str, Any]) -> int:
    return list(known).index(_key(facts)) + 1


# ---------------------------------------------------------------- methods


def _methods(by_setting: Sequence[SettingResults]) -> list[tuple[str, str, str]]:
    """Name, title and departures from its paper of every method."""
    found = {line.name: line.cell.runs[0].title for setting in by_setting for line in setting.rows if line.cell.runs}
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
