"""Checkpoints: a run's progress as tensors and plain data, with checksums, loaded without executing anything.

A checkpoint is what `torch.save` writes, a zip archive that keeps a checksum of each of its parts.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import torch

from fedbench.storage import replacing
from fedbench.training.engine import Progress


def save(path: Path, progress: Progress, belongs_to: dict[str, Any]) -> None:
    """Write `progress` atomically; `belongs_to` is plain data that must be equal for it to be used again.

    Raises OSError where it cannot be written.
    """
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(Progress)}
    with replacing(path) as file:  # tensor by tensor: the file is never in memory as a whole
        try:
            torch.save({"belongs_to": belongs_to, "progress": fields}, file)
        except RuntimeError as error:  # what torch makes of a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load(path: Path, belongs_to: dict[str, Any], device: torch.device) -> tuple[Progress | None, str]:
    """The progress at `path`, or None and why it cannot be used (an empty reason where there is no file)."""
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
        return Progress(**stored["progress"]), ""
    except Exception as error:
        return None, f"it cannot be loaded ({type(error).__name__})"
