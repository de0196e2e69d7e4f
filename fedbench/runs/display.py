"""How far the runs are: lines that change in a terminal or notebook, time-stamped lines in a log file.

The time that is left is the last thing to go when a terminal is narrow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from fedbench import storage
from fedbench.runs import pool
from fedbench.runs.job import Job, Note, Outcome
from fedbench.storage.spec import Spec

PLAIN_EVERY = 30.0  # seconds between two lines in a log file
NOTEBOOK_EVERY = 1.0  # seconds between two updates of a notebook's output
BAR = 20  # columns
CENTURY = 100 * 365.25 * 24 * 3600.0  # seconds


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`; more than a century is no duration that anybody waits for."""
    if not seconds < CENTURY:
        return "for ever"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(value: float | None) -> str:
    """A share as a percentage, `--` where there is none yet."""
    return "--" if value is None else f"{100 * value:.2f}%"


class Clock:
    """How long runs take: from what was seen of them, else of runs like them, else from what was known before.

    `rates` are seconds for a visit by identity, where stored runs tell them.
    """

    def __init__(self, jobs: Sequence[Job], processes: int, rates: Mapping[str, float]) -> None:
        self.jobs = {job.spec.identity: job for job in jobs}
        self.processes = max(1, processes)
        self.rates = dict(rates)
        self.first: dict[str, tuple[float, int]] = {}  # when a run was first seen, and its visits then
        self.visits: dict[str, int] = {}  # of running jobs
        self.seen: dict[str, float] = {}  # seconds for a visit of the running jobs
        self.alike: dict[tuple[str, ...], float] = {}  # the last one seen among runs that are alike

    def note(self, identity: str, visits: int, now: float) -> None:
        """A run has made so many visits, those to unseen clients included."""
        began, before = self.first.setdefault(identity, (now, visits))
        trained = self.jobs[identity].spec.visits
        if visits > trained > before:  # adapting goes at another pace than training
            began, before = self.first[identity] = (now, visits)
            self.seen.pop(identity, None)
        if visits > before:
            self.seen[identity] = self.alike[self._likeness(identity)] = (now - began) / (visits - before)
        self.visits[identity] = visits

    def end(self, identity: str) -> None:
        """Show that a run has ended, in whatever way."""
        for known in (self.jobs, self.visits):
            known.pop(identity, None)

    def _likeness(self, identity: str) -> tuple[str, ...]:
        spec = self.jobs[identity].spec
        return spec.dataset, spec.network, str(spec.clients), spec.method

    def _rate(self, identity: str) -> float | None:
        if identity in self.seen:
            return self.seen[identity]
        known = self.alike.get(self._likeness(identity), self.rates.get(identity))
        if known is None and (others := [*self.alike.values(), *self.rates.values()]):
            return sum(others) / len(others)
        return known

    def left(self, identity: str) -> float | None:
        """Seconds until a run is done; None where nothing is known."""
        rate = self._rate(identity)
        return None if rate is None else rate * max(0, self.jobs[identity].total_visits - self.visits.get(identity, 0))

    def all_left(self) -> float | None:
        """Seconds until all runs are done."""
        each = [self.left(identity) for identity in self.jobs]
        known = [left for left in each if left is not None]
        return None if len(known) < len(each) else max([sum(known) / self.processes, *known], default=0.0)


class Line:
    """One run: as much of it as the width allows. What stands first goes last, and the time left never."""

    def __init__(self, name: str, done: float, facts: Sequence[str], left: str) -> None:
        self.name, self.done, self.facts, self.left = name, done, facts, left

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text(options.max_width, options.ascii_only)

    def text(self, width: int, ascii_only: bool = False, bar: bool = True) -> Text:
        """The line in at most `width` columns, with or without a bar."""
        full, empty = ("#", ".") if ascii_only else ("━", "╌")
        line = Text(no_wrap=True, overflow="ellipsis")
        room = width - len(self.left) - 1
        line.append(self.name if len(self.name) <= room else self.name[: max(0, room - 2)] + "..")
        room -= len(line)
        shown = []
        for fact in self.facts:
            if len(fact) + 2 > room:
                break
            shown.append(fact)
            room -= len(fact) + 2
        if bar and room >= BAR + 1:
            filled = round(BAR * min(1.0, self.done))
            line.append(" ")
            line.append(full * filled, "green")
            line.append(empty * (BAR - filled), "dim")
        line.append(" " + ", ".join([*shown, self.left]) if self.left else " " + ", ".join(shown))
        return line


