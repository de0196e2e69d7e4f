"""Many jobs at once: joblib over processes, results as they arrive, a clean stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from joblib import Parallel, delayed

from fedbench import storage
from fedbench.runs.job import STOPPING, Job, Outcome, work
from fedbench.runs.state import look

WATCH_EVERY = 0.25  # seconds between two looks at the progress of the workers
Note = dict[str, Any]  # what a job says of its progress: round, visits, seconds, last, best


def run(
    jobs: Sequence[Job],
    processes: int,
    on_progress: Callable[[dict[str, Note]], None],
    on_outcome: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run `jobs` on so many `processes`; the outcomes, in the order of `jobs`.

    `on_progress` gets the notes of all running jobs by identity, a few times a second and from another thread;
    `on_outcome` every outcome as it arrives. The first Ctrl-C asks all jobs for a checkpoint and an end; the second is
    a KeyboardInterrupt. A failing job does not disturb the others.
    """
    if not jobs:
        return []
    # not named by the process number, which repeats, and is another's on another host
    stop_file = jobs[0].results / storage.WORK / f"stop-{uuid4().hex}"
    outcomes: dict[str, Outcome] = {}
    with _stop_on_ctrl_c(stop_file), _watch(jobs, outcomes, on_progress):
        for wait in (False, True):
            todo = [job for job in jobs if outcomes.get(job.spec.identity, Outcome(job, "busy")).ending == "busy"]
            for outcome in _parallel(todo, min(processes, max(1, len(todo))), stop_file, wait):
                outcomes[outcome.job.spec.identity] = outcome
                if outcome.ending != "busy" or wait:
                    on_outcome(outcome)
    return [outcomes[job.spec.identity] for job in jobs]


def _parallel(jobs: Sequence[Job], processes: int, stop_file: Path, wait: bool) -> Iterator[Outcome]:
    left = {job.spec.identity: job for job in _spread(jobs)}

    def pool(jobs: list[Job], processes: int) -> Iterator[Outcome]:
        tasks = (delayed(work)(job, stop_file, os.getpid(), wait) for job in jobs)
        for outcome in Parallel(n_jobs=processes, batch_size=1, return_as="generator_unordered")(tasks):
            del left[outcome.job.spec.identity]
            yield outcome

    try:
        yield from pool(list(left.values()), processes)
    except Exception:  # a worker that was killed takes the pool down with it: the rest goes on one by one
        for job in list(left.values()):
            try:
                yield from pool([job], 2)  # with one process joblib would use this one
            except Exception as error:
                if stop_file.exists():
                    yield Outcome(job, "stopped")
                    continue
                reason = f"its worker process died ({type(error).__name__}); was memory short?"
                storage.write_failure(job.results, job.spec, reason)
                yield Outcome(job, "failed", reason)


def _spread(jobs: Sequence[Job]) -> list[Job]:
    """`jobs` with CUDA devices dealt out in turn."""
    if not any(job.device == "cuda" for job in jobs):
        return list(jobs)
    import torch

    count = torch.cuda.device_count()
    return [replace(job, device=f"cuda:{i % count}") for i, job in enumerate(jobs)]


_asked = False  # whether a signal has asked the runs of this process to stop


def asked_to_stop() -> bool:
    """Whether Ctrl-C or another signal has asked the runs that are going on to stop."""
    return _asked


@contextlib.contextmanager
def _stop_on_ctrl_c(stop_file: Path) -> Iterator[None]:
    """While inside, Ctrl-C, SIGTERM and SIGHUP make `stop_file`, which every job looks for; a second one interrupts.

    SIGHUP, by which a terminal says that it is gone, stays ignored where it is, as under `nohup`.
    """
    global _asked
    _asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        global _asked
        if _asked:
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
        stop_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _watch(
    jobs: Sequence[Job], outcomes: dict[str, Outcome], on_progress: Callable[[dict[str, Note]], None]
) -> Iterator[None]:
    """Read the notes of running jobs every now and then, in a thread, and hand them on."""
    over, began = threading.Event(), time.time() - 1

    def watch() -> None:
        while not over.wait(WATCH_EVERY):
            notes = {}
            for job in jobs:
                identity = job.spec.identity
                if identity not in outcomes or outcomes[identity].ending == "busy":
                    with contextlib.suppress(OSError, ValueError):
                        path = storage.work_path(job.results, job.spec, "progress")
                        if path.stat().st_mtime >= began:  # else it was left by a run that was killed
                            notes[identity] = json.loads(path.read_text())
            on_progress(notes)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def split_done(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """`jobs` that are stored already, and the others."""
    states = [look(job).state == "done" for job in jobs]
    done = [job for job, is_done in zip(jobs, states, strict=True) if is_done]
    return done, [job for job, is_done in zip(jobs, states, strict=True) if not is_done]
