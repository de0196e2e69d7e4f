"""One run answers for every smaller budget, and a longer run goes on from a shorter one: the same digests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from small_runs import a_job, cut, done, work

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.runs.job import Job
from fedbench.runs.state import look, state_path
from fedbench.storage import Facts, Result
from fedbench.training import Engine, Progress

ALL = plugins.names("method")
OF_ANY_LENGTH = [name for name in ALL if not plugins.find_method(name).cls.depends_on_length]


def budget(results: Path, method: str, visits: int, **changes: Any) -> Job:
    """A run of `visits`, all on one grid: an evaluation every 4 visits, cohorts of 2 (or 1)."""
    settings = {f"{method}.local.steps": "2", **changes.pop("settings", {})}
    size = plugins.configure(plugins.find_method(method), {})["clients_per_round"]
    settings[f"{method}.clients_per_round"] = str(min(2, int(str(size))))
    return a_job(
        results, methods=[method], settings=settings, visits=visits, novel_clients=0, adapt_visits=None, **changes
    )


def result(a: Job) -> Result:
    """What `a` stores, run to its end."""
    done(a)
    return storage.read(storage.result_path(a.results, a.spec))


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The visits that were over when each round began; it grows while the test runs."""
    seen: list[int] = []
    original = Engine.round

    def counted(engine: Engine, progress: Progress) -> None:
        seen.append(progress.visits)
        original(engine, progress)

    monkeypatch.setattr(Engine, "round", counted)
    return seen


# ---------- one run for every smaller budget


def test_only_lg_fedavg_depends_on_the_length_of_the_run() -> None:
    assert set(ALL) - set(OF_ANY_LENGTH) == {"lg-fedavg"}


@pytest.mark.parametrize("method", OF_ANY_LENGTH)
def test_a_cut_result_is_that_of_a_straight_run(method: str, tmp_path: Path) -> None:
    """At four budgets of a run of 20 visits, by digest and by every number but times."""
    longest = result(budget(tmp_path / "long", method, 20))
    for visits in (4, 8, 12, 16):
        short, straight = longest.at(visits), result(budget(tmp_path / str(visits), method, visits))
        assert short.digest == straight.digest, visits
        assert short.spec == straight.spec
        assert short.best == straight.best
        assert short.earlier == straight.earlier
        assert [{**row.model_dump(), "seconds": 0} for row in short.history] == [
            {**row.model_dump(), "seconds": 0} for row in straight.history
        ]
        assert short.provenance["cut_from"] == longest.spec.identity
    assert longest.at(20) is longest


def test_the_budgets_of_one_run_choose_different_rounds(tmp_path: Path) -> None:
    """Otherwise the test above would not tell a chosen round from the last: validation falls at some look."""
    longest = result(budget(tmp_path, "pfedhn", 20))
    assert longest.earlier
    chosen = {longest.at(visits).best.visits for visits in (4, 8, 12, 16, 20)}
    assert len(chosen) > 1


def refusal(run: Result, visits: int) -> str:
    with pytest.raises(BadInput) as caught:
        run.at(visits)
    text = str(caught.value)
    assert "\n" not in text
    assert re.fullmatch(r"the run [0-9a-f]{16} of [a-z-]+ cannot be cut at -?\d+ visits: [^;]+; [^;]+", text), text
    return text


@pytest.mark.parametrize("visits", [6, 21, 24, 1000, 0, -4])
def test_budgets_off_the_grid_and_beyond_the_end_are_refused(visits: int, tmp_path: Path) -> None:
    run = result(budget(tmp_path, "fedavg", 20))
    why = (
        "it ended after 20; run it for that length" if visits > 20 else "it was evaluated at 4, 8, ..., 20; name one of"
    )
    assert why in refusal(run, visits)


def test_the_index_knows_what_a_result_answers(tmp_path: Path) -> None:
    """Planning asks the facts of a result, and not the result."""

    def answers(run: Result, visits: int) -> bool:
        try:
            return run.at(visits).spec.visits == visits
        except BadInput:
            return False

    runs = [result(budget(tmp_path, "fedavg", 20)), result(budget(tmp_path, "lg-fedavg", 20))]
    for run in runs:
        shorter = [visits for visits in range(-1, 30) if visits != 20 and answers(run, visits)]
        assert [visits for visits in Facts.of(run).cuts if visits != 20] == shorter


def test_a_run_that_cannot_be_cut_says_why(tmp_path: Path) -> None:
    run = result(budget(tmp_path / "lg", "lg-fedavg", 8))
    assert "depends on the length of the run" in refusal(run, 4)
    done(a := a_job(tmp_path / "novel", visits=8))
    assert "unseen clients joined at the end" in refusal(storage.read(storage.result_path(a.results, a.spec)), 4)
    old = result(budget(tmp_path / "old", "fedavg", 8)).model_copy(update={"format": 1, "earlier": None})
    assert "older format" in refusal(old, 4)


