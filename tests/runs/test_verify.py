"""`fedbench verify`: equal, or where the numbers first differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import (
    COUNTED,
    a_job,
    done,
    edited,
)

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs.verify import Verdict, verify


def test_verify_says_equal_or_where_it_first_differs(tmp_path: Path) -> None:
    a = a_job(tmp_path, clients=6, novel_clients=2)
    done(a)
    path = storage.result_path(a.results, a.spec)
    assert verify(path) == Verdict(True)
    before = sorted(tmp_path.rglob("*"))

    def change(result: dict[str, Any]) -> None:
        row = result["history"][2]
        for same in (row, result["best"], *result["earlier"]):
            if same["round"] == row["round"]:
                same["val_loss"] += 1e-9
        result["history"][3]["seconds"] = 1e9
        result["best"]["test"]["correct"][0] -= 1

    verdict = verify(edited(path, change))
    assert (verdict.equal, verdict.place) == (False, "history.2.val_loss")
    assert str(verdict).startswith("different: history.2.val_loss is ")
    longer = verify(edited(path, lambda result: result["history"].append(result["history"][-1])))
    assert (longer.place, longer.stored, longer.found) == ("the length of history", 5, 4)
    tested = verify(edited(path, lambda result: result["unseen"]["best"]["test"]["loss"].reverse()))
    assert tested.place == "unseen.best.test.loss.0"
    edited(path, lambda result: None).unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_tells_what_else_is_not_as_it_was(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    done(a)

    def change(result: dict[str, Any]) -> None:
        result["code"] = "0" * 16
        result["provenance"]["software"]["torch"] = "1.0"

    text = str(verify(edited(storage.result_path(a.results, a.spec), change)))
    assert text.startswith("equal: ")
    assert "the method's source is not that of the stored run; torch is " in text
    assert text.endswith("and was 1.0")


def test_verify_runs_a_plug_in_given_by_file(tmp_path: Path) -> None:
    plugin = tmp_path / "mine_alone.py"
    plugin.write_text(COUNTED)
    a = a_job(tmp_path / "results", methods=[str(plugin)], settings={"mine-alone.local.steps": "2"})
    done(a)
    path = storage.result_path(a.results, a.spec)
    assert verify(path, method=str(plugin)).equal
    with pytest.raises(BadInput, match="there is no method called 'mine-alone'"):
        verify(path)
    with pytest.raises(BadInput, match="is a run of the method 'mine-alone', and fedavg is another one"):
        verify(path, method="fedavg")


def test_verify_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        verify(tmp_path / "none.json")
    a = a_job(tmp_path)
    done(a)
    path = storage.result_path(a.results, a.spec)
    with pytest.raises(BadInput, match="cannot be made again"):
        verify(edited(path, lambda result: result["spec"].update(network="no-such-network")))
