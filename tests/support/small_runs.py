"""Short runs on digits, in this process and as commands, and what of their results must not differ."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedbench import plugins, storage
from fedbench.runs import job
from fedbench.runs.comparison import Comparison
from fedbench.runs.job import Job, Outcome
from fedbench.runs.prepare import Problem, prepare
from fedbench.storage.spec import Spec
from fedbench.training import Engine, Keep, Progress

METHODS = "pfedhn-pc,lg-fedavg,fedper,pfedhn,local"  # all but the last but one keep something on the clients


COMMAND = (  # before the options of a run
    sys.executable,
    "-c",
    "from fedbench.cli import main; main()",
    "run",
    "--device",
    "cpu",
    "--dataset",
    "digits",
)


def numbers(path: Path) -> Any:
    """A result without times and host facts."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "provenance")}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert storage.read(path).digest  # it is whole, and its numbers match its digest
    return timeless(json.loads(path.read_text()))


def all_numbers(results: Path) -> dict[str, Any]:
    return {str(path.relative_to(results)): numbers(path) for path in storage.files(results)}


COUNTED = '''
"""FedAvg that notes every visit in a file, to see what work is done."""

import os
from dataclasses import dataclass

from fedbench.methods.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class Counted(FedAvg):
    """FedAvg."""

    title = "Counted"
    paper = "none"

    def client_train(self, message, state, batches):
        handle = os.open(os.path.join(os.path.dirname(__file__), "visits"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b"visit\\n")
        os.close(handle)
        return super().client_train(message, state, batches)
'''


def problem(method: str, settings: dict[str, Any] | None = None, **changes: Any) -> Problem:
    """A run of `method` on digits, ready to be trained: 12 visits, an evaluation every 5."""
    plugin, dataset = plugins.find_method(method), plugins.find_dataset("digits")
    spec: dict[str, Any] = {
        "method": plugin.name,
        "params": plugins.configure(plugin, {"local.steps": 3, **(settings or {})}),
        "dataset": "digits",
        "network": "mlp-digits",
        "partition": "classes:per_client=2",
        "clients": 6,
        "seed": 1,
        "visits": 12,
        "evaluate_every": 5,
        **changes,
    }
    return prepare(Spec(**spec), plugin, dataset, Path("unused"))


def finished(ready: Problem) -> Progress:
    """What `ready` reaches, run to its end."""
    progress = ready.engine.start()
    assert ready.engine.run(progress, Keep(server=True), lambda _: False)
    return progress


def a_job(results: Path, **changes: Any) -> Job:
    settings: dict[str, Any] = {
        "methods": ["pfedhn-pc"],
        "seeds": [1],
        "clients": 5,
        "novel_clients": 1,
        "adapt_visits": 2,
        "visits": 12,
        "evaluate_every": 4,
        "settings": {"pfedhn-pc.local.steps": "2"},
        "device": "cpu",
        "checkpoint_every": 0.0,
    }
    return Comparison(results=results, **{**settings, **changes}).jobs()[0]


def work(a: Job) -> Outcome:
    return job.work(a, a.results / "no-such-stop-file", os.getpid(), wait=False)


def done(a: Job) -> Any:
    """The numbers of `a`, run to its end."""
    outcome = work(a)
    assert outcome.ending == "done", outcome
    return numbers(storage.result_path(a.results, a.spec))


class PowerCut(KeyboardInterrupt):
    """Nothing catches it, as nothing catches a power cut."""


def cut(a: Job, rounds: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run `a` until so many rounds are over and checkpointed; the checkpoint."""
    original = Engine.round

    def round_(engine: Engine, progress: Progress) -> None:
        if progress.round == rounds:
            raise PowerCut
        original(engine, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "round", round_)
        with pytest.raises(PowerCut):
            work(a)
    return storage.work_path(a.results, a.spec, "checkpoint")


def full_disk(monkeypatch: pytest.MonkeyPatch, suffix: str, number: int = errno.ENOSPC) -> None:
    """Writing any file whose name ends so fails half way, as on a full disk."""
    original = os.fsync

    def fsync(handle: int) -> None:
        name = str(Path(f"/proc/self/fd/{handle}").readlink())
        if re.sub(r"\.[^.]*\.partial$", "", name).endswith(suffix):
            os.ftruncate(handle, 100)
            raise OSError(number, os.strerror(number))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks a file's name up in /proc")


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The result at `path` with a change and a digest that fits, beside it."""
    result = json.loads(path.read_text())
    change(result)
    result["digest"] = storage.digest(result)
    copy = path.with_name("edited.json")
    copy.write_text(json.dumps(result))
    return copy


def arguments(
    results: Path, methods: str = METHODS, visits: int = 80, checkpoint_every: float = 0, jobs: int = 1
) -> list[str]:
    """`fedbench run` with one client a round and two steps a visit, so that there are many moments to die at."""
    settings = [
        f"--set={name}.{setting}" for name in methods.split(",") for setting in ("clients_per_round=1", "local.steps=2")
    ]
    return [
        *COMMAND,
        f"--methods={methods}",
        f"--results={results}",
        f"--visits={visits}",
        f"--checkpoint-every={checkpoint_every}",
        f"--jobs={jobs}",
        "--clients=5",
        "--novel-clients=1",
        "--adapt-visits=2",
        "--seeds=1",
        *settings,
    ]


def start(command: list[str]) -> subprocess.Popen[str]:
    """A process that hears Ctrl-C, though these tests may have been started in the background, where it is ignored."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate()
    assert process.returncode == status, output
    return output


def wait_for_checkpoint(results: Path, process: subprocess.Popen[str], after: float = 0.0) -> bool:
    """Wait until a checkpoint is written that is newer than `after`; false where the process ended before."""
    while process.poll() is None:
        times = []
        for path in (results / storage.WORK).glob("*.checkpoint"):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
        if max(times, default=0.0) > after:
            return True
        time.sleep(0.005)
    return False


def assert_tidy(results: Path) -> None:
    """Nothing is left but results and locks."""
    left = [path.name for path in results.rglob("*") if path.suffix not in (".json", ".lock") and path.is_file()]
    assert [name for name in left if "writable" not in name] == []  # the trial file of a start that was killed
