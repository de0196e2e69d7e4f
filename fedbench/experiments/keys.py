"""The documentation of every key of an experiment file, made from the schema."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from fedbench.experiments import rules
from fedbench.experiments.parts import CERTAINTY, PARTS, Experiment, keys_of

HEADS = {
    "": "At the top of the file",
    "columns": "In each [[columns]]",
    "presets": "In each [presets.NAME]",
    "sources": "In each [sources.NAME]",
    "published": "In each METHOD = { ... } of [published.COLUMN]",
    "claims": "In each [[claims]]",
}


def documentation() -> str:
    """Markdown: a table of keys for each part of a file, and the rules of claims."""
    parts = ["# Keys of an experiment file", _INTRODUCTION]
    for key, head in HEADS.items():
        model = PARTS[key] if key else Experiment
        parts.append(f"## {head}\n\n| key | what it says | default |\n| --- | --- | --- |\n{_rows(model)}")
    certainties = "\n".join(f"* `{name}`: {meaning}" for name, (_, meaning) in CERTAINTY.items())
    parts.append(f"## Certainty\n\n{certainties}")
    grammar = (rules.__doc__ or "").strip()
    parts.append(f"## RULES\n\n{grammar}")
    known = {**rules.QUANTITIES, **{k: v for each in rules.EXTRA_QUANTITIES.values() for k, v in each.items()}}
    quantities = "\n".join(f"* `{name}`: {meaning}" for name, meaning in known.items())
    parts.append(f"Quantities, some of which only the parts named in `extras` compute:\n\n{quantities}")
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = (
    "An experiment is a TOML file; `fedbench new experiment NAME` writes one that runs as it stands. Files of plug-ins "
    "lie beside it. All mistakes of a file are reported at once, each with its line."
)


def _rows(model: type[BaseModel]) -> str:
    return "\n".join(_row(key, model) for key in keys_of(model))


def _row(key: str, model: type[BaseModel]) -> str:
    field = model.model_fields[key]
    choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
    words = (field.description or "") + (f": {choices}" if choices else "")
    default = "required" if field.is_required() else _default(field.get_default())
    return f"| `{key}` | {words.replace('|', chr(92) + '|')} | {default} |"


def _default(value: Any) -> str:
    return (
        "" if value is None or value in ("", [], {}) else f"`{str(value).lower() if value in (True, False) else value}`"
    )


def _choices(annotation: Any) -> list[str]:
    """The texts of a Literal, wherever in the annotation it stands."""
    inner = get_args(annotation)
    if inner and all(isinstance(each, str) for each in inner):
        return list(inner)
    return [choice for each in inner for choice in _choices(each)]
