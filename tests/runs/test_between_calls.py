"""What changes between two calls in one process, or between two commands, is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import a_job, work

import fedbench
from fedbench import plugins, storage
from fedbench.check.datasets import KIT, Bench
from fedbench.errors import BadInput
from fedbench.runs import pool
from fedbench.runs.comparison import Comparison
from fedbench.runs.job import Job, Outcome
from fedbench.runs.prepare import refresh
from fedbench.runs.state import Found, look

EDITED = """
from dataclasses import dataclass

from fedbench.methods.local import Local


@dataclass(frozen=True, kw_only=True)
class Edited(Local):
    title = "Edited"
    paper = "none"

    def client_personalize(self, message, state, batches):
        return {{name: {sign}value for name, value in super().client_personalize(message, state, batches).items()}}
"""
NETWORK = (
    "from fedbench.models import mlp\n\n\ndef network(image, classes):\n    return mlp(image, classes, {}, 'toy')\n"
)
FIXED = """
import json
from pathlib import Path

import numpy as np
import pydantic

from fedbench.partition import Kind


@pydantic.dataclasses.dataclass(frozen=True)
class Toy(Kind):
    name = "toy"

    def shares(self, data, clients, seed):
        return np.array(json.loads(Path(__file__).with_name("shares.json").read_text()))
"""


def scores(found: fedbench.api.Scores) -> list[float]:
    return sorted(found.frame["client_mean"])


@pytest.mark.slow
def test_workers_that_outlive_a_call_read_an_edited_file_again(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    settings: dict[str, Any] = {"methods": file, "seeds": [1, 2], "visits": 60, "clients": 4, "device": "cpu"}
    found = {}
    for sign in ("-", ""):
        file.write_text(EDITED.format(sign=sign))
        made = fedbench.run(**settings, jobs=2, results=tmp_path / f"two{sign}")
        assert made.failures == []
        found[sign] = scores(made)
        assert len(found[sign]) == 2
    assert found[""] == scores(fedbench.run(**settings, jobs=1, results=tmp_path / "one"))
    assert max(found["-"]) < min(found[""])


def test_what_a_worker_made_of_other_code_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = a_job(tmp_path)
    assert work(a).ending == "done"
    assert pool._believed(Outcome(a, "done")).ending == "done"
    monkeypatch.setattr(pool, "look", lambda job: Found("outdated"))
    outcome = pool._believed(Outcome(a, "done"))
    assert (outcome.ending, "Run it again" in outcome.message) == ("failed", True)
    assert pool._believed(Outcome(a, "stopped")).ending == "stopped"

    def barred(job: Job) -> Found:
        raise BadInput("it may not be read")

    monkeypatch.setattr(pool, "look", barred)
    assert pool._believed(Outcome(a, "done")) == Outcome(a, "failed", "it may not be read")


def test_a_folder_of_data_is_that_of_the_call_wherever_a_worker_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert a_job(tmp_path, data_root=Path("data")).data_root == tmp_path / "data"


def toys(folder: Path) -> Job:
    for name in ("p", "n"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "p" / "toy.py").write_text(FIXED)
    (folder / "p" / "shares.json").write_text(json.dumps([[0.5] * 10, [0.5] * 10]))
    (folder / "n" / "toy.py").write_text(NETWORK.format(4))
    return toy_job(folder)


def toy_job(folder: Path, method: str = "local") -> Job:
    return Comparison(
        methods=method,
        seeds=[1],
        clients=2,
        visits=4,
        evaluate_every=4,
        partition=str(folder / "p" / "toy.py"),
        network=str(folder / "n" / "toy.py"),
        device="cpu",
        results=folder / "results",
    ).jobs()[0]


def test_a_partition_and_a_network_may_have_one_name(tmp_path: Path) -> None:
    """The code of both decides whether a result is current."""
    job = toys(tmp_path)
    assert set(job.codes) == {"toy", "partition toy"}
    assert work(job).ending == "done"
    assert look(job).state == "done"
    (tmp_path / "n" / "toy.py").write_text(NETWORK.format(5))
    assert look(toy_job(tmp_path)).state == "outdated"


def test_two_networks_of_one_name_are_refused(tmp_path: Path) -> None:
    toys(tmp_path)
    (tmp_path / "toy.py").write_text(NETWORK.format(5))
    one, other = tmp_path / "n" / "toy.py", tmp_path / "toy.py"
    assert len(plugins.parse_networks(f"{one}*1,mlp-digits*1,{one}*1", 3).distinct) == 2
    for text in (f"{one}*2,{other}*1", f"{one}*1,mlp-digits*1,{other}*1"):
        with pytest.raises(BadInput, match="have one name, by which results tell networks apart"):
            plugins.parse_networks(text, 3)


def test_a_partition_that_reads_a_file_is_looked_at_again(tmp_path: Path) -> None:
    """Its code is as before; the result holds what was dealt, and a report says where that is not the same."""
    job = toys(tmp_path)
    assert work(job).ending == "done"
    assert look(job, storage.Index(job.results)).state == "done"
    (tmp_path / "p" / "shares.json").write_text(json.dumps([[0.25] * 10, [0.75] * 10]))
    refresh()
    assert look(job, storage.Index(job.results)).state == "outdated"
    other = toy_job(tmp_path, "fedavg")
    assert work(other).ending == "done"
    made = fedbench.report(tmp_path / "results", tmp_path / "out", figures=0)
    assert "with seed 1 clients do not hold the same rows in all runs" in (made.out / "report.md").read_text()


BESIDE = """
from pathlib import Path

from fedbench.datasets.digits import Digits


class Mine(Digits):
    title = "Mine"
    source = "none"
    network = "mlp-digits"
    cached = {}
"""


@pytest.mark.parametrize("cached", [True, False])
def test_a_data_set_that_is_not_read_from_its_file_is_told_to_say_so(cached: bool, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BESIDE.format(cached))
    outcome = work(a_job(tmp_path, dataset=str(tmp_path / "mine.py"), data_root=tmp_path / "data"))
    assert outcome.ending == "done"
    assert any("write `cached = False`" in warning for warning in outcome.warnings) == cached
    bench = Bench(plugins.find_dataset(str(tmp_path / "mine.py")), tmp_path)
    found = KIT.run(bench, "what is called cached is read from its file")
    assert (found.status, "cached = False" in found.seen) == (("fails", True) if cached else ("holds", False))
