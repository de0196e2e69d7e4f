"""Many jobs at once: joblib over processes, results as they arrive, a clean stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from uuid import uuid4

from filelock import Timeout
from joblib import Parallel, delayed

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs.checkpoint import belonging
from fedbench.runs.devices import Devices
from fedbench.runs.job import STOPPING, Job, Note, Outcome, leave_stops_to, tidy, work
from fedbench.runs.prepare import refresh
from fedbench.runs.state import look

WATCH_EVERY = 0.25  # seconds after which the progress of the workers is read again


def run(
    jobs: Sequence[Job],
    processes: int,
    on_progress: Callable[[dict[str, Note]], None],
    on_outcome: Callable[[Outcome], None],
    *,
    devices: Devices | None = None,
    jobs_per_gpu: int = 1,
) -> list[Outcome]:
    """Run `jobs` on so many `processes`; the outcomes, in the order of `jobs`.

    `on_progress` gets the notes of all running jobs by identity, a few times a second and from another thread;
    `on_outcome` every outcome as it arrives. The first Ctrl-C asks all jobs for a checkpoint and an end; the second is
    a KeyboardInterrupt. A failing job does not disturb the others. Jobs for CUDA take turns on the `devices`, by
    default those of this machine with `jobs_per_gpu` jobs each; there are never more processes than these can serve.
    """
    if not jobs:
        return []
    if devices is None and any(job.device == "cuda" for job in jobs):
        devices = Devices.of_this_machine(jobs_per_gpu)
    if devices is not None:
        processes = min(processes, devices.tokens)
    # not named by the process number, which repeats, and is another's on another host
    stop_file = jobs[0].results / storage.WORK / f"stop-{uuid4().hex}"
    outcomes: dict[str, Outcome] = {}
    with stop_on_ctrl_c(stop_file), _watch(jobs, outcomes, on_progress):
        for wait in (False, True):
            todo = [job for job in jobs if outcomes.get(job.spec.identity, Outcome(job, "busy")).ending == "busy"]
            for outcome in _parallel(todo, min(processes, max(1, len(todo))), stop_file, wait, devices):
                outcomes[outcome.job.spec.identity] = outcome
                if outcome.ending != "busy" or wait:
                    on_outcome(outcome)
    return [outcomes[job.spec.identity] for job in jobs]


def _parallel(
    jobs: Sequence[Job], processes: int, stop_file: Path, wait: bool, devices: Devices | None
) -> Iterator[Outcome]:
    left = {job.spec.identity: job for job in jobs}
    deaths: Counter[str] = Counter()  # by identity, of the pools in which a run was going on

    def pool(jobs: list[Job], processes: int) -> Iterator[Outcome]:
        tasks = (delayed(work_on)(devices, job, stop_file, os.getpid(), wait) for job in jobs)
        # loky by name: threads, which a user may have chosen for other work, would share what a process has once
        parallel = Parallel(n_jobs=processes, backend="loky", batch_size=1, return_as="generator_unordered")
        for outcome in parallel(tasks):
            identity = outcome.job.spec.identity
            del left[identity]
            if deaths[identity]:
                died = "a worker process died while it was going on (was memory short?), so it was begun again"
                outcome = replace(outcome, warnings=(died, *outcome.warnings))
            yield _believed(outcome)

    # a worker that is killed takes the pool down with it: what was going on is tried again, fewer runs at a time, and
    # what was going on twice is tried alone, so that a run that kills its worker is known
    while left and not stop_file.exists():
        began = time.time()
        todo = [job for identity, job in left.items() if deaths[identity] < 2] or [next(iter(left.values()))]
        alone = deaths[todo[0].spec.identity] > 1
        try:
            yield from pool(todo, 2 if alone else processes)  # with one process joblib would use this one
        except Exception as error:
            if stop_file.exists():
                break
            if alone:
                (job,) = todo
                del left[job.spec.identity]
                reason = f"its worker process died ({type(error).__name__}); was memory short?"
                storage.write_failure(job.results, job.spec, reason)
                yield Outcome(job, "failed", reason)
                continue
            begun = left.keys() & notes_in(jobs[0].results / storage.WORK, began)
            deaths.update(begun or left.keys())
            processes = max(2, processes // 2)
    yield from (Outcome(job, "stopped") for job in left.values())


def _believed(outcome: Outcome) -> Outcome:
    """An outcome as this process sees it: what a worker made of other code or samples is not done."""
    if outcome.ending != "done":
        return outcome
    try:
        if look(outcome.job).state == "done":
            return outcome
        reason = "its result is not of the code and samples that are here now: were they changed while it was going on?"
        return replace(outcome, ending="failed", message=f"{reason} Run it again")
    except BadInput as error:
        return replace(outcome, ending="failed", message=str(error))


_call: Path | None = None  # the stop file of the call for which this process worked last


def work_on(devices: Devices | None, job: Job, stop_file: Path, parent: int, wait: bool) -> Outcome:
    """`work` on one of the `devices`, once there is one to have. The outcome is of `job` as it was given.

    A worker outlives the call that it was made for: for another call, what was edited since is read again.
    """
    global _call
    if _call != stop_file and os.getpid() != parent:
        _call = stop_file
        refresh()
    if devices is None:
        return work(job, stop_file, parent, wait)
    leave_stops_to(parent)
    with devices.take(stop_file) as device:
        if device is None:
            return Outcome(job, "stopped")
        return replace(work(replace(job, device=device), stop_file, parent, wait), job=job)


_asked = False  # whether a signal has asked the runs of this process to stop


def asked_to_stop() -> bool:
    """Whether Ctrl-C or another signal has asked the runs that are going on to stop."""
    return _asked


@contextlib.contextmanager
def stop_on_ctrl_c(stop_file: Path) -> Iterator[None]:
    """While inside, Ctrl-C, SIGTERM and SIGHUP make `stop_file`, which every job looks for; a second one interrupts.

    SIGHUP, by which a terminal says that it is gone, stays ignored where it is, as under `nohup`.
    """
    global _asked
    _asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        global _asked
        if _asked:
            if number == getattr(signal, "SIGHUP", None):  # comes from the terminal and from the shell
                return
            raise KeyboardInterrupt
        _asked = True
        with contextlib.suppress(OSError):
            stop_file.parent.mkdir(parents=True, exist_ok=True)
            stop_file.touch()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, ask) for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):
            stop_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _watch(
    jobs: Sequence[Job], outcomes: dict[str, Outcome], on_progress: Callable[[dict[str, Note]], None]
) -> Iterator[None]:
    """Read the notes of running jobs every now and then, in a thread, and hand them on."""
    over, began = threading.Event(), time.time() - 1

    def watch() -> None:
        waiting = {job.spec.identity: job.results / storage.WORK for job in jobs}
        while not over.wait(WATCH_EVERY):
            notes = {}
            for folder in set(waiting.values()):
                for identity, note in notes_in(folder, began).items():
                    if identity in waiting and (identity not in outcomes or outcomes[identity].ending == "busy"):
                        notes[identity] = note
            on_progress(notes)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def notes_in(folder: Path, since: float = 0.0) -> dict[str, Note]:
    """The notes of progress in a `folder`, by identity; those older than `since` were left by killed runs.

    The folder is read once, however many runs are planned.
    """
    notes: dict[str, Note] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".progress"):
                with contextlib.suppress(OSError, ValueError):
                    if entry.stat().st_mtime >= since:
                        notes[entry.name.removesuffix(".progress")] = json.loads(storage.read_bytes(Path(entry.path)))
    return notes


def split_done(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """`jobs` that are stored already, and the others."""
    indices = {root: storage.Index(root) for root in {job.results for job in jobs}}
    done: list[Job] = []
    todo: list[Job] = []
    for job in jobs:
        (done if look(job, indices[job.results]).state == "done" else todo).append(job)
    for index in indices.values():
        index.save()
    for job in _left_behind(done):
        _tidy_alone(job)
    return done, todo


def _tidy_alone(job: Job) -> None:
    """Tidy up after a finished job, unless a process is making it again, or was, to keep its models."""
    kept = belonging(storage.work_path(job.results, job.spec, "checkpoint")) or {}
    if kept.get("models") and not job.keep_models:
        return
    with contextlib.suppress(Timeout, OSError), storage.run_lock(job.results, job.spec).acquire(timeout=0):
        tidy(job)


def _left_behind(done: Sequence[Job]) -> list[Job]:
    """Finished jobs that left something: a process that was killed its checkpoint, an earlier try its error."""
    work_files: set[str] = set()
    for root in {job.results for job in done}:
        with contextlib.suppress(OSError):
            work_files.update(os.listdir(root / storage.WORK))  # noqa: PTH208  one look for ten thousand jobs
    return [job for job in done if {f"{job.spec.identity}.{left}" for left in ("checkpoint", "error")} & work_files]
