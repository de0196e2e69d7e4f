"""The settings file that `fedbench tune` writes: what was chosen for each method, and at what effort."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbench.errors import BadInput
from fedbench.plugins.finding import Plugin
from fedbench.storage import Spec, read_bytes, write_bytes


def write_settings(path: Path, tuning: Mapping[str, object], methods: Mapping[str, Mapping[str, object]]) -> None:
    """Write what was searched, the table `tuning`, and a table for each of `methods`. Raises OSError."""
    lines = ["# Written by `fedbench tune`. Successive halving on validation; `trials` of them at each of `visits`."]
    for name, facts in {"tuning": tuning, **{f"methods.{name}": facts for name, facts in methods.items()}}.items():
        lines += ["", f"[{name}]", *(f"{key} = {as_toml(value)}" for key, value in facts.items())]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def as_toml(value: object) -> str:
    """A value as TOML writes it; None, which TOML does not have, as the text that settings read as None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {as_toml(inner)}' for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if value is None:
        return '"none"'
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


@dataclass(frozen=True)
class Settings:
    """What a settings file says of one method."""

    settings: dict[str, str]  # "FIELD" -> value
    code: str
    trials: int
    visits: int

    @property
    def words(self) -> str:
        """For tables: `tuned, 16 trials, 9,600 visits`, or `defaults`."""
        return f"tuned, {self.trials} trials, {self.visits:,} visits" if self.trials else "defaults"


NOT_TUNED = Settings({}, "", 0, 0)


def read_settings(path: Path) -> dict[str, Settings]:
    """What a settings file says, by method. Raises BadInput for another file."""
    try:
        content = tomllib.loads(read_bytes(path.expanduser(), 2**20).decode("utf-8"))
        return {
            method: Settings(
                {str(name): str(value) for name, value in facts["settings"].items()},
                str(facts["code"]),
                int(facts["trials"]),
                int(facts["visits"]),
            )
            for method, facts in content["methods"].items()
        }
    except OSError as error:
        raise BadInput(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadInput(f"{path} is no settings file as `fedbench tune` writes it ({what})") from None


def elsewhere(path: Path, spec: Spec) -> str:
    """What a settings file was tuned on, where that is not what it is used for; empty where it is."""
    tuned = tomllib.loads(read_bytes(path.expanduser(), 2**20).decode("utf-8")).get("tuning", {})
    names = ("dataset", "clients", "partition", "network")
    other = [name for name in names if name in tuned and tuned[name] != getattr(spec, name)]
    if not other:
        return ""
    there = ", ".join(f"{name} {tuned[name]}" for name in other)
    return f"{path} was tuned with {there}; here: {', '.join(f'{name} {getattr(spec, name)}' for name in other)}"


def unfit(path: Path, known: Mapping[str, Settings], methods: Sequence[Plugin]) -> list[str]:
    """A sentence for each of `methods` that a settings file does not know, or that has changed since."""
    warnings = [f"{path} says nothing of {p.name}: its defaults are used" for p in methods if p.name not in known]
    changed = [p for p in methods if p.name in known and known[p.name].code != p.code]
    return warnings + [f"{p.name} was tuned with other code than is here now: tune it again" for p in changed]
