"""Devices as tokens: a run takes one and gives it back, so that no GPU has more runs than it was meant to have.

A token is a locked file, and the system unlocks it when its holder ends, however it ends. Tokens are this machine's:
two `fedbench run` beside one another share the GPUs.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

LOOK_EVERY = 0.2  # seconds between two looks for a token, while all are taken


class Stop(Protocol):
    """What a run looks at to see whether it is to end: a file that comes into being, or what stands for one."""

    def exists(self) -> bool:
        """Whether the run is to end."""


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"fedbench-devices-{os.getuid() if hasattr(os, 'getuid') else 0}"


@dataclass(frozen=True)
class Devices:
    """Some devices, and how many runs each takes at a time. Plain data: it travels to the worker processes."""

    names: tuple[str, ...]  # as torch calls them, e.g. "cuda:0"
    each: int = 1
    folder: Path = field(default_factory=_folder)  # of the tokens

    @staticmethod
    def of_this_machine(each: int = 1) -> Devices:
        """The CUDA devices that this process sees."""
        import torch

        return Devices(tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())), each)

    @property
    def tokens(self) -> int:
        """How many runs there can be at a time."""
        return len(self.names) * self.each

    @contextlib.contextmanager
    def take(self, stop: Stop) -> Iterator[str | None]:
        """The name of a device for one run, waited for while all are taken; None where `stop` came first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # the first token of every device before the second of any: runs spread over the devices
        places = [(name, self._lock(name, place)) for place in range(self.each) for name in self.names]
        while not stop.exists():
            for name, lock in places:
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                try:
                    yield name
                finally:
                    lock.release()
                return
            time.sleep(LOOK_EVERY)
        yield None

    def _lock(self, name: str, place: int) -> FileLock:
        file = re.sub(r"[^\w-]", "-", physical(name))  # a part of a GPU has a name with slashes
        return FileLock(self.folder / f"{file}-{place}.lock")


def physical(name: str) -> str:
    """What the device `name` is on this machine, where CUDA_VISIBLE_DEVICES gives the devices other numbers."""
    kind, _, number = name.partition(":")
    visible = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    if kind == "cuda" and number and int(number) < len(visible):
        return f"{kind}:{visible[int(number)]}"
    return name
