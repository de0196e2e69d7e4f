"""Where a number comes from: versions, commit, device, determinism settings."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import fedbench
from fedbench.runs.arithmetic import arithmetic, instruction_set

SOURCES = ("fedbench", "methods", "datasets", "pyproject.toml")


def _git(*arguments: str) -> str | None:
    root = Path(fedbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@cache
def checkout() -> dict[str, Any]:
    """The commit of the source tree that this process runs, and whether its sources were changed; None outside one.

    Results and reports are no sources: a run that makes a committed result again would be a change itself.
    """
    status = _git("status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(status) if status is not None else None}


@cache
def software() -> dict[str, str | None]:
    """Versions that decide the bits of a run."""
    packages = ("torch", "numpy", "scikit-learn")
    return {"fedbench": fedbench.__version__, "python": platform.python_version()} | {
        p: _installed(p) for p in packages
    }


def provenance(device: torch.device) -> dict[str, Any]:
    """Facts about this process and machine, as plain data."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        **checkout(),
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "processor": _processor(),
            "instruction_set": instruction_set(),
            "arithmetic": arithmetic(),
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "determinism": {
            "torch_threads": torch.get_num_threads(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark if device.type == "cuda" else None,
            "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
        },
    }
