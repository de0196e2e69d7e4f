"""What runs on a worker of a Dask scheduler: it says what it is, makes a run, and hears a stop.

A worker that sees the results folder works in it, as a local process does; every other one works in a folder of its own
and hands its result back. `facts`, `stop` and `perform` are called by name from the submitting process.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fedbench
from fedbench import plugins, storage
from fedbench.dataset import data_root
from fedbench.errors import BadInput
from fedbench.runs import plugin_files
from fedbench.runs.arithmetic import arithmetic, instruction_set
from fedbench.runs.job import Job, Note, Outcome, work
from fedbench.runs.plugin_files import Part, PluginFiles
from fedbench.runs.prepare import data_fingerprint
from fedbench.runs.provenance import software

TELL_EVERY = 1.0  # seconds between two notes of a run
LOOK_EVERY = 0.5  # seconds between two looks for a stop, while another run is made in this process
RESOURCE = "GPU"  # what a worker is started with that has one; a run takes it and gives it back
ONE_QUESTION = threading.Lock()  # plug-ins and samples are found by one thread at a time
ONE_RUN = threading.Lock()  # torch is set up for a run in the whole process


def _source() -> str:
    """A hash of the files of the package."""
    digest = hashlib.sha256()
    rooms = (fedbench, *(importlib.import_module(f"fedbench.{name}") for name in ("methods", "datasets")))
    for folder in (Path(room.__path__[0]) for room in rooms):
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


SOURCE = _source()  # as it was imported: a worker that lives on runs that, whatever the files say later


def own_kind() -> dict[str, str | None]:
    """What two processes must have in common for their results to have the same bits."""
    return {
        "fedbench source": SOURCE,
        **software(),
        "instruction set": instruction_set(),
        "arithmetic (the hash of a small computation)": arithmetic(),
    }


@dataclass(frozen=True)
class Needs:
    """What a worker must have as the submitting process has it, and what is sent to it for that."""

    samples: Mapping[tuple[str, Path], str]  # fingerprints by data set and folder
    codes: Mapping[Part, str]  # code hashes of plug-ins
    files: PluginFiles

    def of(self, job: Job) -> Needs:
        """What a worker needs for `job`."""
        data, parts = (job.dataset, job.data_root), plugin_files.parts(job)
        files = {where: self.files[where] for _, where in parts if where in self.files}
        return Needs({data: self.samples[data]}, {part: self.codes[part] for part in parts}, files)


@dataclass(frozen=True)
class Parcel:
    """A job on its way to a worker. Plain data."""

    job: Job
    needs: Needs
    call: str  # names the submitting call
    shared: bool  # whether the worker sees the results folder


ended: set[str] = set()  # calls that asked their runs to stop


def stop(call: str) -> None:
    """Ask the runs of `call` on this worker for a checkpoint and an end."""
    ended.add(call)


async def facts(token: str, needs: Needs, dask_worker: Any) -> dict[str, Any]:
    """What must be known of a worker before it gets a job, as plain data."""

    def ask() -> dict[str, Any]:
        try:
            now = _source()
        except OSError as error:
            now = str(error)
        return {
            "kind": own_kind(),
            "source now": now,
            "lacks": lacking(needs),
            "shared": Path(token).is_file(),
            "cuda": dask_worker.state.total_resources.get(RESOURCE, 0) >= 1,
        }

    return await asyncio.to_thread(ask)  # the worker goes on answering meanwhile


def lacking(needs: Needs) -> dict[str, str]:
    """What this worker has not got as it is needed: the text that finds a plug-in, and why."""
    with ONE_QUESTION:
        lacks = {}
        for part, code in plugin_files.codes(list(needs.codes), needs.files).items():
            if code != needs.codes[part]:
                lacks[part[1]] = code if " " in code else "its code is another one than here"
        for (dataset, root), fingerprint in needs.samples.items():
            if dataset not in lacks:
                try:
                    _root(plugin_files.unpacked(dataset, needs.files), root, fingerprint)
                except BadInput as error:
                    lacks[dataset] = str(error)
        return lacks


def _root(dataset: str, given: Path, fingerprint: str) -> Path:
    """The folder in which this worker has these very samples of a data set. Raises BadInput where there is none."""
    found = plugins.find_dataset(dataset)
    roots = list(dict.fromkeys([given, data_root()]))
    why = f"it has no {found.name}.npz in {' or '.join(map(str, roots))}: put it there"
    for root in roots:
        if not found.cls.cached or (root / f"{found.name}.npz").is_file():
            try:
                if data_fingerprint(dataset, root) == fingerprint:
                    return root
                why = "its samples are others than here"
            except BadInput as error:
                why = str(error)
    raise BadInput(why)


class _Asked:
    """What a run on a worker looks at to see whether it is to end."""

    def __init__(self, call: str) -> None:
        from distributed import get_worker

        self.call, self.worker, self.key = call, get_worker(), get_worker().get_current_task()

    def exists(self) -> bool:
        """Whether it was asked, is wanted by nobody any more (the submitting process died), or the worker closes."""
        task = self.worker.state.tasks.get(self.key)
        wanted = task is not None and task.state == "executing"
        return self.call in ended or not wanted or self.worker.status.name != "running"


Made = tuple[Outcome, bytes, bytes]  # what came of a run, and its result and models where the folder is not shared


def perform(parcel: Parcel) -> Made | None:
    """The job of a `parcel`, done by this worker; None where it has no longer what it had when it was asked."""
    asked, given = _Asked(parcel.call), parcel.job
    told = 0.0

    def tell(note: Note) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic() if note else 0.0  # that a run is here says nothing of how far it is
            about = {**note, "identity": given.spec.identity, "worker": asked.worker.address}
            asked.worker.log_event(parcel.call, about)

    while not ONE_RUN.acquire(timeout=LOOK_EVERY):
        if asked.exists():
            return Outcome(given, "stopped"), b"", b""
    try:
        tell({})
        return None if lacking(parcel.needs) else _made(parcel, asked, tell)
    finally:
        ONE_RUN.release()


def _made(parcel: Parcel, asked: _Asked, tell: Callable[[Note], None]) -> Made:
    given, files = parcel.job, parcel.needs.files
    fingerprint = parcel.needs.samples[given.dataset, given.data_root]
    root = _root(plugin_files.unpacked(given.dataset, files), given.data_root, fingerprint)
    job = plugin_files.at_home(given, files, root)
    if parcel.shared:
        return replace(work(job, asked, os.getpid(), wait=False, tell=tell), job=given), b"", b""
    with tempfile.TemporaryDirectory(prefix="fedbench-run-") as folder:
        job = replace(job, results=Path(folder), checkpoint_every=float("inf"), keep_state=False)
        outcome = replace(work(job, asked, os.getpid(), wait=False, tell=tell), job=given)
        result, models = (
            path.read_bytes() if path.is_file() else b""
            for path in (storage.result_path(job.results, job.spec), storage.models_path(job.results, job.spec))
        )
        return outcome, result, models


def needed(jobs: Sequence[Job]) -> Needs:
    """What workers need for `jobs`, as this process has it. Raises BadInput for a plug-in file that is gone."""
    parts = list(dict.fromkeys(part for job in jobs for part in plugin_files.parts(job)))
    samples = {data: data_fingerprint(*data) for data in {(job.dataset, job.data_root): None for job in jobs}}
    return Needs(samples, plugin_files.codes(parts, {}), plugin_files.pack(parts))
