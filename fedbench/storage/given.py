"""Paths that a user gives."""

from __future__ import annotations

import os
from pathlib import Path

from fedbench.errors import BadInput


def given_path(given: str | Path, what: str) -> Path:
    """The path `given`, with `~` expanded; `what` names it in errors, e.g. "--results".

    Raises BadInput for an empty text, and for what cannot be the path of anything: one that is too long, a link to
    itself, a home folder that does not exist.
    """
    if not str(given).strip():
        raise BadInput(f"{what} is an empty text: name a path, or leave it out")
    shown = str(given) if len(str(given)) <= 80 else f"{str(given)[:80]}..."
    try:
        path = Path(given).expanduser()
        path.resolve()
        path.exists()  # fails for a name that is too long; is False where there is nothing
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(f"{what} {shown!r} cannot be a path: {reason.lower()}; choose another") from None
    return path


def check_folder(path: Path, what: str) -> None:
    """Raise BadInput where `what` cannot be written to a folder `path`, which is there or will be made."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise BadInput(f"{what} cannot be written to {path}: {there} is no folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{what} cannot be written to {path}: {there} may not be written to; choose another")
