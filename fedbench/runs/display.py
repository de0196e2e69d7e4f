"""How far the runs are: bars in a terminal or notebook, plain lines in a log file."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from fedbench.runs.job import Job, Note, Outcome

PLAIN_EVERY = 30.0  # seconds between two plain lines about all running jobs


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(value: float | None) -> str:
    """A share as a percentage, `--` where there is none yet."""
    return "--" if value is None else f"{100 * value:.2f}%"


class Display:
    """Shows jobs while they run. Use as a context; `progress` and `outcome` are what `pool.run` calls."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.jobs = {job.spec.identity: job for job in jobs}
        self.console = console
        self.live = console.is_terminal or console.is_jupyter
        self.began = self.told = time.monotonic()
        self.first: dict[str, tuple[float, float]] = {}  # when a run was first seen, and its visits then
        self.before = 0  # visits of all runs when they were first seen
        self.lock = threading.Lock()  # notes come from another thread than outcomes
        self.notes: dict[str, Note] = {}
        self.ended: set[str] = set()
        self.finished_visits = 0
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.visits = sum(job.spec.visits for job in jobs)
        self.total = self.bars.add_task("all runs", total=self.visits, facts="")

    def __enter__(self) -> Display:
        if self.live:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bars.stop()

    def _name(self, job: Job) -> str:
        return f"{job.spec.method} seed {job.spec.seed}"

    def _facts(self, identity: str, note: Note) -> str:
        total = self.jobs[identity].spec.visits
        now = time.monotonic()
        if identity not in self.first:
            self.first[identity] = now, note["visits"]
            self.before += note["visits"]
        began, before = self.first[identity]
        done = note["visits"] - before
        left = duration((now - began) / done * (total - note["visits"])) if done else "-:--"
        return (
            f"round {note['round']}, {note['visits']}/{total} visits, validation {percent(note['best'])}, {left} left"
        )

    def progress(self, notes: dict[str, Note]) -> None:
        """Show the `notes` of all running jobs; a note that comes after its job's end is too late."""
        with self.lock:
            self._progress(notes)

    def _progress(self, notes: dict[str, Note]) -> None:
        self.notes = notes = {identity: note for identity, note in notes.items() if identity not in self.ended}
        if self.live:
            for identity, note in notes.items():
                if identity not in self.tasks:
                    job = self.jobs[identity]
                    self.tasks[identity] = self.bars.add_task(self._name(job), total=job.spec.visits, facts="")
                self.bars.update(self.tasks[identity], completed=note["visits"], facts=self._facts(identity, note))
            self._update_total()
        elif time.monotonic() - self.told >= PLAIN_EVERY:
            self.told = time.monotonic()
            for identity, note in notes.items():
                self.console.print(f"{self._name(self.jobs[identity])}: {self._facts(identity, note)}", highlight=False)

    def _update_total(self) -> None:
        visits = self.visits
        running = sum(note["visits"] for note in self.notes.values())
        done = self.finished_visits + running
        fresh = done - self.before
        spent = time.monotonic() - self.began
        left = f", about {duration(spent / fresh * (visits - done))} left" if fresh > 0 and done < visits else ""
        self.bars.update(self.total, completed=done, facts=f"{len(self.ended)}/{len(self.jobs)} runs{left}")

    def outcome(self, outcome: Outcome) -> None:
        """Show that a job has ended."""
        with self.lock:
            self._outcome(outcome)

    def _outcome(self, outcome: Outcome) -> None:
        identity = outcome.job.spec.identity
        self.ended.add(identity)
        self.finished_visits += outcome.job.spec.visits if outcome.ending == "done" else 0
        if identity in self.tasks:
            self.bars.remove_task(self.tasks.pop(identity))
        self.notes.pop(identity, None)
        self._update_total()
        words = {
            "done": "done",
            "stopped": "stopped, to be continued",
            "failed": f"FAILED: {outcome.message}",
            "busy": "",
        }
        line = f"{self._name(outcome.job)}: {words[outcome.ending]} ({len(self.ended)}/{len(self.jobs)})"
        self.console.print(Text(line, style="red" if outcome.ending == "failed" else ""), highlight=False)
        for warning in outcome.warnings:
            self.console.print(Text(f"{self._name(outcome.job)}: warning: {warning}", style="yellow"))
