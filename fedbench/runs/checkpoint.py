"""Checkpoints: a run's progress as tensors and plain data, with checksums, loaded without executing anything.

A checkpoint is what `torch.save` writes, a zip archive that keeps a checksum of each of its parts. States of clients
that do not fit into memory (`spill`) are parts of their own, written and read one after the other.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import torch

from fedbench.errors import BadInput
from fedbench.runs.spill import Spill, unpacked
from fedbench.storage import Best, HistoryRow, replacing
from fedbench.storage.schema import check_chosen
from fedbench.training.engine import Engine, Progress
from fedbench.tree import Tree

PART = "archive/clients/{}"  # torch calls a file that it did not name `archive`, and wants all parts in that folder


def save(path: Path, progress: Progress, belongs_to: dict[str, Any]) -> None:
    """Write `progress` atomically; `belongs_to` is plain data that must be equal for it to be used again.

    Raises OSError where it cannot be written.
    """
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(Progress)}
    clients: Any = progress.clients
    stored: dict[str, Any] = {"belongs_to": belongs_to, "progress": fields}
    if isinstance(clients, Spill):
        fields["clients"], stored["order"] = clients.here, list(clients)
    with replacing(path) as file:  # tensor by tensor: the file is never in memory as a whole
        try:
            torch.save(stored, file)
            if isinstance(clients, Spill) and clients.there:
                file.flush()  # the archive is read to be added to, and `file` can only be written
                with Path(file.name).open("r+b") as again, zipfile.ZipFile(again, "a") as archive:
                    for client in clients.there:
                        archive.writestr(PART.format(client), clients.packed(client))
        except RuntimeError as error:  # what torch makes of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: Path, belongs_to: dict[str, Any], device: torch.device) -> tuple[Progress | None, str]:
    """The progress at `path`, or None and why it cannot be used (an empty reason where there is no file).

    Raises BadInput where there is no room for what its clients keep.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        return None, "it is not a regular file"  # reading a pipe would never end
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except Exception:  # zipfile answers damage with many kinds of error
        damaged = "all of it"
    if damaged:
        return None, "it is damaged, or not a checkpoint"
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        known = stored["belongs_to"]
        differing = [key for key, value in belongs_to.items() if known.get(key) != value]
        if differing:
            return None, f"it was made with another {', '.join(differing)}"
        progress = Progress(**stored["progress"])
        if "order" in stored:
            progress.clients = _clients(path, stored["order"], progress.clients, device)
        return progress, ""
    except BadInput:
        raise
    except Exception as error:
        return None, f"it cannot be loaded ({type(error).__name__})"


def misfit(progress: Progress, engine: Engine) -> str:
    """Why `progress`, whatever a file says that it belongs to, cannot be one of a run of `engine`; empty where it can.

    Its round and visits, its history and what validation chose from it, the clients, and the form of the server's
    state, which may have grown along its first dimension.
    """
    try:
        rows = [HistoryRow.model_validate(row) for row in progress.history]
        chosen = [Best.model_validate(row) for row in progress.improvements]
        if rows:
            check_chosen(chosen[-1], chosen[:-1], rows)
        if any(len(best.test.total) != len(engine.clients.ids) for best in chosen):
            return "its scores are not of these clients"
        here = min(progress.round * engine.cohort_size, engine.schedule.visits)
        if not 0 <= progress.round <= engine.rounds or progress.visits != here or (rows and rows[-1].visits > here):
            return f"round {progress.round} with {progress.visits} visits is not one of this run"
        known = set(engine.clients.ids)
        if not all(i in known for i in progress.clients):
            return "what it says that clients keep is not of these clients"
        different = _other_form(engine.start().server, progress.server, "the server's state")
    except Exception as error:  # it may hold anything
        return f"its history is not one of a run ({type(error).__name__})"
    return different


def _other_form(a: Any, b: Any, place: str) -> str:
    """Where `b` is not of the form that `a` is of; empty where it is."""
    if isinstance(a, torch.Tensor):
        fits = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.dim() == b.dim() and a.shape[1:] == b.shape[1:]
        return "" if fits else f"{place} has another shape or type"
    if isinstance(a, dict) and isinstance(b, dict):
        inside = (_other_form(a[key], b[key], f"{place}, {key}") for key in a if key in b)
        return next(filter(None, inside), "")
    return "" if isinstance(b, type(a)) or a is None else f"{place} is of another kind"


def belonging(path: Path) -> dict[str, Any] | None:
    """What the checkpoint at `path` belongs to, read without its tensors; None where it is damaged."""
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["belongs_to"]
    except Exception:
        return None
    return stored


def reached(path: Path) -> int:
    """The visits that the checkpoint at `path` has behind it, read without its tensors; 0 where it is damaged."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["progress"]["visits"])
    except Exception:
        return 0


def _clients(path: Path, order: list[int], here: dict[int, Tree], device: torch.device) -> dict[int, Tree]:
    """The states of clients in their `order`, those that are parts of their own among them."""
    states = Spill({}, path.parent)
    with zipfile.ZipFile(path) as archive:
        for client in order:
            states[client] = here.pop(client) if client in here else unpacked(archive.read(PART.format(client)), device)
    return states  # type: ignore[return-value]  # it does what the engine asks of a dict
