"""How a job ends: stopped, diverged, without room, beside what others left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from small_runs import (
    a_job,
    done,
    full_disk,
    linux,
    work,
)

from fedbench import storage
from fedbench.runs import job, pool
from fedbench.training import adapt


def test_a_stop_is_heard_while_unseen_clients_adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run ends as if it had not been stopped, once it is started again."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "stopped", checkpoint_every=1000.0)
    stop_file = tmp_path / "stop"

    def stopped(*args: Any, **kwargs: Any) -> Any:
        stop_file.touch()
        return adapt(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("fedbench.runs.job.adapt", stopped)
        assert job.work(a, stop_file, os.getpid(), wait=False).ending == "stopped"
    assert list(storage.files(a.results)) == []
    assert done(a) == expected


def test_a_run_that_diverged_says_so(tmp_path: Path) -> None:
    """It is stored as it is, with losses that are no numbers, and can be read back."""
    settings = {"fedavg.local.lr": "1e30", "fedavg.local.max_norm": "1e30", "fedavg.local.steps": "2"}
    a = a_job(tmp_path, methods=["fedavg"], settings=settings)
    outcome = work(a)
    assert outcome.ending == "done"
    assert outcome.warnings == ("training diverged: its losses are no numbers; the score is of visit 0",)
    stored = storage.read(storage.result_path(a.results, a.spec))
    assert stored.diverged
    assert stored.best.visits == 0


def test_what_cannot_be_tidied_up_does_no_harm(tmp_path: Path) -> None:
    """A folder in the place of a checkpoint, and the record of an earlier failure."""
    a = a_job(tmp_path)
    storage.work_path(a.results, a.spec, "checkpoint").mkdir(parents=True)
    storage.write_failure(a.results, a.spec, "an earlier one")
    outcome = work(a)
    assert outcome.ending == "done"
    assert not storage.work_path(a.results, a.spec, "error").exists()
    storage.write_failure(a.results, a.spec, "of a second process, that was too late")
    assert work(a).ending == "done"
    assert not storage.work_path(a.results, a.spec, "error").exists()


@linux
def test_without_room_for_the_result_a_run_fails_clearly_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half result is left; once there is room the run ends, from its last checkpoint, with the same numbers."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "full")
    with monkeypatch.context() as patch:
        full_disk(patch, ".json")
        outcome = work(a)
    assert outcome.ending == "failed"
    assert os.strerror(errno.ENOSPC) in outcome.message
    assert list(storage.files(a.results)) == []
    assert not list(a.results.rglob("*.partial"))
    assert done(a) == expected


FAILING = '''
from dataclasses import dataclass

from fedbench.methods.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class Failing(FedAvg):
    """FedAvg that cannot be averaged."""

    title = "Failing"
    paper = "none"

    def server_receive(self, server, cohort, upload):
        raise ArithmeticError("the third kind")
'''


def test_a_failed_run_leaves_its_error_and_does_not_disturb_the_others(tmp_path: Path) -> None:
    """Of two runs in one pool the first fails: the second is stored, and the error names run and reason."""
    plugin = tmp_path / "failing.py"
    plugin.write_text(FAILING)
    jobs = [
        a_job(tmp_path / "results", methods=[name], settings={f"{short}.local.steps": "2"})
        for name, short in ((str(plugin), "failing"), ("fedavg", "fedavg"))
    ]
    seen: list[str] = []
    outcomes = pool.run(jobs, 1, lambda notes: None, lambda outcome: seen.append(outcome.ending))
    assert [outcome.ending for outcome in outcomes] == seen == ["failed", "done"]
    assert "the third kind" in outcomes[0].message
    failure = storage.read_failure(storage.work_path(jobs[0].results, jobs[0].spec, "error"))
    assert failure.spec == jobs[0].spec
    assert failure.message == "ArithmeticError: the third kind"
    assert [path.stem for path in storage.files(tmp_path / "results")] == [jobs[1].spec.identity]
