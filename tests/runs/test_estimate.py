"""How long runs take, from stored runs like them; and what is said of where they begin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import fedbench.api
from fedbench import storage
from fedbench.runs import estimate
from fedbench.runs.comparison import Comparison
from fedbench.runs.display import duration
from fedbench.runs.pool import split_done

QUICK = {"all.local.steps": "2"}


def _comparison(tmp_path: Path, visits: int, **options: object) -> Comparison:
    merged = {"methods": "fedavg", "seeds": [1], "settings": QUICK, "evaluate_every": 5, **options}
    return Comparison(visits=visits, results=tmp_path, device="cpu", **merged)  # type: ignore[arg-type]


def test_a_stored_run_tells_how_long_others_take(tmp_path: Path) -> None:
    """Its seconds for a visit; twice the steps take twice as long; another method is unknown."""
    fedbench.api.compare(_comparison(tmp_path, 5), 1)
    (path,) = storage.files(tmp_path)
    stored = storage.read(path)
    rate = stored.last.seconds / stored.last.visits
    (longer,) = _comparison(tmp_path, 50).jobs()
    (more,) = _comparison(tmp_path, 50, settings={"fedavg.local.steps": "4"}).jobs()
    (other,) = _comparison(tmp_path, 50, methods="local").jobs()
    rates = estimate.stored_rates([longer, more, other])
    assert rates == {longer.spec.identity: pytest.approx(rate), more.spec.identity: pytest.approx(2 * rate)}


def test_runs_are_spread_over_processes_but_not_one_run() -> None:
    assert estimate.together([4.0, 4.0, 4.0, 4.0], 2) == 8.0
    assert estimate.together([10.0, 1.0, 1.0], 3) == 10.0
    assert estimate.together([], 3) == 0.0


def test_a_state_between_two_evaluations_is_of_no_use_and_that_is_said(tmp_path: Path) -> None:
    fedbench.api.compare(_comparison(tmp_path, 12, keep_state=True), 1)
    (anew,) = estimate.beginnings(*split_done(_comparison(tmp_path, 20).jobs()))
    assert "the state kept at 12 visits lies between two evaluations or two rounds (every 5 and 5 visits)" in anew


def test_what_happens_with_more_or_fewer_visits_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(visits: int, **options: object) -> list[str]:
        return estimate.beginnings(*split_done(_comparison(tmp_path, visits, **options).jobs()))

    assert said(10) == []
    fedbench.api.compare(_comparison(tmp_path, 10), 1)
    assert said(10) == []
    assert said(5) == ["1 of the runs is answered by a longer run"]
    (anew,) = said(20)
    assert "beginning anew, although 10 visits are stored: no state was kept" in anew
    fedbench.api.compare(_comparison(tmp_path, 15, keep_state=True), 1)
    assert said(20) == ["1 of the runs is going on from the state that was kept at 15 visits"]
    (job,) = _comparison(tmp_path, 30).jobs()
    (state,) = (tmp_path / storage.WORK).glob("*.state")
    checkpoint = storage.work_path(tmp_path, job.spec, "checkpoint")
    checkpoint.write_bytes(state.read_bytes())
    assert said(30) == ["1 of the runs is going on from a checkpoint"]
    assert estimate.visits_left(job) == 15
    with monkeypatch.context() as patch:
        patch.setattr("fedbench.runs.job.arithmetic", lambda: "another")
        assert "going on" not in " ".join(said(30))
        assert estimate.visits_left(job) == 30
    checkpoint.write_bytes(b"torn")
    state.write_bytes(b"torn")
    (anew,) = said(30)
    assert "beginning anew, although 15 visits are stored: the states that were kept are damaged" in anew
    fedbench.api.compare(_comparison(tmp_path, 5, novel_clients=2, adapt_visits=1), 1)
    (unseen,) = said(10, novel_clients=2, adapt_visits=1)
    assert "unseen clients join at the end of a run" in unseen


def test_a_dry_run_measures_only_what_is_not_known_and_says_so(tmp_path: Path) -> None:
    fedbench.api.compare(_comparison(tmp_path, 5), 1)
    console = Console(width=200, record=True, quiet=False, file=Path(os.devnull).open("w"))  # noqa: SIM115
    estimate.show_plan(_comparison(tmp_path, 50).jobs(), 1, console)
    text = console.export_text()
    assert "measuring" not in text
    assert "from stored runs like these; nothing was run" in text
    estimate.show_plan(_comparison(tmp_path, 50, methods="fedavg,local").jobs(), 1, console)
    text = console.export_text()
    assert "measuring a few steps of local" in text
    assert "from stored runs like these and a few measured steps" in text


@pytest.mark.slow
def test_a_dry_run_answers_at_once_from_what_is_known(tmp_path: Path) -> None:
    """In 3 s on an idle machine; here in three times what it takes to import torch, whatever else goes on."""
    fedbench.api.compare(_comparison(tmp_path, 5), 1)

    def took(*command: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=tmp_path)
        return time.perf_counter() - began

    run = ("run", "--methods", "fedavg", "--visits", "50", "--seeds", "1", "--results", str(tmp_path), "--dry-run")
    imports = "import torch, pandas, sklearn.datasets, torch.func"
    assert min(took("-m", "fedbench", *run) for _ in range(2)) < 3 * min(took("-c", imports) for _ in range(2)) + 1


@pytest.mark.parametrize("seconds", [1e308, float("inf"), float("nan")])
def test_a_time_that_nobody_waits_for_is_no_error(seconds: float) -> None:
    assert duration(seconds) == "for ever"
    assert duration(3723.0) == "1:02:03"


def test_a_method_may_call_something_else_steps(tmp_path: Path) -> None:
    spec = _comparison(tmp_path, 10).jobs()[0].spec
    odd = spec.model_copy(update={"params": {"local.steps": "many", "local.batch_size": None}})
    assert estimate._samples(odd) == 1
    assert estimate._samples(spec) == 2 * 64
