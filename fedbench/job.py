"""One run from start to stored result, as a worker process does it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from fedbench import checkpoint, fast, registry, store
from fedbench.engine import Progress
from fedbench.errors import BadInput
from fedbench.problem import load_data, prepare
from fedbench.provenance import checkout, provenance, software
from fedbench.spec import Spec

PROGRESS_EVERY = 0.5  # seconds between two progress files
LOOK_EVERY = 1.0  # seconds between two looks for a request to stop, while another process is at the run
Ending = Literal["done", "stopped", "busy", "failed"]


@dataclass(frozen=True)
class Job:
    """A run and where its things are. Plug-ins are given as text, so that nothing of them is pickled."""

    spec: Spec
    method: str  # a name or an absolute file path
    dataset: str
    data_root: Path
    results: Path
    checkpoint_every: float  # seconds
    device: str  # "cpu", "cuda:0", ...


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `message` is the error of a failed one; `warnings` are worth showing in any case."""

    job: Job
    ending: Ending
    message: str = ""
    details: str = ""
    warnings: tuple[str, ...] = ()


def is_done(job: Job) -> bool:
    """Whether a result of this spec, made by this code, is stored."""
    return state_of(job) == "done"


def state_of(job: Job) -> Literal["done", "started", "outdated", "damaged", "missing"]:
    """What the results folder holds of a job. A result of another spec or other code is outdated, and is made again."""
    path = store.result_path(job.results, job.spec)
    if path.is_file():
        try:
            result = store.read(path)
        except BadInput:
            return "damaged"
        code = registry.find_method(job.method).code
        data = registry.find_dataset(job.dataset).code
        same = result.spec == job.spec and result.code == code and result.dataset_code in (data, None)
        return "done" if same else "outdated"
    return "started" if store.work_path(job.results, job.spec, "checkpoint").is_file() else "missing"


@contextlib.contextmanager
def _ctrl_c_left_to(parent: int) -> Iterator[None]:
    """A worker ignores Ctrl-C and SIGTERM: terminals and schedulers send them to all, and the parent asks by a file."""
    if os.getpid() == parent or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def set_up_torch(device: torch.device) -> None:
    """One thread and deterministic algorithms: what makes the bits of a run its spec's alone."""
    torch.set_num_threads(1)
    # use_deterministic_algorithms(True), but for its import of the compiler: a second, and 160 MB
    torch.set_deterministic_debug_mode("error")
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def work(job: Job, stop_file: Path, parent: int, wait: bool) -> Outcome:
    """Run `job` to its end, or until `stop_file` exists; never raises. `parent` is the process that makes `stop_file`.

    A job that another process is at ends as `busy`, or is waited for with `wait`.
    """
    with _ctrl_c_left_to(parent):
        if stop_file.exists():
            return Outcome(job, "stopped")
        try:
            job.results.joinpath(store.WORK).mkdir(parents=True, exist_ok=True)
            lock = FileLock(store.work_path(job.results, job.spec, "lock"))
            while True:
                try:
                    with lock.acquire(timeout=LOOK_EVERY if wait else 0):
                        return _work(job, stop_file)
                except Timeout:
                    if not wait:
                        return Outcome(job, "busy")
                if stop_file.exists():
                    return Outcome(job, "stopped")
        except BadInput as error:
            store.write_failure(job.results, job.spec, str(error))
            return Outcome(job, "failed", str(error))
        except Exception as error:
            details = traceback.format_exc()
            store.write_failure(job.results, job.spec, details)
            return Outcome(job, "failed", f"{type(error).__name__}: {error}", details)


def _work(job: Job, stop_file: Path) -> Outcome:
    spec, warnings = job.spec, []
    if is_done(job):  # another process finished it a moment ago
        _tidy(job)
        return Outcome(job, "done")
    device = torch.device(job.device)
    set_up_torch(device)
    checkout()  # now, for a commit that is made while the run goes on is not the one that made it
    method, dataset = registry.find_method(job.method), registry.find_dataset(job.dataset)
    problem = prepare(spec, method, dataset, job.data_root, device)
    load_data.cache_clear()  # the run has copies of the rows that it needs
    path = store.work_path(job.results, spec, "checkpoint")
    belongs_to = {
        "spec": spec.model_dump(mode="json"),
        "code": method.code,
        "dataset_code": dataset.code,
        "software": software(),
        "partition": problem.partition.checksum(),
    }
    progress, refusal = checkpoint.load(path, belongs_to, device)
    if refusal:
        warnings.append(f"the checkpoint {path} is not used: {refusal}; the run starts afresh")
    progress = progress or problem.engine.start()
    saved = shown = time.monotonic()

    def save() -> None:
        try:
            checkpoint.save(path, progress, belongs_to)
        except OSError as error:
            warnings.append(f"no checkpoint could be written to {path}: {error.strerror}; the run went on without")

    def tick(progress: Progress) -> bool:
        nonlocal saved, shown
        now = time.monotonic()
        stop = stop_file.exists()
        if stop or now - saved >= job.checkpoint_every:
            save()
            saved = time.monotonic()
        if now - shown >= PROGRESS_EVERY:
            _show(job, progress)
            shown = now
        return stop

    _show(job, progress)
    unseen = None
    with fast.kept_memory():
        if not problem.engine.run(progress, keep_server=problem.unseen is not None, tick=tick):
            return Outcome(job, "stopped", warnings=tuple(dict.fromkeys(warnings)))
        if problem.unseen is not None:
            save()  # adapting has no checkpoints of its own
            unseen = problem.engine.adapt(progress.best_server, *problem.unseen, stop=stop_file.exists)
            if unseen is None:
                return Outcome(job, "stopped", warnings=tuple(dict.fromkeys(warnings)))
    payload: dict[str, Any] = {
        "format": 1,
        "spec": spec.model_dump(mode="json"),
        "title": method.cls.title,
        "code": method.code,
        "dataset_code": dataset.code,
        "partition": problem.partition.checksum(),
        "best": progress.best,
        "unseen": unseen,
        "history": progress.history,
    }
    result = store.Result(**payload, digest=store.digest(payload), provenance=provenance(device))
    store.write(job.results, result)
    _tidy(job)
    if result.diverged:
        warnings.append(f"training diverged: its losses are no numbers; the score is of visit {result.best.visits}")
    return Outcome(job, "done", warnings=tuple(dict.fromkeys(warnings)))


def _tidy(job: Job) -> None:
    """Remove what a finished run has no need of; what cannot be removed does no harm."""
    work, identity = job.results / store.WORK, job.spec.identity
    left = [store.work_path(job.results, job.spec, suffix) for suffix in ("checkpoint", "progress", "error")]
    for folder in (work, store.result_path(job.results, job.spec).parent):
        left += folder.glob(f"*{identity}.*.partial")  # of processes that were killed while they wrote
    for path in left:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _show(job: Job, progress: Progress) -> None:
    """Leave a note of how far the run is, for whoever watches; nothing depends on it."""
    last = progress.history[-1]["val_accuracy"] if progress.history else None
    best = progress.best["val_accuracy"] if progress.best else None
    note = {"round": progress.round, "visits": progress.visits, "seconds": progress.seconds, "last": last, "best": best}
    with contextlib.suppress(OSError):
        path = store.work_path(job.results, job.spec, "progress")
        temporary = path.with_suffix(f".progress.{os.getpid()}.partial")
        temporary.write_text(json.dumps(note))
        temporary.replace(path)
