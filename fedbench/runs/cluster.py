"""Many jobs on the workers of a Dask scheduler: checked workers, plug-ins as text, one writer.

Dask queues, places by resources and moves the task of a dead worker. What is ours: a worker must have this source,
software, instruction set and data, or it is not used and a sentence says why; plug-in files travel as text; a worker
that sees the results folder works in it, as a local process does, and every other one works in a folder of its own
and sends its result here, where it is written. Nothing here is imported without `--scheduler`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

import fedbench
from fedbench import plugins, storage
from fedbench.dataset import data_root
from fedbench.errors import BadInput
from fedbench.runs.job import Job, Note, Outcome, Tell, tidy, work, write_note
from fedbench.runs.pool import WATCH_EVERY, stop_on_ctrl_c
from fedbench.runs.prepare import data_fingerprint
from fedbench.runs.provenance import instruction_set, software
from fedbench.runs.state import look
from fedbench.storage import Result

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT = 5.0  # seconds to reach a scheduler
LOOK_EVERY = 1.0  # seconds between two looks for new workers and for runs of other processes
TELL_EVERY = 1.0  # seconds between two notes of a run
PATIENCE = 5.0  # seconds that a job may wait on its worker while a newer worker has nothing to do
TURN = 0.005  # seconds between two steps of the submitting process
DEATHS = 3  # workers that a run may kill before it is given up
RESOURCE = "GPU"  # what a worker is started with that has one; a run takes it and gives it back
ONE_QUESTION = threading.Lock()  # two submitting processes may ask a worker at once
ONE_AT_A_TIME = threading.Lock()  # torch is set up for a run in the whole process


def _source() -> str:
    """A hash of the files of the package."""
    digest = hashlib.sha256()
    rooms = (fedbench, *(importlib.import_module(f"fedbench.{name}") for name in ("methods", "datasets")))
    for folder in (Path(room.__path__[0]) for room in rooms):
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


SOURCE = _source()  # as it was imported: a worker that lives on runs that, whatever the files say later


# ---------------------------------------------------------------- on a worker


@dataclass(frozen=True)
class Parcel:
    """A job on its way to a worker. Plain data: `files` are the plug-in files by path, as text."""

    job: Job
    files: Mapping[str, str]
    call: str  # names the submitting call
    shared: bool  # whether the worker sees the results folder


ended: set[str] = set()  # calls that asked their runs to stop
imported: dict[str, str] = {}  # the text of the plug-in files that this process imported, by path


def stop(call: str) -> None:
    """Ask the runs of `call` on this worker for a checkpoint and an end."""
    ended.add(call)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fedbench-worker-")  # goes when the process ends


def _local(where: str, files: Mapping[str, str]) -> str:
    """Where this process finds the plug-in `where`: the file itself if it is here and the same, else a copy."""
    if where not in files:
        return where
    text, path = files[where], Path(where)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text and imported.setdefault(where, text) == text:
            return where
    copy = Path(_scratch().name) / hashlib.sha256(text.encode()).hexdigest()[:16] / path.name
    if not copy.is_file():
        storage.write_bytes(copy, text.encode())
    return str(copy)


def _cut(partition: str) -> tuple[str, str]:
    """The file of a partition that is a plug-in, and what follows."""
    file, colon, settings = partition.partition(".py:")
    return (f"{file}.py", f":{settings}") if colon else (partition, "")


def _here(job: Job, files: Mapping[str, str], root: Path) -> Job:
    """`job` with the paths of this worker."""
    kind, settings = _cut(job.partition)
    return replace(
        job,
        method=_local(job.method, files),
        dataset=_local(job.dataset, files),
        partition=_local(kind, files) + settings,
        networks=tuple((name, _local(where, files)) for name, where in job.networks),
        data_root=root,
    )


@cache
def _data(dataset: str, given: Path) -> tuple[Path, str]:
    """The folder in which this worker has a data set, and the fingerprint of its samples. Raises BadInput."""
    cls = plugins.find_dataset(dataset).cls
    name = plugins.find_dataset(dataset).name
    roots = list(dict.fromkeys([given, data_root()]))
    root = next((root for root in roots if not cls.cached or (root / f"{name}.npz").is_file()), None)
    if root is None:
        raise BadInput(f"it has no {name}.npz in {' or '.join(map(str, roots))}: put it there")
    return root, data_fingerprint(dataset, root)


async def facts(token: str, datasets: Sequence[tuple[str, Path]], files: Mapping[str, str], dask_worker: Any) -> Any:
    """What must be known of a worker before it gets a job, as plain data."""

    def ask() -> dict[str, Any]:
        found: dict[str, str] = {}
        for dataset, root in datasets:
            try:
                with ONE_QUESTION:
                    found[dataset] = _data(_local(dataset, files), root)[1]
            except BadInput as error:
                found[dataset] = str(error)
        state = dask_worker.state
        with contextlib.suppress(OSError):
            return {
                "fedbench source": SOURCE,
                "source now": _source(),
                **software(),
                "instruction set": instruction_set(),
                "data": found,
                "shared": Path(token).is_file(),
                "cuda": state.total_resources.get(RESOURCE, 0) >= 1,
            }
        return {}

    return await asyncio.to_thread(ask)  # the worker goes on answering meanwhile


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


def perform(parcel: Parcel) -> tuple[Outcome, bytes, bytes]:
    """The job of a `parcel`, done by this worker: its outcome, and the files to write where the folder is not shared.

    These are the result and the models.
    """
    asked, given = _Asked(parcel.call), parcel.job
    told = 0.0

    def tell(note: Note) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic() if note else 0.0  # that a run is here says nothing of how far it is
            about = {**note, "identity": given.spec.identity, "worker": asked.worker.address}
            asked.worker.log_event(parcel.call, about)

    tell({})
    with ONE_AT_A_TIME:
        return _perform(parcel, asked, tell)


def _perform(parcel: Parcel, asked: _Asked, tell: Tell) -> tuple[Outcome, bytes, bytes]:
    given = parcel.job
    root, _ = _data(_local(given.dataset, parcel.files), given.data_root)
    job = _here(given, parcel.files, root)
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


# ---------------------------------------------------------------- in the submitting process


def run(
    jobs: Sequence[Job],
    scheduler: str,
    on_progress: Callable[[dict[str, Note]], None],
    on_outcome: Callable[[Outcome], None],
    *,
    at_most: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Outcome]:
    """Run `jobs` on the workers of `scheduler`, `at_most` so many at a time; the outcomes, in the order of `jobs`.

    Callbacks and Ctrl-C are as in `pool.run`; `say` gets sentences about workers. Raises BadInput where there is no
    such scheduler, where it ends, and where it has workers of which none can do any of the jobs.
    """
    if not jobs:
        return []
    call = uuid4().hex
    work_folder = jobs[0].results / storage.WORK
    stop_file, token = work_folder / f"stop-{call}", work_folder / f"shared-{call}"
    with connect(scheduler) as client:
        campaign = _Campaign(client, jobs, call, token, at_most or len(jobs), say)
        try:
            storage.write_bytes(token, b"")  # who sees it sees the results
            told = 0.0
            with stop_on_ctrl_c(stop_file):
                while len(campaign.outcomes) < len(jobs):
                    for outcome in campaign.step(stop_file.exists()):
                        campaign.outcomes[outcome.job.spec.identity] = outcome
                        on_outcome(outcome)
                    if time.monotonic() - told >= WATCH_EVERY:
                        told = time.monotonic()
                        on_progress(campaign.notes())
                    time.sleep(TURN)
        finally:
            token.unlink(missing_ok=True)
            campaign.close()
    return [campaign.outcomes[job.spec.identity] for job in jobs]


@contextlib.contextmanager
def connect(scheduler: str) -> Iterator[Client]:
    """A client of the scheduler at an address, or whose file is given. Raises BadInput where there is none."""
    try:
        from distributed import Client
    except ImportError:
        raise BadInput("--scheduler needs Dask, which is not installed: pip install 'fedbench[cluster]'") from None
    try:
        address = json.loads(Path(scheduler).read_text())["address"] if Path(scheduler).is_file() else scheduler
        if "://" not in address:
            raise BadInput(f"--scheduler {scheduler}: there is no such file, and an address is like tcp://HOST:8786")
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except BadInput:
        raise
    except Exception as error:  # of many kinds, Dask's own among them
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"no Dask scheduler answers at {scheduler}: {reason}; `fedbench cluster` tells how") from None
    try:
        yield client
    finally:
        client.close(timeout=5)


def count_workers(scheduler: str) -> int:
    """How many workers the scheduler has. Raises BadInput as `connect` does."""
    with connect(scheduler) as client:
        return len(client.nthreads())


@dataclass(frozen=True)
class _Worker:
    """A worker that was asked for its facts."""

    shared: bool = False
    used: bool = False
    cuda: bool = False  # whether it has a GPU to give
    lacks: Mapping[str, str] = field(default_factory=dict)  # data sets that it cannot be used for, and why

    def can(self, job: Job) -> bool:
        """Whether it can do `job`; one at a time, for torch is set up for a whole process."""
        return self.used and job.dataset not in self.lacks and (self.cuda or job.spec.device == "cpu")


@dataclass
class _Ticket:
    """A job that was submitted."""

    job: Job
    future: Future
    workers: frozenset[str]  # that may do it
    lock: FileLock | None  # held here for workers that do not see the folder
    since: float = field(default_factory=time.monotonic)
    place: str = ""  # the worker that began it
    note: Note = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        return self.lock is None


class _Campaign:
    """The submitting process' view of the workers and of the jobs; `step` is called again and again."""

    def __init__(
        self, client: Client, jobs: Sequence[Job], call: str, token: Path, at_most: int, say: Callable[[str], None]
    ) -> None:
        from distributed import as_completed

        self.client, self.call, self.at_most, self.say = client, call, at_most, say
        self.topics = (call, "all")  # what runs tell, and what becomes of workers
        self.outcomes: dict[str, Outcome] = {}
        self.todo: dict[tuple[str, str], deque[Job]] = {}  # by data set and kind of device
        for job in jobs:
            self.todo.setdefault((job.dataset, job.spec.device), deque()).append(job)
        self.busy: list[Job] = []  # that another process is at
        self.tickets: dict[str, _Ticket] = {}
        self.deaths: Counter[str] = Counter()
        self.workers: dict[str, _Worker] = {}
        self.files = _plugin_files(jobs)
        roots = {job.dataset: job.data_root for job in jobs}
        self.data = {dataset: data_fingerprint(dataset, root) for dataset, root in roots.items()}
        self.question: tuple[Any, ...] = (str(token), list(roots.items()), self.files)
        self.asker = ThreadPoolExecutor(1)  # a worker that does not answer holds nobody up
        self.asked: tuple[list[str], Any] | None = None
        self.looked, self.said, self.submitted = 0.0, "", 0
        self.ready = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self.events: SimpleQueue[dict[str, Any]] = SimpleQueue()
        for topic in self.topics:
            client.subscribe_topic(topic, lambda event: self.events.put(event[1]))

    def notes(self) -> dict[str, Note]:
        """How far the runs are, by identity."""
        return {ticket.job.spec.identity: ticket.note for ticket in self.tickets.values() if "visits" in ticket.note}

    def close(self) -> None:
        """Leave nothing behind on the scheduler, and no lock."""
        self.asker.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(Exception):
            self.client.cancel([ticket.future for ticket in self.tickets.values()], force=True)
            for topic in self.topics:  # else the scheduler tells the client of its own end, and logs that it could not
                self.client.unsubscribe_topic(topic)
        for ticket in self.tickets.values():
            if ticket.lock:
                ticket.lock.release()

    def step(self, stopping: bool) -> Iterator[Outcome]:
        """Look at what has happened, submit what can be; the outcomes of jobs that ended."""
        if self.client.status != "running":
            raise BadInput("the Dask scheduler ended or cannot be reached any more; the same command goes on from here")
        yield from self._hear()
        for future, result in self.ready.next_batch(block=False):
            if ticket := self.tickets.pop(future.key, None):
                yield from self._take(ticket, result, stopping)
        if time.monotonic() - self.looked >= LOOK_EVERY:
            self.looked = time.monotonic()
            self._look(stopping)
            if not stopping:
                self._mend()
                self._retry_busy()
                yield from self._hopeless()
        if stopping:
            waiting = [*self.busy, *(job for queue in self.todo.values() for job in queue)]
            self.busy, self.todo = [], {}
            yield from (Outcome(job, "stopped") for job in waiting)
        else:
            yield from self._submit()

    # ------------------------------------------------------------ workers

    def _look(self, stopping: bool) -> None:
        """Ask workers that are new for their facts, in a thread; when the call is stopping, tell all so."""
        alive = set(self.client.nthreads())
        self.workers = {address: worker for address, worker in self.workers.items() if address in alive}
        if self.asked and self.asked[1].done():
            addresses, answers = self.asked[0], self.asked[1]
            self.asked = None
            failed = answers.exception()
            for address in alive.intersection(addresses):
                answer = failed or answers.result().get(address, "it did not answer")
                self.workers[address] = self._welcome(address, answer)
        if stopping:
            self.asker.submit(self.client.run, stop, self.call, on_error="ignore")
        elif self.asked is None and (new := sorted(alive - self.workers.keys())):
            self.asked = new, self.asker.submit(self.client.run, facts, *self.question, workers=new, on_error="return")

    def _welcome(self, address: str, answer: Any) -> _Worker:
        """The worker that gave `answer`; a sentence where it is not used."""
        if not isinstance(answer, dict):
            return self._refused(address, f"fedbench cannot be asked there ({type(answer).__name__}: {answer})")
        ours = {"fedbench source": SOURCE, **software(), "instruction set": instruction_set()}
        theirs = {name: answer.get(name) for name in ours}
        if theirs["fedbench source"] != answer["source now"]:
            return self._refused(address, "its fedbench source has changed since it began; start it again")
        for name, value in ours.items():
            if theirs[name] != value:
                said = "is another one" if name == "fedbench source" else f"is {theirs[name]}, and here it is {value}"
                return self._refused(address, f"its {name} {said}, which can change the bits of a result")
        lacks = {}
        for dataset, fingerprint in self.data.items():
            found = answer["data"][dataset]
            if found != fingerprint:
                lacks[dataset] = found if " " in found else "its samples are others than here"
                self._say_once(f"worker {address} is not used for {Path(dataset).stem}: {lacks[dataset]}")
        return _Worker(answer["shared"], True, answer["cuda"], lacks)

    def _refused(self, address: str, why: str) -> _Worker:
        self._say_once(f"worker {address} is not used: {why}")
        return _Worker()

    def _able(self, job: Job, shared: bool) -> frozenset[str]:
        """The workers that can do `job`, of those that see the results folder or of the others."""
        return frozenset(a for a, worker in self.workers.items() if worker.shared == shared and worker.can(job))

    def _mend(self) -> None:
        """Take back what waits where nobody can do it any more, or while a worker that came later has nothing to do."""
        occupied = {ticket.place for ticket in self.tickets.values()}
        for key, ticket in list(self.tickets.items()):
            gone = not ticket.workers & self.workers.keys()
            # only where a run that begins at this very moment is stopped with a checkpoint, and does nothing twice
            waits = ticket.shared and not ticket.place and time.monotonic() - ticket.since > PATIENCE
            able = self._able(ticket.job, True) | self._able(ticket.job, False)
            if gone or (waits and able - ticket.workers - occupied):
                self.tickets.pop(key)
                self._back(ticket)

    def _back(self, ticket: _Ticket) -> None:
        """Put the job of a ticket in front of those to do."""
        ticket.future.cancel(force=True)
        if ticket.lock:
            ticket.lock.release()
        self.todo[ticket.job.dataset, ticket.job.spec.device].appendleft(ticket.job)

    def _hopeless(self) -> Iterator[Outcome]:
        """Where nothing runs and no worker can do what is left: say so once, or give these jobs up."""
        if self.tickets or self.asked or not any(self.todo.values()):
            return
        left = [queue for queue in self.todo.values() if queue]
        if any(self._able(queue[0], shared) for queue in left for shared in (True, False)):
            return
        job = left[0][0]
        what = f"no worker can do {job.spec.dataset} on {job.spec.device}"
        if not self.workers:
            self._say_once("there is no worker yet: `fedbench cluster` tells how to start some; waiting")
        elif job.spec.device == "cuda" and not any(worker.cuda for worker in self.workers.values()):
            raise BadInput(f"{what}: none was started with --resources {RESOURCE}=1; start some, or use --device cpu")
        elif self.submitted and not any(worker.used for worker in self.workers.values()):
            self._say_once(f"{what} now; waiting")
        elif not self.outcomes and not self.submitted:
            raise BadInput(f"{what}: {self.said}")
        else:
            for queue in left:
                while queue:
                    yield self._failed(queue.popleft(), f"{what}: {self.said}")

    def _say_once(self, text: str) -> None:
        if text != self.said:
            self.said = text
            self.say(text)

    # ------------------------------------------------------------ jobs

    def _submit(self) -> Iterator[Outcome]:
        """Give every free worker a job."""
        for queue in self.todo.values():
            for shared in (True, False):
                while queue and len(self.tickets) < self.at_most:
                    able = self._able(queue[0], shared)
                    if sum(bool(ticket.workers & able) for ticket in self.tickets.values()) >= len(able):
                        break
                    yield from self._send(queue.popleft(), shared, able)

    def _send(self, job: Job, shared: bool, able: frozenset[str]) -> Iterator[Outcome]:
        lock: FileLock | None = FileLock(storage.work_path(job.results, job.spec, "lock"))
        assert lock is not None
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.busy.append(job)
            return
        if look(job).state == "done":  # another process finished it a moment ago
            tidy(job)
            lock.release()
            yield Outcome(job, "done")
            return
        if shared:
            lock.release()  # the worker takes it
            lock = None
        self.submitted += 1
        resources = {RESOURCE: 1} if job.spec.device == "cuda" else None
        future = self.client.submit(
            perform,
            Parcel(job, self.files, self.call, shared),
            key=f"fedbench-{self.call}-{self.submitted}",
            workers=sorted(able),
            resources=resources,
            pure=False,
        )
        self.tickets[future.key] = _Ticket(job, future, able, lock)
        self.ready.add(future)

    def _retry_busy(self) -> None:
        for job in self.busy:
            self.todo[job.dataset, job.spec.device].append(job)
        self.busy = []

    def _hear(self) -> Iterator[Outcome]:
        """Notes of progress, and workers that went away."""
        with contextlib.suppress(Empty):
            while True:
                event = self.events.get_nowait()
                if "identity" in event:
                    self._note(event)
                elif event.get("action") == "remove-worker":
                    for key in event["processing-tasks"]:
                        if ticket := self.tickets.get(key):
                            yield from self._moved(ticket, event["worker"], bool(event.get("expected")))

    def _note(self, event: dict[str, Any]) -> None:
        identity, place = event.pop("identity"), event["worker"]
        for ticket in self.tickets.values():
            if ticket.job.spec.identity == identity:
                ticket.place, ticket.note = place, event  # a note that says nothing yet is of a run that begins
                if not ticket.shared and "visits" in event:
                    write_note(ticket.job, event)

    def _moved(self, ticket: _Ticket, worker: str, expected: bool) -> Iterator[Outcome]:
        """A worker ended with this job on it, and Dask moves the job to another, but not for ever."""
        job, ticket.place = ticket.job, ""
        name = f"{job.spec.method} seed {job.spec.seed}"
        self.deaths[job.spec.identity] += not expected
        if self.deaths[job.spec.identity] < DEATHS:
            how = "goes on from its checkpoint" if ticket.shared else "starts again"
            self.say(f"worker {worker} ended; {name} {how} on another")
            return
        self.tickets.pop(ticket.future.key)
        ticket.future.cancel(force=True)
        yield self._failed(job, f"{DEATHS} worker processes died while they were at it; was memory short?")
        if ticket.lock:
            ticket.lock.release()

    def _take(self, ticket: _Ticket, result: Any, stopping: bool) -> Iterator[Outcome]:
        """What came of a ticket."""
        job = ticket.job
        try:
            if ticket.future.status == "error":
                yield self._failed(job, f"{type(result[1]).__name__}: {result[1]}")
                return
            outcome, stored, models = (
                result if isinstance(result, tuple) else (Outcome(job, "stopped"), b"", b"")  # it was cancelled
            )
            if outcome.ending == "stopped" and not stopping:  # its worker closes
                self.todo[job.dataset, job.spec.device].appendleft(job)
            elif outcome.ending == "busy":
                self.busy.append(job)
            elif ticket.shared:
                yield outcome
            elif outcome.ending == "failed":
                yield self._failed(job, outcome.message, outcome.details)
            elif outcome.ending == "stopped":
                anew = "its worker does not see the results folder: it will start again"
                yield replace(outcome, warnings=(*outcome.warnings, anew))
            else:
                yield _store(outcome, stored, models)
        finally:
            if ticket.lock:
                ticket.lock.release()

    def _failed(self, job: Job, message: str, details: str = "") -> Outcome:
        storage.write_failure(job.results, job.spec, details or message)
        return Outcome(job, "failed", message, details)


def _store(outcome: Outcome, content: bytes, models: bytes) -> Outcome:
    """Write what a worker sent that does not see the results; it is checked as any file is."""
    job = outcome.job
    try:
        result = Result.model_validate_json(content)
        if result.spec != job.spec or storage.digest(result.model_dump(mode="json")) != result.digest:
            raise ValueError("it is of another run, or was changed on the way")
        if models:
            storage.write_bytes(storage.models_path(job.results, job.spec), models)
        storage.write(job.results, result)
        tidy(job)
    except (OSError, ValueError) as error:
        message = f"the result that its worker sent cannot be stored: {error}"
        storage.write_failure(job.results, job.spec, message)
        return Outcome(job, "failed", message)
    return outcome


def _plugin_files(jobs: Sequence[Job]) -> dict[str, str]:
    """The plug-in files of `jobs`, as text."""
    found: set[str] = set()
    for method, dataset, partition, networks in {(j.method, j.dataset, j.partition, j.networks) for j in jobs}:
        found |= {method, dataset, _cut(partition)[0], *(where for _, where in networks)}
    return {where: Path(where).read_text() for where in found if where.endswith(".py")}
