"""A run that was cut goes on from its checkpoint, and from no other; one that cannot be written is a warning."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import (
    a_job,
    cut,
    done,
    full_disk,
    linux,
    numbers,
    work,
)

from fedbench import storage
from fedbench.runs import checkpoint
from fedbench.runs.state import look
from fedbench.training import Engine, Progress


def test_a_cut_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the 7th of 12 rounds only five are left to do; nothing stays behind but the lock."""
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "cut")
    path = cut(a, 7, monkeypatch)
    assert look(a).state == "started"
    for name in (f".{path.name}.ab12.partial", f"{path.stem}.progress.77.partial"):  # of writes that were cut
        path.with_name(name).touch()
    rounds, original = [], Engine.round

    def counted(engine: Engine, progress: Progress) -> None:
        rounds.append(progress.round)
        original(engine, progress)

    monkeypatch.setattr(Engine, "round", counted)
    assert done(a) == expected
    assert rounds == [7, 8, 9, 10, 11]
    assert not path.exists()
    assert [file.suffix for file in path.parent.iterdir()] == [".lock"]


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "bit-flipped":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif how == "not-a-checkpoint":
        path.write_bytes(b"hello")
    elif how == "pickle-bomb":
        bomb = b"cos\nsystem\n(S'touch " + str(path.parent / "bitten").encode() + b"'\ntR."
        path.write_bytes(bomb)
    else:
        known = {"spec": {}, "code": "", "software": {}, "partition": "", **json.loads(how)}
        checkpoint.save(path, Progress(server={}), known)


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ("truncated", "damaged"),
        ("empty", "damaged"),
        ("bit-flipped", "damaged"),
        ("not-a-checkpoint", "damaged"),
        ("pickle-bomb", "damaged"),
        (
            "{}",
            "made with another family, code, dataset_code, codes, software, instruction_set, arithmetic, visits, "
            "partition",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_a_fresh_start_with_a_warning(
    how: str, warning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "damaged", checkpoint_every=1000.0)
    path = cut(a_job(tmp_path / "damaged"), 5, monkeypatch)
    damage(path, how)
    outcome = work(a)
    assert outcome.ending == "done"
    assert warning in outcome.warnings[0]
    assert "starts afresh" in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected
    assert not (path.parent / "bitten").exists()


@pytest.mark.parametrize("key", ["spec", "code", "software", "partition"])
def test_a_checkpoint_is_used_only_by_the_run_that_it_belongs_to(key: str, tmp_path: Path) -> None:
    """Each of the four facts is enough to refuse it, and none of them differing is needed to take it."""
    path, facts = (
        tmp_path / "checkpoint",
        {"spec": {"seed": 1}, "code": "a", "software": {"torch": "2"}, "partition": "b"},
    )
    checkpoint.save(path, Progress(server={"w": torch.ones(2)}), facts)
    progress, refusal = checkpoint.load(path, {**facts, key: {"seed": 2}}, torch.device("cpu"))
    assert progress is None
    assert refusal == f"it was made with another {key}"
    progress, refusal = checkpoint.load(path, facts, torch.device("cpu"))
    assert progress is not None
    assert refusal == ""


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, {}, torch.device("cpu")) == (None, "it cannot be read (Is a directory)")
    assert checkpoint.load(tmp_path / "none", {}, torch.device("cpu")) == (None, "")


def test_valid_checksums_do_not_make_a_pickle_welcome(tmp_path: Path) -> None:
    """A file that is whole, but has code to run inside, is refused and its code not run."""

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "bitten",)

    path = tmp_path / "checkpoint"
    torch.save({"belongs_to": {}, "progress": Bomb()}, path)
    progress, refusal = checkpoint.load(path, {}, torch.device("cpu"))
    assert progress is None
    assert "cannot be loaded" in refusal
    assert not (tmp_path / "bitten").exists()


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full-disk", "read-only"])
def test_without_room_for_checkpoints_a_run_goes_on_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = done(a_job(tmp_path / "straight"))
    a = a_job(tmp_path / "full")
    full_disk(monkeypatch, ".checkpoint", number)
    outcome = work(a)
    assert outcome.ending == "done"
    assert len(outcome.warnings) == 1
    assert os.strerror(number) in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_is_a_warning_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch writes many small pieces, and makes an error of its own of one that cannot be written."""
    expected = done(a_job(tmp_path / "straight"))

    @contextlib.contextmanager
    def small(path: Path) -> Iterator[Any]:
        with storage.replacing(path) as file:

            class Full:
                def write(self, content: bytes) -> int:
                    if file.tell() + len(content) > 1000:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    return file.write(content)

                def flush(self) -> None:
                    file.flush()

            yield Full()

    monkeypatch.setattr("fedbench.runs.checkpoint.replacing", small)
    a = a_job(tmp_path / "full")
    outcome = work(a)
    assert outcome.ending == "done"
    assert os.strerror(errno.ENOSPC) in outcome.warnings[0]
    assert numbers(storage.result_path(a.results, a.spec)) == expected
    assert not list(a.results.rglob("*.partial"))
