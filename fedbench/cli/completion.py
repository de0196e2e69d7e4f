"""What the shell completes: names, without importing what they name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

import fedbench
from fedbench.errors import canonical


def _names(kind: str) -> list[str]:
    """The methods or data sets that have a name. `fedbench.plugins.names` is the same, and imports torch."""
    folders = [
        str(Path(fedbench.__file__).parent / f"{kind}s"),
        *getattr(getattr(fedbench, f"{kind}s", None), "__path__", []),
    ]
    installed = (point.name for point in entry_points(group=f"fedbench.{kind}s"))
    return sorted({canonical(name) for name in (*(m.name for m in pkgutil.iter_modules(folders)), *installed)})


def _files(incomplete: str, suffix: str) -> list[str]:
    folder, _, begun = incomplete.rpartition("/")
    here = Path(folder or ("/" if incomplete.startswith("/") else "."))
    prefix = incomplete[: len(incomplete) - len(begun)]
    try:
        return sorted(f"{prefix}{p.name}" for p in here.iterdir() if p.name.startswith(begun) and p.suffix == suffix)
    except OSError:
        return []


def _matching(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete.lower())]


def methods(incomplete: str) -> list[str]:
    """The last of several names with commas between them; those before it are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    taken = {canonical(name) for name in before.split(",")}
    offered = [
        *(name for name in _matching(last, ["all", *_names("method")]) if name not in taken),
        *_files(last, ".py"),
    ]
    return [f"{before}{comma}{name}" for name in offered]


def datasets(incomplete: str) -> list[str]:
    """Data sets by name or file."""
    return [*_matching(incomplete, _names("dataset")), *_files(incomplete, ".py")]


def presets(incomplete: str) -> list[str]:
    """The names of the presets."""
    from fedbench.runs.presets import PRESETS

    return _matching(incomplete, PRESETS)


def experiments(incomplete: str) -> list[str]:
    """Experiments by name or file."""
    folder = Path(fedbench.__file__).parent / "experiments"
    return [*_matching(incomplete, sorted(path.stem for path in folder.glob("*.toml"))), *_files(incomplete, ".toml")]
