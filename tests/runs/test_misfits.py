"""Checkpoints that are whole, and name the run that they are wanted for, and still are not of it; places in the way."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import a_job, cut, done, full_disk, linux, numbers, work

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.runs import checkpoint
from fedbench.runs.comparison import check_writable
from fedbench.training import Engine, Progress

Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, Change] = {
    "a round beyond the end": lambda p: p.update(round=99),
    "a round that its visits are not of": lambda p: p.update(round=p["round"] - 1),
    "a round below zero": lambda p: p.update(round=-1, visits=-1),
    "visits of another run": lambda p: p.update(visits=p["visits"] + 3),
    "a round that is a text": lambda p: p.update(round="seven"),
    "a history of something else": lambda p: p.update(history=[{"a": 1}]),
    "a history that is none": lambda p: p.update(history=7),
    "a history that goes beyond": lambda p: p["history"].append({**p["history"][-1], "visits": 500, "round": 500}),
    "a choice that validation did not make": lambda p: p["improvements"][-1].update(val_accuracy=1.0),
    "scores of other clients": lambda p: [values.append(1) for values in p["improvements"][-1]["test"].values()],
    "a server of other shapes": lambda p: p["server"].update(embedding=torch.zeros(4, 3)),
    "a server of another type": lambda p: p["server"].update(embedding=p["server"]["embedding"].double()),
    "a server that is a list": lambda p: p.update(server=[1, 2]),
    "unknown clients": lambda p: (p["clients"].update({77: {}}), p["order"].append(77)),
}


@pytest.mark.parametrize("how", list(CHANGES))
def test_a_checkpoint_that_is_not_of_the_run_is_a_fresh_start_with_a_warning(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "cut")
    path = cut(a, 7, monkeypatch)
    stored = torch.load(path, weights_only=True)
    progress = {**stored["progress"], "order": stored["order"]}  # of the clients, which stands beside it
    CHANGES[how](progress)
    stored = {**stored, "order": progress.pop("order"), "progress": progress}
    torch.save(stored, path)
    outcome = work(a)
    assert outcome.ending == "done", outcome
    (warning,) = outcome.warnings
    assert warning.startswith(f"the checkpoint {path} is not used: ")
    assert warning.endswith("; the run starts afresh")
    assert numbers(storage.result_path(a.results, a.spec)) == expected


def test_a_checkpoint_of_the_run_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = a_job(tmp_path)
    seen: list[str] = []
    original = checkpoint.misfit

    def misfit(progress: Progress, engine: Engine) -> str:
        seen.append(original(progress, engine))
        return seen[-1]

    cut(a, 7, monkeypatch)
    monkeypatch.setattr(checkpoint, "misfit", misfit)
    done(a)
    assert seen == [""]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a named pipe")
def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    path = storage.work_path(a.results, a.spec, "checkpoint")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert checkpoint.load(path, {}, torch.device("cpu")) == (None, "it is not a regular file")


def test_an_error_while_resuming_names_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = a_job(tmp_path)
    path = cut(a, 7, monkeypatch)

    def fail(engine: Engine, progress: Progress) -> None:
        raise RuntimeError("size mismatch")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "round", fail)
        outcome = work(a)
        assert outcome.ending == "failed"
        note = f"the run went on from {path}: remove that file to start afresh"
        assert outcome.message == f"RuntimeError: size mismatch; {note}"
        assert storage.read_failure(storage.work_path(a.results, a.spec, "error")).message == outcome.message
        path.unlink()
        assert work(a).message == "RuntimeError: size mismatch"


# ---------- disks and places


def test_a_folder_in_the_place_of_a_result_is_found_before_the_run(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    place = storage.result_path(a.results, a.spec)
    check_writable(tmp_path, [a])
    place.mkdir(parents=True)
    with pytest.raises(BadInput) as refusal:
        check_writable(tmp_path, [a])
    assert str(refusal.value) == f"{place} is in the way: it is no file, and a run needs that place; remove it"


def test_a_file_in_the_place_of_a_folder_is_found_before_the_run(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    (tmp_path / a.spec.dataset).write_text("in the way")
    with pytest.raises(BadInput, match="results cannot be written to"):
        check_writable(tmp_path, [a])


@linux
def test_a_full_disk_is_found_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file finds a place on a full disk; a megabyte does not."""
    original = os.fsync

    def fsync(handle: int) -> None:
        if os.fstat(handle).st_size > 4096:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BadInput) as refusal:
        check_writable(tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert os.strerror(errno.ENOSPC) in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@linux
def test_a_disk_that_is_full_at_the_end_is_one_sentence_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = a_job(tmp_path)
    with monkeypatch.context() as patch:
        full_disk(patch, ".json")
        outcome = work(a)
    place = storage.result_path(a.results, a.spec)
    assert outcome.message.startswith(
        f"the result cannot be written to {place}: {os.strerror(errno.ENOSPC)}; make room"
    )
    assert outcome.details == ""  # no traceback
    assert done(a)


def test_the_title_of_a_run_is_one_printable_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a plug-in calls itself, its result can be read again."""
    a = a_job(tmp_path, methods=["fedavg"], settings={"fedavg.local.steps": "2"})
    found = plugins.find_method("fedavg")
    titled = type("FedAvg", (found.cls,), {"title": "=Fed\nAvg" + "x" * 200})
    monkeypatch.setattr(plugins, "find_method", lambda text: dataclasses.replace(found, cls=titled))
    done(a)
    assert storage.read(storage.result_path(a.results, a.spec)).title.startswith("Fed Avgxxx")
