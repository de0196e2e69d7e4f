"""Progress: what is shown of runs, in every kind of terminal, and how long they will take."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedbench.runs import display as module
from fedbench.runs import pool
from fedbench.runs.comparison import Comparison
from fedbench.runs.console import fitting, new_console
from fedbench.runs.display import Clock, Display, Line
from fedbench.runs.job import Job, Outcome


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return 1e9 + self.seconds

    def strftime(self, form: str) -> str:
        return "STAMP"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(pool, "_asked", False)
    return clock


def _jobs(tmp_path: Path, seeds: int = 2, **options: Any) -> list[Job]:
    return Comparison(methods="fedavg,local", seeds=seeds, visits=100, results=tmp_path, device="cpu", **options).jobs()


def _note(visits: int, best: float | None = 0.5) -> dict[str, Any]:
    return {"round": visits // 5, "visits": visits, "seconds": 1.0, "last": best, "best": best}


def _log(**options: Any) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200, **options), text


def test_time_left_from_the_first_visits_on(tmp_path: Path) -> None:
    """Two at a time, four runs of 100 visits; 10 visits in 5 s are 0.5 s a visit: 45 s for the rest of this run.

    The other three, like it or not, are taken to go as fast: 50 s each; together (45 + 150) / 2.
    """
    jobs = _jobs(tmp_path)
    first = jobs[0].spec.identity
    clock = Clock(jobs, 2, {})
    clock.note(first, 0, 0.0)
    assert clock.all_left() is None
    clock.note(first, 10, 5.0)
    assert clock.left(first) == pytest.approx(45)
    assert clock.all_left() == pytest.approx((45 + 3 * 50) / 2)
    for _ in range(3):
        clock.end(jobs.pop().spec.identity)
    assert clock.all_left() == pytest.approx(45)  # one run alone is not spread over two processes


def test_stored_runs_and_runs_that_were_seen_tell_of_others(tmp_path: Path) -> None:
    jobs = _jobs(tmp_path)
    fedavg, local, more_fedavg, more_local = (job.spec.identity for job in jobs)
    clock = Clock(jobs, 1, {local: 2.0, more_local: 2.0})
    clock.note(fedavg, 20, 0.0)  # it goes on from a checkpoint
    clock.note(fedavg, 40, 10.0)
    assert clock.left(fedavg) == pytest.approx(30)
    assert clock.left(more_fedavg) == pytest.approx(50)
    assert clock.left(local) == pytest.approx(200)


def test_adaptation_of_unseen_clients_counts_and_has_its_own_pace(tmp_path: Path) -> None:
    """100 visits of training at 1 s, then 3 clients with 20 visits each: after 10 of the 60 at 0.1 s, 5 s are left."""
    (job, *_) = jobs = _jobs(tmp_path, novel_clients=3, adapt_visits=20)
    clock = Clock(jobs[:1], 1, {})
    clock.note(job.spec.identity, 0, 0.0)
    clock.note(job.spec.identity, 90, 90.0)
    assert clock.left(job.spec.identity) == pytest.approx(70)
    clock.note(job.spec.identity, 101, 101.0)
    clock.note(job.spec.identity, 110, 101.9)
    assert clock.left(job.spec.identity) == pytest.approx(5)


@pytest.mark.parametrize("width", range(20, 121))
def test_the_time_left_is_the_last_thing_to_go(width: int) -> None:
    facts = ["12%", "120/1000 visits", "validation 45.67%", "round 24"]
    text = Line("pfedhn seed 42", 0.12, facts, "1:23 left").text(width).plain
    assert len(text) <= width
    assert text.endswith("1:23 left")
    shown = [fact in text for fact in facts]
    assert shown == sorted(shown, reverse=True)  # what stands first goes last
    assert ("━" in text) == (width >= 90) or 60 < width < 110


def test_a_log_file_has_time_stamps_and_a_line_every_half_minute(tmp_path: Path, now: Now) -> None:
    """Also where nothing has begun yet; after ten minutes there are 20 lines."""
    console, text = _log()
    jobs = _jobs(tmp_path)
    with Display(jobs, console, 2) as display:
        for second in range(601):
            now.seconds = float(second)
            display.progress({} if second < 60 else {jobs[0].spec.identity: _note(second // 10)})
        display.outcome(Outcome(jobs[0], "done"))
        display.outcome(Outcome(jobs[1], "failed", "no luck"))
    lines = text.getvalue().splitlines()
    assert len(lines) == 22
    assert all(line.startswith("STAMP ") for line in lines)
    assert "running: starting" in lines[0]
    assert re.search(r"0/4 runs, 10:00 so far, [0-9:]+ left; running: fedavg seed 42 60/100 visits", lines[19])
    assert lines[20:] == ["STAMP fedavg seed 42: done (1/4)", "STAMP local seed 42: FAILED: no luck (2/4)"]


def test_a_dumb_terminal_is_a_log_file(tmp_path: Path, now: Now) -> None:
    console, text = _log(force_terminal=True, _environ={"TERM": "dumb"})
    jobs = _jobs(tmp_path)
    with Display(jobs, console) as display:
        now.seconds = 31.0
        display.progress({jobs[0].spec.identity: _note(5)})
    assert text.getvalue().startswith("STAMP all 1%, 0/4 runs, 0:31 so far")
    assert "\x1b" not in text.getvalue()


def test_a_stop_says_what_it_waits_for_and_what_never_began(
    tmp_path: Path, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, text = _log()
    jobs = _jobs(tmp_path)
    with Display(jobs, console, 1) as display:
        display.progress({jobs[0].spec.identity: _note(5)})
        monkeypatch.setattr(pool, "_asked", True)
        display.progress({jobs[0].spec.identity: _note(10)})
        display.progress({jobs[0].spec.identity: _note(10)})
        for job in jobs:
            display.outcome(Outcome(job, "stopped"))
    assert [line.removeprefix("STAMP ") for line in text.getvalue().splitlines()] == [
        "stopping: waiting for fedavg seed 42 to write a checkpoint; Ctrl-C again does not wait",
        "fedavg seed 42: stopped at 10/100 visits, to be continued",
        "3 of 4 runs were not started",
    ]


def test_more_runs_than_lines_leave_room_for_the_total(tmp_path: Path, now: Now) -> None:
    console, _ = _log(height=10)
    jobs = _jobs(tmp_path, seeds=20)
    display = Display(jobs, console, 40)
    display.progress({job.spec.identity: _note(5) for job in jobs})
    shown = [line.text(80).plain for line in display._group().lines]
    assert len(shown) == 8
    assert "and 34 more runs" in shown[-2]
    assert shown[-1].startswith("all ")


def test_runs_of_several_settings_are_told_apart(tmp_path: Path) -> None:
    jobs = [*_jobs(tmp_path), *_jobs(tmp_path, clients=5)]
    names = module._names(jobs)
    assert len(set(names.values())) == len(jobs)
    assert names[jobs[0].spec.identity] == "fedavg seed 42 on digits, 10 clients"


def test_runs_that_differ_in_hyperparameters_are_told_apart(tmp_path: Path) -> None:
    """As the trials of a search are."""
    jobs = [job for lr in (0.1, 0.01) for job in _jobs(tmp_path, settings={"all.local.lr": lr})]
    names = module._names(jobs)
    assert len(set(names.values())) == len(jobs)
    assert names[jobs[0].spec.identity] == "fedavg (local.lr=0.1) seed 42"


@pytest.mark.parametrize("width", range(20, 121, 5))
def test_a_table_loses_columns_and_never_letters(width: int) -> None:
    table = Table(caption="c")
    heads = ["method", "client mean", "pooled", "worst decile", "MB", "seeds"]
    for head in heads:
        table.add_column(head)
    table.add_row("FedAvg", "12.34 ± 5.67", "23.45 ± 6.78", "34.56 ± 7.89", "123", "3")
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(fitting(table, console, ("method", "client mean", "seeds")))
    text = console.export_text()
    shown = [str(column.header) for column in table.columns]
    assert "FedAvg" in text
    assert "…" not in text
    assert ("12.34 ± 5.67" in text) == ("client mean" in shown)
    left_out = str(table.caption).partition("Not shown, for want of width: ")[2]
    assert sorted([*shown, *filter(None, left_out.split(", "))]) == sorted(heads)
    assert shown[0] == "method"


def test_an_ascii_terminal_shows_an_aligned_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that are styled texts too, as in reports."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    table = Table(title="t")
    table.add_column("a")
    table.add_column("b")
    table.add_row(Text("12.34 ± 5.67", style="bold"), "1.00 ± 2.00")
    table.add_row(Text("12.34"), "é…")
    new_console().print(table)
    stream.flush()
    lines = stream.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    assert "12.34 +- 5.67" in "".join(lines)
    assert "1.00 +- 2.00" in "".join(lines)
    assert len({len(line) for line in lines if "|" in line}) == 1
