"""What the submitting process knows of the workers of a Dask scheduler: who may be used, for what, and why not.

A worker must have this source, software, instruction set, plug-ins and data; one that differs is not used, and a
sentence says why. Each is asked in a thread of its own, so that one that does not answer holds nobody up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.plugins import said
from fedbench.runs import on_worker, plugin_files
from fedbench.runs.job import Job
from fedbench.runs.on_worker import Needs
from fedbench.runs.scheduler import apart

if TYPE_CHECKING:
    from distributed import Client

SLOW = 60.0  # seconds after which a worker that has not answered is spoken of


@dataclass(frozen=True)
class Worker:
    """A worker that was asked for its facts."""

    shared: bool = False  # whether it sees the results folder
    used: bool = False
    cuda: bool = False  # whether it has a GPU to give
    lacks: Mapping[str, str] = field(default_factory=dict)  # plug-ins and data sets it cannot be used for, and why

    def can(self, job: Job) -> bool:
        """Whether it can do `job`; one at a time, for torch is set up for a whole process."""
        lacks = any(where in self.lacks for _, where in plugin_files.parts(job))
        return self.used and not lacks and (self.cuda or job.spec.device == "cpu")


class Roster:
    """The workers there are; `look` is called again and again."""

    def __init__(self, client: Client, token: Path, needs: Needs, say: Callable[[str], None]) -> None:
        self.client, self.token, self.needs, self.say = client, token, needs, say
        self.alive: set[str] = set()
        self.workers: dict[str, Worker] = {}
        self.asked: dict[str, tuple[float, Future[Any]]] = {}
        self.said: dict[str, None] = {}

    @property
    def last_said(self) -> str:
        """The sentence that was said last."""
        return next(reversed(self.said), "")

    def say_once(self, text: str) -> None:
        """Say a sentence, unless it was said before."""
        if text not in self.said:
            self.said[text] = None
            self.say(text)

    def look(self) -> None:
        """Hear what workers answered, and ask those that are new for their facts."""
        self.alive = set(self.client.nthreads())
        self.workers = {address: worker for address, worker in self.workers.items() if address in self.alive}
        self.asked = {address: question for address, question in self.asked.items() if address in self.alive}
        for address, (since, future) in list(self.asked.items()):
            if future.done():
                del self.asked[address]
                self.workers[address] = self._welcome(address, future.exception() or future.result()[address])
            elif time.monotonic() - since > SLOW:
                self.say_once(f"worker {address} is not used yet: it has not answered for {SLOW:.0f} seconds")
        for address in self.alive - self.workers.keys() - self.asked.keys():
            question = apart(self.client.run, on_worker.facts, str(self.token), self.needs, workers=[address])
            self.asked[address] = time.monotonic(), question

    def tell_to_stop(self, call: str) -> None:
        """Ask the runs of `call` on all workers for an end."""
        apart(self.client.run, on_worker.stop, call, on_error="ignore")

    def forget(self, address: str) -> None:
        """Ask this worker again: it is not what it was."""
        self.workers.pop(address, None)

    def able(self, job: Job, shared: bool) -> frozenset[str]:
        """The workers that can do `job`, of those that see the results folder or of the others."""
        return frozenset(a for a, worker in self.workers.items() if worker.shared == shared and worker.can(job))

    def _welcome(self, address: str, answer: dict[str, Any] | BaseException) -> Worker:
        """The worker that gave `answer`; a sentence where it is not used."""
        if isinstance(answer, BaseException):
            return self._refused(address, f"fedbench cannot be asked there ({said(answer)})")
        theirs, ours = answer["kind"], on_worker.own_kind()
        if theirs["fedbench source"] != answer["source now"]:
            return self._refused(address, "its fedbench source has changed since it began; start it again")
        for name, value in ours.items():
            if theirs.get(name) != value:
                other = "another one" if name == "fedbench source" else f"{theirs.get(name)}, and here it is {value}"
                return self._refused(address, f"its {name} is {other}, which can change the bits of a result")
        for where, why in answer["lacks"].items():
            self.say_once(f"worker {address} is not used for {Path(where).stem}: {why}")
        return Worker(answer["shared"], True, answer["cuda"], answer["lacks"])

    def _refused(self, address: str, why: str) -> Worker:
        self.say_once(f"worker {address} is not used: {why}")
        return Worker()