def test_a_longer_run_answers_for_a_shorter_one_and_nothing_is_made(tmp_path: Path, rounds: list[int]) -> None:
    """The files that are there stay as they were, and what is read is the cut."""
    longest = result(budget(tmp_path, "fedavg", 20))
    rounds.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    short = budget(tmp_path, "fedavg", 8)
    assert look(short).state == "done"
    assert look(short).read(short).digest == longest.at(8).digest
    assert work(short).ending == "done"
    assert rounds == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("visits", "changes"),
    [(6, {}), (24, {}), (8, {"seeds": [2]}), (8, {"settings": {"fedavg.local.lr": "0.1"}}), (8, {"keep_models": True})],
    ids=["off-the-grid", "longer", "other-seed", "other-settings", "with-models"],
)
def test_a_longer_run_does_not_answer_for_another(visits: int, changes: dict[str, Any], tmp_path: Path) -> None:
    result(budget(tmp_path, "fedavg", 20))
    assert look(budget(tmp_path, "fedavg", visits, **changes)).state == "missing"


def test_a_longer_run_of_other_code_does_not_answer(tmp_path: Path) -> None:
    longest = result(budget(tmp_path, "fedavg", 20)).model_copy(update={"code": "0" * 16})
    storage.write(tmp_path, longest.model_copy(update={"digest": storage.digest(longest.model_dump(mode="json"))}))
    assert look(budget(tmp_path, "fedavg", 8)).state == "missing"


# ---------- a longer run from a shorter one


@pytest.mark.parametrize("method", OF_ANY_LENGTH)
def test_a_longer_run_goes_on_from_a_shorter_one(
    method: str, tmp_path: Path, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 visits kept, then 20 that are killed after the 12th and started again: the digest of 20 straight ones."""
    straight = result(budget(tmp_path / "straight", method, 20))
    short = budget(tmp_path / "kept", method, 8, keep_state=True)
    result(short)
    rounds.clear()
    longer = budget(tmp_path / "kept", method, 20)
    cut(longer, 12 // longer_cohort(longer), monkeypatch)
    assert result(longer).digest == straight.digest
    assert rounds == list(range(8, 20, longer_cohort(longer)))
    assert state_path(short, 8).is_file()


def longer_cohort(a: Job) -> int:
    return int(str(a.spec.params["clients_per_round"]))


def test_the_longest_state_is_gone_on_from(tmp_path: Path, rounds: list[int]) -> None:
    """And one that is longer than the run, or off its grid, is not."""
    for visits in (4, 8, 10, 16):
        result(budget(tmp_path, "fedavg", visits, keep_state=True))
    storage.result_path(tmp_path, budget(tmp_path, "fedavg", 16).spec).unlink()
    rounds.clear()
    result(budget(tmp_path, "fedavg", 12))
    assert rounds == [8, 10]


@pytest.mark.parametrize("what", ["software", "instruction_set", "arithmetic", "code", "dataset_code"])
def test_a_state_of_another_program_is_not_used(
    what: str, tmp_path: Path, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another version of torch, another processor, another source of the method or the data set."""
    with monkeypatch.context() as patch:
        if what == "software":
            patch.setattr("fedbench.runs.job.software", lambda: {"torch": "0.0"})
        elif what in ("instruction_set", "arithmetic"):
            patch.setattr(f"fedbench.runs.job.{what}", lambda: "ABACUS")
        else:
            find = plugins.find_method if what == "code" else plugins.find_dataset
            other = Old(find("fedavg" if what == "code" else "digits"))
            patch.setattr(f"fedbench.plugins.{find.__name__}", lambda name: other)
        work(budget(tmp_path, "fedavg", 8, keep_state=True))
    rounds.clear()
    straight = result(budget(tmp_path / "straight", "fedavg", 20))
    rounds.clear()
    longer = budget(tmp_path, "fedavg", 20)
    (said,) = work(longer).warnings
    assert f"it was made with another {what}; the run starts afresh" in said
    assert storage.read(storage.result_path(tmp_path, longer.spec)).digest == straight.digest
    assert rounds == list(range(0, 20, 2))


class Old:
    """A plug-in as it was when its source was another."""

    def __init__(self, plugin: Any) -> None:
        self.plugin, self.code = plugin, "0" * 16

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plugin, name)


def test_a_method_that_depends_on_the_length_is_run_anew(tmp_path: Path, rounds: list[int]) -> None:
    result(budget(tmp_path, "lg-fedavg", 8, keep_state=True))
    rounds.clear()
    longer = result(budget(tmp_path, "lg-fedavg", 20))
    assert rounds[0] == 0
    assert longer.digest == result(budget(tmp_path / "straight", "lg-fedavg", 20)).digest
