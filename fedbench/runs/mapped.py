"""Samples that processes share: a data set's tensors in one file, which every process maps into its memory.

The file lies beside the data set's own, `DATA_ROOT/.NAME-KEY.mapped`; the key stands for the data set's code and for
the size, inode and times of `NAME.npz`, so another version of either makes another file and the old one goes. It is
what `torch.save` writes: tensors and plain data, with checksums that are looked at once a process. Where it cannot be
written, every process has a copy of its own, as data sets without a file have.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from fedbench import plugins
from fedbench.dataset import Data
from fedbench.plugins import Plugin
from fedbench.storage import replacing

KEY = 16  # digits of the key
WAIT = 600.0  # seconds for another process that makes the file


def load(dataset: Plugin, root: Path) -> tuple[Data, str]:
    """The samples of `dataset` and their fingerprint. Raises BadInput as `Dataset.load` does."""
    path = place(dataset, root)
    if path is None:  # also where the file is yet to be downloaded: it is mapped the next time
        return _copy(dataset, root)
    return _read(path) or _made(dataset, root, path) or _copy(dataset, root)


def look(dataset: Plugin, root: Path) -> str:
    """The fingerprint of the samples of `dataset`, without leaving a file. Raises BadInput as `Dataset.load` does."""
    path = place(dataset, root)
    return ((path is not None and _read(path)) or _copy(dataset, root))[1]


def _made(dataset: Plugin, root: Path, path: Path) -> tuple[Data, str] | None:
    """Make the file at `path`, in one process for all; None where it cannot be written."""
    # torch makes a RuntimeError of a full disk
    with contextlib.suppress(OSError, Timeout, RuntimeError), FileLock(root / f".{dataset.name}.mapped.lock", WAIT):
        if not path.is_file() or _read(path) is None:
            data, name = _copy(dataset, root)
            with replacing(path) as file:
                torch.save({"data": {f.name: getattr(data, f.name) for f in fields(Data)}, "name": name}, file)
            del data
        for old in root.glob(f".{dataset.name}-{'?' * KEY}.mapped"):
            if old != path:
                old.unlink(missing_ok=True)
        return _read(path)
    return None


def place(dataset: Plugin, root: Path) -> Path | None:
    """Where the file of the samples belongs that are in `root` now; None where they come from no file there."""
    source = root / f"{dataset.name}.npz"
    try:
        now = source.stat() if dataset.cls.cached else None
    except OSError:
        return None
    if now is None:
        return None
    about = (dataset.code, now.st_size, now.st_ino, now.st_mtime_ns, now.st_ctime_ns)
    return source.with_name(f".{dataset.name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:KEY]}.mapped")


def _copy(dataset: Plugin, root: Path) -> tuple[Data, str]:
    data = plugins.load(dataset, root)
    return data, fingerprint(data)


def _read(path: Path) -> tuple[Data, str] | None:
    """What `path` holds, mapped; None where it is missing or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                return None
        stored = torch.load(path, mmap=True, weights_only=True)
        return Data(**stored["data"]), str(stored["name"])
    except Exception:  # damage has many names, and the file is made anew
        return None


def fingerprint(data: Data) -> str:
    """A hash of all samples and of what a partition may know of them."""
    digest = hashlib.sha256()
    for field in fields(Data):
        value: Any = getattr(data, field.name)
        if isinstance(value, torch.Tensor):
            digest.update(f"{field.name} {list(value.shape)} {value.dtype}".encode())
            for first in range(0, len(value), 4096):  # a part at a time: no copy of all
                digest.update(value[first : first + 4096].contiguous().numpy().tobytes())
        else:
            digest.update(f"{field.name} {value!r}".encode())
    return digest.hexdigest()
