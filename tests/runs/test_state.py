"""Which stored result answers for a job, and which is made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from small_runs import a_job, cut, done, work

from fedbench import storage
from fedbench.runs.housekeeping import leftovers, remove
from fedbench.runs.pool import split_done
from fedbench.runs.state import look


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\x00\x01"])
def test_a_damaged_result_is_made_again(text: str, tmp_path: Path) -> None:
    a = a_job(tmp_path)
    expected = done(a)
    path = storage.result_path(a.results, a.spec)
    path.write_text(text)
    assert look(a).state == "damaged"
    assert done(a) == expected


@pytest.mark.parametrize(
    "change",
    [{"code": "0" * 16}, {"dataset_code": "0" * 16}, {"codes": {"a-partition": "0" * 16}}],
    ids=["method", "data-set", "other-plug-ins"],
)
def test_a_result_of_another_program_is_made_again(change: dict[str, Any], tmp_path: Path) -> None:
    a = a_job(tmp_path)
    expected = done(a)
    path = storage.result_path(a.results, a.spec)
    result = json.loads(path.read_text()) | change
    result["digest"] = storage.digest(result)
    path.write_text(json.dumps(result))
    assert look(a).state == "outdated"
    assert done(a) == expected


def test_the_result_of_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """A file that was copied to the wrong name is whole and of the same code, and is still not this run's."""
    a, other = a_job(tmp_path), a_job(tmp_path, seeds=[2])
    expected = done(a)
    done(other)
    path = storage.result_path(a.results, a.spec)
    path.write_bytes(storage.result_path(other.results, other.spec).read_bytes())
    assert look(a).state == "outdated"
    assert done(a) == expected


def test_the_checkpoint_of_a_run_that_is_made_again_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a plan of the same run without its models, whether the other process goes on at the moment or was stopped."""
    a = a_job(tmp_path, novel_clients=0, adapt_visits=None)
    done(a)
    keeping = replace(a, keep_models=True)
    checkpoint = cut(keeping, 5, monkeypatch)
    assert split_done([a]) == ([a], [])
    assert checkpoint.exists()
    assert split_done([keeping]) == ([], [keeping])
    assert work(keeping).ending == "done"
    assert not checkpoint.exists()
    checkpoint.touch()
    with FileLock(storage.work_path(a.results, a.spec, "lock")):
        assert split_done([a]) == ([a], [])
    assert checkpoint.exists()
    assert split_done([a]) == ([a], [])
    assert not checkpoint.exists()


def test_what_goes_on_is_not_cleaned_away(tmp_path: Path) -> None:
    """Half-written files of a run that is going on, and files that the runs of a process share while one of them is."""
    a = a_job(tmp_path)
    done(a)
    work_folder, result = tmp_path / storage.WORK, storage.result_path(tmp_path, a.spec)
    rubbish = [result.with_name(f".{a.spec.identity}.json.x.partial"), work_folder / "stop-a", work_folder / "shared-a"]
    for path in rubbish:
        path.touch()
    with FileLock(storage.work_path(tmp_path, a.spec, "lock")):
        assert leftovers(tmp_path) == []
    assert {each.path for each in leftovers(tmp_path)} == set(rubbish)


def test_a_run_that_begins_while_one_is_asked_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = a_job(tmp_path)
    path = storage.work_path(a.results, a.spec, "state")
    cut(a, 5, monkeypatch).rename(path)
    (found,) = (each for each in leftovers(tmp_path) if each.kind == "states")
    with FileLock(storage.work_path(a.results, a.spec, "lock")):
        assert remove([found]) == [found]
    assert path.exists()
    assert remove([found]) == []
    assert not path.exists()
