"""What a plug-in could change or use of the process that it runs in, and must not."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from fedbench.runs.torch_settings import torch_settings

# who wants to know what is opened, and whether only by what lies in this folder
_listeners: list[tuple[list[str], str | None]] = []
_installed = False


def process_state() -> dict[str, Any]:
    """Everything that neighbours in the process depend on: settings, generators, environment, folder; comparable."""
    return {
        **torch_settings(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "torch's anomaly detection": torch.is_anomaly_enabled(),
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "numpy's global generator": _numpy_generator(),
        "Python's global generator": random.getstate(),
        "numpy's treatment of errors": np.geterr(),
        "the environment": dict(os.environ),
        "the working directory": str(Path.cwd()),
    }


def _numpy_generator() -> tuple[bytes, int]:
    _, keys, place, *_ = np.random.get_state()  # noqa: NPY002
    assert isinstance(keys, np.ndarray)
    return keys.tobytes(), int(place)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not as it was."""
    return [name for name, value in before.items() if after[name] != value]


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """While inside, the global generators may be used; afterwards they stand where they stood."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def opened(folder: Path | None = None) -> Iterator[list[str]]:
    """While inside, what is opened: files, connections, other programs. Imports do not count.

    With a `folder`, only what a file in it opens, as a module may that is being imported.

    Python tells of what it opens itself, and of the libraries that ask it to. torch writes archives by itself, and is
    watched where it does; another library may open a file unseen.
    """
    global _installed
    if not _installed:  # a hook cannot be taken away again; it does nothing while nobody listens
        sys.addaudithook(_hear)
        _installed = True
    found: list[str] = []
    _listeners.append((found, None if folder is None else str(folder.resolve())))
    writer = torch._C.PyTorchFileWriter

    def watched_writer(target: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(target, str):
            found.append(f"opens {target}")
        return writer(target, *arguments, **options)

    torch._C.PyTorchFileWriter = watched_writer  # type: ignore[assignment, misc]
    try:
        yield found
    finally:
        torch._C.PyTorchFileWriter = writer  # type: ignore[misc]
        _listeners.pop()


# events of Python's audit, and what they say; the first argument is named
HEARD = {
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.posix_spawn", "os.spawn", "os.exec", "pty.spawn"), "starts"),
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink"), "changes"),
    **dict.fromkeys(("os.truncate", "os.chmod", "os.utime", "shutil.rmtree"), "changes"),
    **dict.fromkeys(("os.listdir", "os.scandir", "glob.glob"), "looks into"),
    "sqlite3.connect": "opens",
    "urllib.Request": "asks",
}
FORKS = ("os.fork", "os.forkpty")


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listeners:
        return
    found, folder = _listeners[-1]
    if event == "open" and not isinstance(arguments[0], int) and _counts(sys._getframe(1), folder):
        found.append(f"opens {os.fsdecode(arguments[0])}")
    elif event == "socket.connect":
        found.append(f"connects to {arguments[1]}")
    elif event in FORKS:
        found.append("starts another process")
    elif event in HEARD and _counts(sys._getframe(1), folder):
        found.append(f"{HEARD[event]} {arguments[0]}")


def _counts(frame: FrameType | None, folder: str | None) -> bool:
    """Whether an event is none of an import, and, with a `folder`, comes from a file in it."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return False
        if folder is not None and os.path.dirname(os.path.realpath(name)) == folder:  # noqa: PTH120
            return True
        frame = frame.f_back
    return folder is None
