"""Results of strangers are read without executing anything, checked, and lead to no other folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from small_results import ROW, TEST

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.storage.spec import Spec

SPEC: dict[str, Any] = {
    "method": "fedavg",
    "params": {"local.lr": 0.005},
    "dataset": "digits",
    "network": "mlp-digits",
    "partition": "classes:per_client=2",
    "clients": 2,
    "seed": 1,
    "visits": 4,
    "evaluate_every": 2,
}


def write(path: Path, **changes: Any) -> Path:
    """A result with a digest that fits, as a stranger would send it."""
    payload: dict[str, Any] = {
        "format": 1,
        "spec": Spec(**SPEC).model_dump(mode="json"),
        "title": "FedAvg",
        "code": "0" * 16,
        "partition": "0",
        "best": {**ROW, "test": TEST},
        "unseen": None,
        "history": [{**ROW, "seconds": 1.0}],
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**payload, "digest": storage.digest(payload), "provenance": {}}))
    return path


HOSTILE = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\windows",
    "a.b",
    "a\n",
    "a\x00",
    "-rf",
    "~",
    "$HOME",
    "é",
    "a" * 81,
]


def test_an_honest_result_is_read(tmp_path: Path) -> None:
    """One of two rows and two of three are right: 3/5 pooled, and (1/2 + 2/3) / 2 in the mean over clients."""
    best = storage.read(write(storage.result_path(tmp_path, Spec(**SPEC)))).best
    assert best.accuracy == 0.6
    assert best.client_accuracy == pytest.approx([1 / 2, 2 / 3])
    assert best.client_mean == pytest.approx(7 / 12)
    frame = storage.load_results(tmp_path)
    assert len(frame) == 1
    assert [float(frame[name][0]) for name in ("accuracy", "client_mean")] == pytest.approx([3 / 5, 7 / 12])


@pytest.mark.parametrize("field", ["method", "dataset"])
@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_result_whose_names_could_leave_their_folder_is_refused(field: str, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "digits" / "fedavg" / "x.json", spec={**Spec(**SPEC).model_dump(mode="json"), field: name})
    with pytest.raises(BadInput, match=rf"is not a fedbench result: spec\.{field}"):
        storage.read(path)
    with pytest.raises(BadInput):
        storage.load_results(tmp_path)
    with pytest.raises(ValidationError):
        Spec(**{**SPEC, field: name})


def test_paths_of_a_spec_stay_in_the_results_folder(tmp_path: Path) -> None:
    spec = Spec(**{**SPEC, "method": "a-0-b", "network": "../../x", "partition": "../../y"})
    for path in (storage.result_path(tmp_path, spec), storage.work_path(tmp_path, spec, "checkpoint")):
        assert path.resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize(
    "changes",
    [
        {"history": []},
        {"history": [{**ROW, "seconds": "rm -rf /"}]},
        {"best": {**ROW, "test": {**TEST, "correct": ["__import__('os')"]}}},
        {"title": ["FedAvg"]},
        {"format": 3},
        {"extra": 1},
    ],
    ids=["no-history", "text-for-a-number", "code-for-a-number", "list-for-a-text", "other-format", "more-than-known"],
)
def test_a_result_of_another_form_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a fedbench result"):
        storage.read(write(tmp_path / "x.json", **changes))


@pytest.mark.parametrize(
    "test",
    [
        {"correct": [1, 2], "total": [0, 0], "loss": [0.5, 0.5]},
        {"correct": [], "total": [], "loss": []},
        {"correct": [1], "total": [2, 3], "loss": [0.5, 0.5]},
        {"correct": [9, 2], "total": [2, 3], "loss": [0.5, 0.5]},
        {"correct": [-1, 2], "total": [2, 3], "loss": [0.5, 0.5]},
    ],
    ids=["no-samples", "no-clients", "other-lengths", "more-than-all", "less-than-none"],
)
def test_impossible_scores_are_refused(test: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a fedbench result"):
        storage.read(write(tmp_path / "x.json", best={**ROW, "test": test}))


def test_a_result_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json")
    path.write_text(path.read_text().replace('"val_accuracy": 0.5', '"val_accuracy": 0.9'))
    with pytest.raises(BadInput, match="its numbers do not match its digest"):
        storage.read(path)


@pytest.mark.parametrize("name", ["models", "seconds", "codes", "digest", "provenance", "gradients"])
def test_a_digest_covers_hyperparameters_of_any_name(name: str, tmp_path: Path) -> None:
    """Also those that are called as facts of a run that it leaves out."""
    found = set()
    for value in (1.0, 2.0, None):
        payload = {"spec": {"params": {name: value}}, "history": [{"seconds": 3.0}]}
        found.add(storage.digest(payload))
        assert storage.digest({**payload, "history": [{"seconds": 4.0}], "models": None}) in found
    assert len(found) == 3