class Display:
    """Shows jobs while they run. Use as a context; `progress` and `outcome` are what `pool.run` calls."""

    def __init__(
        self,
        jobs: Sequence[Job],
        console: Console,
        processes: int = 1,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.jobs = {job.spec.identity: job for job in jobs}
        self.clock = Clock(jobs, processes, rates or {})
        self.console = console
        self.notebook = console.is_jupyter
        self.live = console.is_terminal and not console.is_dumb_terminal and not self.notebook
        self.names = _names(jobs)
        self.began = self.told = time.monotonic()
        self.lock = threading.RLock()  # notes come from another thread than outcomes
        self.notes: dict[str, Note] = {}
        self.started: set[str] = set()
        self.ended: set[str] = set()
        self.waiting = 0  # runs that were never started, once it was stopped
        self.stopping = False
        self.lines = Live(get_renderable=self._group, console=console, refresh_per_second=4, transient=True)
        self.output: Any = None  # of a notebook

    def __enter__(self) -> Display:
        if self.live and self.jobs:
            self.lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live and self.jobs:
            self.lines.stop()
        if self.waiting:
            self._say(f"{self.waiting} of {len(self.jobs)} runs were not started")
        if self.notebook and self.jobs:
            self._update_notebook()

    def progress(self, notes: dict[str, Note]) -> None:
        """Show the `notes` of all running jobs; a note that comes after its job's end is too late."""
        with self.lock:
            now = time.monotonic()
            self.notes = {identity: note for identity, note in notes.items() if identity in self.clock.jobs}
            self.started |= set(self.notes)
            for identity, note in self.notes.items():
                self.clock.note(identity, note["visits"], now)
            self._look_for_a_stop()
            if self.live or now - self.told < (NOTEBOOK_EVERY if self.notebook else PLAIN_EVERY):
                return
            self.told = now
            if self.notebook:
                self._update_notebook()
            elif self.jobs:
                running = ", ".join(f"{line.name} {line.facts[1]}" for line in map(self._line, self.notes))
                self._say(f"{self._total().text(10_000, bar=False).plain}; running: {running or 'starting'}")

    def _look_for_a_stop(self) -> None:
        if pool.asked_to_stop() and not self.stopping:
            self.stopping = True
            running = ", ".join(self.names[identity] for identity in self.notes)
            waits = f"{running} to write a checkpoint" if running else "runs that were about to start"
            self._say(f"stopping: waiting for {waits}; Ctrl-C again does not wait")

    def outcome(self, outcome: Outcome) -> None:
        """Show that a job has ended."""
        with self.lock:
            self._look_for_a_stop()
            identity, name = outcome.job.spec.identity, self.names[outcome.job.spec.identity]
            note = self.notes.pop(identity, None)
            self.clock.end(identity)
            self.ended.add(identity)
            of = f"({len(self.ended)}/{len(self.jobs)})"
            if outcome.ending == "failed":
                self._say(f"{name}: FAILED: {outcome.message} {of}", "red", always=True)
            elif outcome.ending == "done":
                self._say(f"{name}: done {of}")
            elif outcome.ending == "stopped":
                self.ended.discard(identity)
                if note or identity in self.started or _checkpoint_is_fresh(outcome.job, self.began):
                    at = f" at {note['visits']}/{outcome.job.total_visits} visits" if note else ""
                    self._say(f"{name}: stopped{at}, to be continued")
                else:
                    self.waiting += 1
            for warning in outcome.warnings:
                self._say(f"{name}: warning: {warning}", "yellow", always=True)

    def _say(self, text: str, style: str = "", always: bool = False) -> None:
        """A line that stays. A notebook's output shows what it needs without, unless it must be told in any case."""
        if self.live:
            self.console.print(Text(text, style=style), soft_wrap=True)
        elif not self.notebook:
            self.console.print(Text(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", style=style), soft_wrap=True)
        elif always or self.stopping:
            self.console.print(Text(text, style=style))

    def _line(self, identity: str) -> Line:
        job, note = self.jobs[identity], self.notes[identity]
        visits, left = note["visits"], self.clock.left(identity)
        words = f"{visits}/{job.total_visits} visits"
        if visits > job.spec.visits:
            words += " (adapting)"
        facts = [
            f"{visits / job.total_visits:.0%}",
            words,
            f"validation {percent(note['best'])}",
            f"round {note['round']}",
        ]
        return Line(self.names[identity], visits / job.total_visits, facts, _left(left))

    def _total(self) -> Line:
        everything = sum(job.total_visits for job in self.jobs.values())
        ended = sum(self.jobs[identity].total_visits for identity in self.ended)
        done = (ended + sum(self.clock.visits.values())) / max(1, everything)
        facts = [
            f"{done:.0%}",
            f"{len(self.ended)}/{len(self.jobs)} runs",
            f"{duration(time.monotonic() - self.began)} so far",
        ]
        if self.stopping:
            return Line("stopping", done, facts, "")
        left = self.clock.all_left()
        return Line("all", done, facts, "starting" if left is None and not self.started else _left(left))

    def _group(self) -> _Lines:
        with self.lock:
            room = max(1, self.console.height - 4)
            lines = [self._line(identity) for identity in list(self.notes)[:room]]
            more = len(self.notes) - len(lines)
            others = [Line(f"and {more} more runs", 0.0, [], "")] if more > 0 else []
            return _Lines([*lines, *others, self._total()])

    def _update_notebook(self) -> None:
        from IPython.display import display

        text = "\n".join(line.text(100).plain for line in self._group().lines)
        if self.output is None:
            self.output = display({"text/plain": text}, raw=True, display_id=True)
        else:
            self.output.update({"text/plain": text}, raw=True)


class _Lines:
    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines


def _left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"{duration(seconds)} left"


def _names(jobs: Sequence[Job]) -> dict[str, str]:
    """What runs are called: method and seed, the setting where there are several, hyperparameters where they differ."""
    settings = {(job.spec.dataset, job.spec.clients, job.spec.network, job.spec.partition) for job in jobs}
    several = len(settings) > 1
    values: dict[str, dict[str, set[str]]] = {}  # by method and hyperparameter
    for job in jobs:
        for name, value in job.spec.params.items():
            values.setdefault(job.spec.method, {}).setdefault(name, set()).add(str(value))

    def called(spec: Spec) -> str:
        differing = [f"{n}={v}" for n, v in spec.params.items() if len(values[spec.method][n]) > 1]
        words = f"{spec.method} ({', '.join(differing)})" if differing else spec.method
        return f"{words} seed {spec.seed}" + (f" on {spec.dataset}, {spec.clients} clients" if several else "")

    return {job.spec.identity: called(job.spec) for job in jobs}


def _checkpoint_is_fresh(job: Job, began: float) -> bool:
    """Whether a run has written a checkpoint since the monotonic time `began`."""
    try:
        written = storage.work_path(job.results, job.spec, "checkpoint").stat().st_mtime
    except OSError:
        return False
    return time.time() - written <= time.monotonic() - began
