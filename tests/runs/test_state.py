"""Which stored result answers for a job, and which is made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import (
    a_job,
    done,
)

from fedbench import storage
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
