"""Worker processes that die, and signals that reach all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from small_runs import COMMAND, finish

from fedbench import storage

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")]
METHOD = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path

from fedbench.methods.fedavg import FedAvg

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class {cls}(FedAvg):
    title = "{cls}"
    paper = "none"

    def client_train(self, message, state, batches):
        {body}
        return super().client_train(message, state, batches)
"""
ONCE = """if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)"""


def started(folder: Path, methods: str, seeds: str, visits: int, jobs: int) -> subprocess.Popen[str]:
    """A session of its own, so that a signal can be sent to all its processes, as a terminal does."""
    command = [*COMMAND, f"--methods={methods}", f"--results={folder / 'results'}", f"--visits={visits}"]
    command += [f"--seeds={seeds}", f"--jobs={jobs}", "--clients=5", "--checkpoint-every=1000", "--evaluate-every=10"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def plugin(folder: Path, cls: str, body: str) -> str:
    path = folder / f"{cls.lower()}.py"
    path.write_text(METHOD.format(cls=cls, body=body))
    return str(path)


def test_what_goes_on_in_a_worker_that_dies_is_tried_again(tmp_path: Path) -> None:
    """One run kills its worker once, one always does, and fails in the end; the third has nothing to do with it."""
    methods = [plugin(tmp_path, "Once", ONCE), plugin(tmp_path, "Always", "os.kill(os.getpid(), signal.SIGKILL)")]
    process = started(tmp_path, ",".join([*methods, "fedavg"]), "1", 20, 2)
    finish(process, status=1)
    log = (tmp_path / "log").read_text()
    assert "a worker process died while it was going on" in log
    assert "always seed 1: FAILED: its worker process died" in log
    assert sorted(path.parent.name for path in storage.files(tmp_path / "results")) == ["fedavg", "once"]


def test_a_signal_to_all_processes_leaves_checkpoints_though_a_worker_is_idle(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches the workers too; one of them has no run any more."""
    process = started(tmp_path, plugin(tmp_path, "Slow", "time.sleep(0.1)") + ",fedavg", "1", 300, 2)
    (tmp_path / "results").mkdir(exist_ok=True)
    until = time.time() + 120
    while "fedavg seed 1: done" not in (log := (tmp_path / "log").read_text()):
        assert process.poll() is None, log
        assert time.time() < until, log
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    finish(process, status=130)
    left = (tmp_path / "results" / storage.WORK).glob("*.checkpoint")
    assert len(list(left)) == 1
    assert "the same command goes on from here" in (tmp_path / "log").read_text()
