"""`fedbench verify`: equal, or where the numbers first differ."""

from __future__ import annotations

from collections.abc import Callable
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
        for row in (result["history"][2], *result["earlier"], result["best"]):
            row["val_loss"] += 1e-9 if row["visits"] == result["history"][2]["visits"] else 0
        result["history"][3]["seconds"] = 1e9
        result["best"]["test"]["correct"][0] -= 1

    verdict = verify(edited(path, change))
    assert (verdict.equal, verdict.place) == (False, "history.2.val_loss")
    assert str(verdict).startswith("different: history.2.val_loss is ")

    def shorten(result: dict[str, Any]) -> None:
        if result["history"].pop()["visits"] == result["best"]["visits"]:
            result["best"] = result["earlier"].pop()

    shorter = verify(edited(path, shorten))
    assert (shorter.place, shorter.stored, shorter.found) == ("the length of history", 3, 4)
    tested = verify(edited(path, lambda result: result["unseen"]["best"]["test"]["loss"].reverse()))
    assert tested.place == "unseen.best.test.loss.0"
    edited(path, lambda result: None).unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_compares_every_part(tmp_path: Path) -> None:
    """Each part edited alone: who holds which rows, the history, what was best before, the best, unseen clients."""
    fast = {"fedavg.local.steps": "2", "fedavg.local.lr": "0.5"}  # so fast that accuracy goes up and down
    a = a_job(tmp_path, methods=["fedavg"], settings=fast, visits=40)
    done(a)
    path = storage.result_path(a.results, a.spec)
    stored = storage.read(path)
    improved = [best.visits for best in (*(stored.earlier or ()), stored.best)]
    assert len(improved) > 1
    free = next(i for i, row in enumerate(stored.history) if row.visits not in improved)
    edits: dict[str, Callable[[dict[str, Any]], Any]] = {
        "partition": lambda result: result.update(partition="0"),
        f"history.{free}.gradients": lambda result: result["history"][free].update(gradients=1),
        "earlier.0.test.loss.0": lambda result: result["earlier"][0]["test"]["loss"].__setitem__(0, 0.25),
        "best.test.loss.1": lambda result: result["best"]["test"]["loss"].__setitem__(1, 0.25),
        "unseen.best.test.loss.0": lambda result: result["unseen"]["best"]["test"]["loss"].__setitem__(0, 0.25),
        "depends_on_length": lambda result: result.update(depends_on_length=True),
    }
    assert {place: verify(edited(path, change)).place for place, change in edits.items()} == {p: p for p in edits}


def test_verify_compares_what_a_file_of_format_1_says(tmp_path: Path) -> None:
    """Which is neither gradients, nor what was best before, nor whether the beginning is a shorter run."""
    a = a_job(tmp_path, methods=["lg-fedavg"], settings={"lg-fedavg.local.steps": "2"})
    done(a)

    def old(result: dict[str, Any]) -> None:
        result["format"] = 1
        assert result.pop("depends_on_length")
        for part in (result, result["unseen"]):
            part["earlier"] = None
            for row in (*part["history"], part["best"]):
                row["gradients"] = row["personalize_gradients"] = None

    path = edited(storage.result_path(a.results, a.spec), old)
    assert verify(path) == Verdict(True)


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
    with pytest.raises(BadInput, match="is a run of the method mine-alone, and fedavg is another one"):
        verify(path, method="fedavg")


def test_verify_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        verify(tmp_path / "none.json")
    a = a_job(tmp_path)
    done(a)
    path = storage.result_path(a.results, a.spec)
    with pytest.raises(BadInput, match="cannot be made again"):
        verify(edited(path, lambda result: result["spec"].update(network="no-such-network")))


def test_another_kind_of_processor_is_named_instead_of_a_difference(tmp_path: Path) -> None:
    """Other vector instructions add in another order: numbers that differ there prove nothing."""
    a = a_job(tmp_path)
    done(a)

    def change(result: dict[str, Any]) -> None:
        result["unseen"]["best"]["test"]["loss"][0] += 1e-9
        result["provenance"]["host"]["instruction_set"] = "ALTIVEC"

    verdict = verify(edited(storage.result_path(a.results, a.spec), change))
    assert not verdict.equal
    assert str(verdict).startswith("not to be decided here: it was computed by ")
    assert " with ALTIVEC, whose small sums are " in str(verdict)
    assert "different" not in str(verdict)


def test_verify_says_that_the_samples_are_others(tmp_path: Path) -> None:
    """Also where that changed no number, as other images of clients that hold the same rows may not."""
    a = a_job(tmp_path)
    done(a)

    def rename(result: dict[str, Any]) -> None:
        result["provenance"]["samples"] = "0" * 64

    verdict = verify(edited(storage.result_path(a.results, a.spec), rename))
    assert verdict == Verdict(True, notes=("the samples are not those of the stored run",))
