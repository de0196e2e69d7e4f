"""Checkpoints: a run's progress as tensors and plain data, with a checksum, loaded without executing anything."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from fedbench.engine import Progress
from fedbench.store import write_bytes

MAGIC = b"fedbench checkpoint 1\n"


def save(path: Path, progress: Progress, belongs_to: dict[str, Any]) -> None:
    """Write `progress` atomically; `belongs_to` is plain data that must be equal for it to be used again."""
    content = io.BytesIO()
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(Progress)}
    torch.save({"belongs_to": belongs_to, "progress": fields}, content)
    payload = content.getbuffer()
    write_bytes(path, MAGIC + hashlib.sha256(payload).digest() + payload)


def load(path: Path, belongs_to: dict[str, Any], device: torch.device) -> tuple[Progress | None, str]:
    """The progress at `path`, or None and why it cannot be used (an empty reason where there is no file)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    start = len(MAGIC) + 32
    if content[: len(MAGIC)] != MAGIC or hashlib.sha256(content[start:]).digest() != content[len(MAGIC) : start]:
        return None, "it is damaged, or not a checkpoint"
    try:
        stored = torch.load(io.BytesIO(content[start:]), map_location=device, weights_only=True)
        known = stored["belongs_to"]
        differing = [key for key, value in belongs_to.items() if known.get(key) != value]
        if differing:
            return None, f"it was made with another {', '.join(differing)}"
        return Progress(**stored["progress"]), ""
    except Exception as error:
        return None, f"it cannot be loaded ({type(error).__name__})"
