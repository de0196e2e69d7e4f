"""The settings file that `fedbench tune` writes: what was chosen for each method, and at what effort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbench.errors import BadInput
from fedbench.plugins.finding import Plugin
from fedbench.storage import Spec, write_bytes
from fedbench.storage.toml import as_toml, read_toml


def write_settings(path: Path, tuning: Mapping[str, object], methods: Mapping[str, Mapping[str, object]]) -> None:
    """Write what was searched, the table `tuning`, and a table for each of `methods`. Raises OSError."""
    lines = ["# Written by `fedbench tune`. Successive halving on validation; `trials` of them at each of `visits`."]
    for name, facts in {"tuning": tuning, **{f"methods.{name}": facts for name, facts in methods.items()}}.items():
        lines += ["", f"[{name}]", *(f"{key} = {as_toml(value)}" for key, value in facts.items())]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


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
    content = _content(path)
    try:
        return {
            method: Settings(
                {str(name): str(value) for name, value in facts["settings"].items()},
                str(facts["code"]),
                int(facts["trials"]),
                int(facts["visits"]),
            )
            for method, facts in content["methods"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadInput(f"{path} is no settings file as `fedbench tune` writes it ({what})") from None


def replaceable(path: Path) -> set[str]:
    """The methods in the settings file that is to be replaced. Raises BadInput where another file has its place."""
    try:
        return set(read_settings(path)) if path.is_file() and path.stat().st_size else set()
    except BadInput as error:
        raise BadInput(f"{error}; it is not overwritten: remove it, or choose another --out") from None


def elsewhere(path: Path, spec: Spec) -> str:
    """What a settings file was tuned on, where that is not what it is used for; empty where it is."""
    tuned = _content(path).get("tuning")
    if not isinstance(tuned, dict):
        return ""
    names = ("dataset", "clients", "partition", "network")
    other = [name for name in names if name in tuned and tuned[name] != getattr(spec, name)]
    if not other:
        return ""
    there = ", ".join(f"{name} {tuned[name]}" for name in other)
    return f"{path.name} was tuned with {there}; here: {', '.join(f'{name} {getattr(spec, name)}' for name in other)}"


def _content(path: Path) -> dict[str, Any]:
    return read_toml(path.expanduser(), "the settings file")[1]


def unfit(path: Path, known: Mapping[str, Settings], methods: Sequence[Plugin]) -> list[str]:
    """A sentence for each of `methods` that a settings file does not know, or that has changed since."""
    warnings = [f"{path} says nothing of {p.name}: its defaults are used" for p in methods if p.name not in known]
    changed = [p for p in methods if p.name in known and known[p.name].code != p.code]
    return warnings + [f"{p.name} was tuned with other code than is here now: tune it again" for p in changed]
