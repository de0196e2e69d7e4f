"""Plug-in files on their way to a worker: they travel as text, with the modules beside them that belong to their code.

A worker that has the same files at the same place uses those, for a plug-in may read what lies beside it; every other
one writes copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.plugins.fingerprint import own_files
from fedbench.runs.job import Job

Part = tuple[str, str]  # a plug-in: its kind, and the text that finds it
# by the path of a plug-in file: it and what belongs to it, by relative path
PluginFiles = Mapping[str, Mapping[str, bytes]]

imported: dict[str, str] = {}  # the hash of the files that this process imported, by the path of the plug-in


def parts(job: Job) -> list[Part]:
    """The plug-ins that a job is made with; of partitions and networks those that are files."""
    kind = _cut(job.partition)[0]
    named = [("method", job.method), ("dataset", job.dataset), *([("partition", kind)] if kind else [])]
    return [*named, *(("network", where) for _, where in job.networks)]


def pack(everything: Iterable[Part]) -> PluginFiles:
    """The files of those plug-ins that are files. Raises BadInput where one is gone."""
    packed: dict[str, dict[str, bytes]] = {}
    for kind, where in everything:
        if where.endswith(".py"):
            found = plugins.find(kind, where).cls
            files = own_files(sys.modules[found.__module__])
            try:
                packed[where] = {str(path.relative_to(files[0].parent)): path.read_bytes() for path in files}
            except OSError as error:
                raise BadInput(f"the plug-in {where} cannot be sent to workers: {error}") from None
    return packed


def unpacked(where: str, files: PluginFiles) -> str:
    """Where this process finds the plug-in `where`: the file itself if it is here and the same, else a copy."""
    if where not in files:
        return where
    contents, path = files[where], Path(where)
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        same = all((path.parent / name).read_bytes() == content for name, content in contents.items())
        if same and imported.setdefault(where, digest) == digest:
            return where
    folder = Path(_scratch().name) / digest
    for name, content in contents.items():
        if not (folder / name).is_file():
            storage.write_bytes(folder / name, content)
    return str(folder / path.name)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fedbench-worker-")  # goes when the process ends


def at_home(job: Job, files: PluginFiles, data_root: Path) -> Job:
    """`job` with the paths of this worker."""
    kind, settings = _cut(job.partition)
    return replace(
        job,
        method=unpacked(job.method, files),
        dataset=unpacked(job.dataset, files),
        partition=unpacked(kind, files) + settings,
        networks=tuple((name, unpacked(where, files)) for name, where in job.networks),
        data_root=data_root,
    )


def codes(everything: Sequence[Part], files: PluginFiles) -> dict[Part, str]:
    """The code hash that each plug-in has in this process, or why it has none."""
    found = {}
    for kind, where in everything:
        try:
            found[kind, where] = plugins.find(kind, unpacked(where, files)).code
        except BadInput as error:
            found[kind, where] = str(error)
    return found


def _cut(partition: str) -> tuple[str, str]:
    """The file of a partition that is a plug-in, and what follows."""
    file, colon, settings = partition.partition(".py:")
    return (f"{file}.py", f":{settings}") if colon else (partition, "")
