"""Many jobs on the workers of a Dask scheduler, in the submitting process, which alone writes results.

Dask queues, places by resources and moves the task of a dead worker. What is ours: workers are looked at before they
are used (`roster`), plug-in files travel as text (`plugin_files`), and a worker that does not see the results folder
sends its result here (`on_worker`), where it is checked and written. Nothing of this is imported without `--scheduler`.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs import plugin_files
from fedbench.runs.job import Job, Note, Outcome, tidy, write_note
from fedbench.runs.on_worker import RESOURCE, Made, Parcel, needed, perform
from fedbench.runs.pool import WATCH_EVERY, stop_on_ctrl_c
from fedbench.runs.roster import Roster
from fedbench.runs.scheduler import connect
from fedbench.runs.state import is_current, look
from fedbench.storage import Result

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_EVERY = 1.0  # seconds between two looks for new workers and for runs of other processes
PATIENCE = 5.0  # seconds that a job may wait on its worker while a newer worker has nothing to do
TURN = 0.005  # seconds between two steps
DEATHS = 3  # workers that a run may kill before it is given up


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
    wanted = {job.spec.identity: job for job in jobs}
    with connect(scheduler) as client:
        campaign = _Campaign(client, list(wanted.values()), call, token, at_most or len(jobs), say)
        try:
            storage.write_bytes(token, b"")  # who sees it sees the results
            told = 0.0
            with stop_on_ctrl_c(stop_file):
                while len(campaign.outcomes) < len(wanted):
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
    """The jobs: those to do, those submitted, those that ended; `step` is called again and again."""

    def __init__(
        self, client: Client, jobs: Sequence[Job], call: str, token: Path, at_most: int, say: Callable[[str], None]
    ) -> None:
        from distributed import as_completed

        self.client, self.call, self.at_most, self.say = client, call, at_most, say
        self.outcomes: dict[str, Outcome] = {}
        self.order = {job.spec.identity: place for place, job in enumerate(jobs)}
        self.todo: dict[object, deque[Job]] = {}  # together those that the same workers can do
        for job in jobs:
            self._queue(job).append(job)
        self.busy: list[Job] = []  # that another process is at
        self.tickets: dict[str, _Ticket] = {}
        self.deaths: Counter[str] = Counter()
        self.needs = needed(jobs)
        self.roster = Roster(client, token, self.needs, say)
        self.looked, self.submitted = 0.0, 0
        self.ready = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self.told, self.moved = SimpleQueue[dict[str, Any]](), SimpleQueue[Any]()
        self.topics = {call: self.told, "all": self.moved}  # what runs tell, and what becomes of workers
        for topic, events in self.topics.items():
            client.subscribe_topic(topic, lambda event, events=events: events.put(event[1]))

    def _queue(self, job: Job) -> deque[Job]:
        return self.todo.setdefault((frozenset(plugin_files.parts(job)), job.spec.device), deque())

    def notes(self) -> dict[str, Note]:
        """How far the runs are, by identity."""
        return {ticket.job.spec.identity: ticket.note for ticket in self.tickets.values() if "visits" in ticket.note}

    def close(self) -> None:
        """Leave nothing behind on the scheduler, and no lock."""
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
        yield from self._hear(stopping)
        for future, result in self.ready.next_batch(block=False):
            if ticket := self.tickets.pop(future.key, None):
                yield from self._take(ticket, result, stopping)
        if time.monotonic() - self.looked >= LOOK_EVERY:
            self.looked = time.monotonic()
            self.roster.look()
            if stopping:
                self.roster.tell_to_stop(self.call)
            self._mend(stopping)
            while self.busy:
                job = self.busy.pop()
                self._queue(job).append(job)
            if not stopping:
                yield from self._hopeless()
        if not stopping:
            yield from self._submit()
        else:
            for queue in self.todo.values():
                while queue:
                    yield Outcome(queue.popleft(), "stopped")

    # ------------------------------------------------------------ what goes out

    def _submit(self) -> Iterator[Outcome]:
        """Give every free worker a job, those that were planned first before others."""
        places = sum(worker.used for worker in self.roster.workers.values())
        while len(self.tickets) < min(self.at_most, places):
            queues = sorted(filter(None, self.todo.values()), key=lambda queue: self.order[queue[0].spec.identity])
            for queue, shared in ((queue, shared) for queue in queues for shared in (True, False)):
                able = self.roster.able(queue[0], shared)
                if sum(bool(ticket.workers & able) for ticket in self.tickets.values()) < len(able):
                    yield from self._send(queue.popleft(), shared, able)
                    break
            else:
                return

    def _send(self, job: Job, shared: bool, able: frozenset[str]) -> Iterator[Outcome]:
        lock: FileLock | None = storage.run_lock(job.results, job.spec)
        assert lock is not None
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.busy.append(job)
            return
        except OSError as error:
            yield self._failed(job, f"its lock cannot be taken in {job.results / storage.WORK}: {error.strerror}")
            return
        if look(job).state == "done":  # another process finished it a moment ago
            tidy(job)
            lock.release()
            yield Outcome(job, "done")
            return
        if shared:
            lock.release()  # the worker takes it
            lock = None
        elif job.keep_state:
            self.roster.say_once("workers that do not see the results folder keep no state for longer runs")
        self.submitted += 1
        future = self.client.submit(
            perform,
            Parcel(job, self.needs.of(job), self.call, shared),
            key=f"fedbench-{self.call}-{self.submitted}",
            workers=sorted(able),
            resources={RESOURCE: 1} if job.spec.device == "cuda" else None,
            pure=False,
        )
        self.tickets[future.key] = _Ticket(job, future, able, lock)
        self.ready.add(future)

    def _mend(self, stopping: bool) -> None:
        """Take back what nobody begins: its workers are gone, it is to end, or a later worker has nothing to do.

        Where it begins at this very moment, the run is wanted by nobody, and ends with a checkpoint.
        """
        occupied = {ticket.place for ticket in self.tickets.values()}
        for key, ticket in list(self.tickets.items()):
            gone = not ticket.workers & self.roster.alive
            waits = not ticket.place and (stopping or time.monotonic() - ticket.since > PATIENCE)
            able = self.roster.able(ticket.job, True) | self.roster.able(ticket.job, False)
            if gone or (waits and (stopping or able - ticket.workers - occupied)):
                self._give_up(key)
                self._queue(ticket.job).appendleft(ticket.job)

    def _give_up(self, key: str) -> None:
        """Have a ticket no more."""
        ticket = self.tickets.pop(key)
        ticket.future.cancel(force=True)
        if ticket.lock:
            ticket.lock.release()

    def _hopeless(self) -> Iterator[Outcome]:
        """Where nothing runs and no worker can do what is left: say so once, or give these jobs up."""
        if self.tickets or self.roster.asked or not any(self.todo.values()):
            return
        left, workers = [queue for queue in self.todo.values() if queue], self.roster.workers.values()
        if any(self.roster.able(queue[0], shared) for queue in left for shared in (True, False)):
            return
        job = left[0][0]
        what = f"no worker can do {job.spec.dataset} on {job.spec.device}"
        if not workers:
            self.roster.say_once("there is no worker yet: `fedbench cluster` tells how to start some; waiting")
        elif job.spec.device == "cuda" and not any(worker.cuda for worker in workers):
            missing = f"{what}: none was started with --resources {RESOURCE}=1; start some"
            if not self.submitted:
                raise BadInput(f"{missing}, or use --device cpu")
            self.roster.say_once(f"{missing}; waiting")
        elif self.submitted and not any(worker.used for worker in workers):
            self.roster.say_once(f"{what} now; waiting")
        elif not self.outcomes and not self.submitted:
            raise BadInput(f"{what}: {self.roster.last_said}")
        else:
            for queue in left:
                while queue:
                    yield self._failed(queue.popleft(), f"{what}: {self.roster.last_said}")

    # ------------------------------------------------------------ what comes back

    def _hear(self, stopping: bool) -> Iterator[Outcome]:
        """Notes of progress, and workers that went away."""
        with contextlib.suppress(Empty):
            while True:
                self._note(self.told.get_nowait())
        with contextlib.suppress(Empty):
            while True:
                event = self.moved.get_nowait()  # whatever anybody tells all
                if isinstance(event, dict) and event.get("action") == "remove-worker":
                    for key in set(event["processing-tasks"]) & self.tickets.keys():
                        yield from self._moved(key, event["worker"], bool(event.get("expected")), stopping)

    def _note(self, event: dict[str, Any]) -> None:
        identity, place = event.pop("identity"), event["worker"]
        for ticket in self.tickets.values():
            if ticket.job.spec.identity == identity:
                ticket.place, ticket.note = place, event  # a note that says nothing yet is of a run that begins
                if not ticket.shared and "visits" in event:
                    write_note(ticket.job, event)

    def _moved(self, key: str, worker: str, expected: bool, stopping: bool) -> Iterator[Outcome]:
        """A worker ended with this job on it, and Dask moves the job to another, but not for ever."""
        ticket = self.tickets[key]
        job, ticket.place = ticket.job, ""
        self.deaths[job.spec.identity] += not expected
        if self.deaths[job.spec.identity] >= DEATHS:
            self._give_up(key)
            yield self._failed(job, f"{DEATHS} worker processes died while they were at it; was memory short?")
        elif not stopping:
            how = "goes on from its checkpoint" if ticket.shared else "starts again"
            self.say(f"worker {worker} ended; {job.spec.method} seed {job.spec.seed} {how} on another")

    def _take(self, ticket: _Ticket, result: Any, stopping: bool) -> Iterator[Outcome]:
        """What came of a ticket."""
        job, cancelled = ticket.job, (Outcome(ticket.job, "stopped"), b"", b"")
        try:
            if ticket.future.status == "error":
                yield self._failed(job, f"{type(result[1]).__name__}: {result[1]}")
                return
            if result is None:  # its worker has other samples than a while ago, or other plug-ins
                self.roster.forget(ticket.place)
            made: Made = result if isinstance(result, tuple) else cancelled
            outcome, stored, models = made
            if outcome.ending == "stopped" and not stopping:  # its worker closes
                self._queue(job).appendleft(job)
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
                yield _stored(outcome, stored, models)
        finally:
            if ticket.lock:
                ticket.lock.release()

    def _failed(self, job: Job, message: str, details: str = "") -> Outcome:
        storage.write_failure(job.results, job.spec, details or message)
        return Outcome(job, "failed", message, details)


def _stored(outcome: Outcome, content: bytes, models: bytes) -> Outcome:
    """Write what a worker sent that does not see the results; it is checked as any file is."""
    job = outcome.job
    try:
        result = Result.model_validate_json(content)
        if result.spec != job.spec or storage.digest(result.model_dump(mode="json")) != result.digest:
            raise ValueError("it is of another run, or was changed on the way")
        if not is_current(result, job):
            raise ValueError("it was made by other code, or of other samples, than are here now")
        if models:
            storage.write_bytes(storage.models_path(job.results, job.spec), models)
        storage.write(job.results, result)
        tidy(job)
    except (OSError, ValueError) as error:
        message = f"the result that its worker sent cannot be stored: {error}"
        storage.write_failure(job.results, job.spec, message)
        return Outcome(job, "failed", message)
    return outcome
