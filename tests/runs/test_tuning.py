"""Tuning: equal effort, the same choice however it was run, visits that add up, mistakes in one sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fedbench.api
from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs.comparison import Comparison
from fedbench.runs.job import Job, Outcome
from fedbench.runs.settings_file import elsewhere, read_settings
from fedbench.runs.tuning import (
    FIRST_SEED,
    Rungs,
    Trial,
    Tuned,
    Tuning,
)
from fedbench.runs.workers import Workers
from fedbench.storage import SEEDS, seed_list

METHODS = ("fedavg", "per-fedavg", "lg-fedavg")


def tuning(results: Path, *, trials: int = 8, visits: str = "10..40", **changes: Any) -> Tuning:
    comparison = Comparison(
        methods=METHODS,
        seeds=[42],
        evaluate_every=5,
        device="cpu",
        results=results,
        settings={f"{method}.local.steps": "2" for method in changes.get("methods", METHODS)},
    )
    comparison = replace(comparison, **{k: v for k, v in changes.items() if k != "search"})
    return Tuning(
        comparison=comparison,
        rungs=Rungs.of(trials, visits, 5),
        search=changes.get("search", {}),
    )


def found(search: Tuning, processes: int = 1) -> list[Tuned]:
    workers = Workers(jobs=processes)
    ended = search.run(lambda rung, jobs: workers.run(jobs, lambda notes: None, lambda outcome: None))
    assert ended is not None
    result, lost = ended
    assert lost == []
    return result


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tuned]]:
    results = tmp_path_factory.mktemp("straight")
    return results, found(tuning(results))


def test_rungs_double_visits_and_halve_trials() -> None:
    assert Rungs.of(16, "200..1600", 50) == Rungs((200, 400, 800, 1600), (16, 8, 4, 2))
    assert Rungs.of(3, "50", 50) == Rungs((50,), (3,))
    assert Rungs.of(8, "100..800", 50) == Rungs((100, 200, 400, 800), (8, 4, 2, 2)), "the last two go on"
    assert Rungs.of(1, "50", 50) == Rungs((50,), (1,))


@pytest.mark.parametrize(
    ("trials", "visits", "remedy"),
    [
        (16, "200..1500", "200..1600"),
        (16, "120..960", "begin with 100"),
        (6, "50..200", "take 8, or another multiple of 4"),
        (0, "50..100", "take 2, or another multiple of 2"),
        (4, "fast", "write LOW..HIGH"),
        (4, "0..100", "write LOW..HIGH"),
        (4, "200..100", "write LOW..HIGH"),
        (4, "", "write LOW..HIGH"),
    ],
)
def test_rungs_that_cannot_be_are_refused_with_the_remedy(trials: int, visits: str, remedy: str) -> None:
    with pytest.raises(BadInput) as caught:
        Rungs.of(trials, visits, 50)
    assert remedy in str(caught.value)


def test_every_method_gets_the_same_trials_and_visits(straight: tuple[Path, list[Tuned]]) -> None:
    """8 trials of 10 visits, 4 of them 10 more, 2 of them 20 more: 80 + 40 + 40 = 160 visits.

    LG-FedAvg depends on the length of the run: 80 + 4 * 20 + 2 * 40 = 240, and its file says so.
    """
    by_method = {each.method: each for each in straight[1]}
    assert {name: each.trials for name, each in by_method.items()} == dict.fromkeys(METHODS, 8)
    assert {name: each.visits for name, each in by_method.items()} == {
        "fedavg": 160,
        "per-fedavg": 160,
        "lg-fedavg": 240,
    }
    assert {name: each.anew for name, each in by_method.items()} == {
        "fedavg": False,
        "per-fedavg": False,
        "lg-fedavg": True,
    }
    assert by_method["fedavg"].points == 4  # its grid, each point under two seeds
    assert by_method["per-fedavg"].points == 8


def test_the_visits_add_up_from_the_stored_trials(straight: tuple[Path, list[Tuned]]) -> None:
    """Counted independently: of a trial that went on, the longest run holds all its visits."""
    results, outcomes = straight
    for each in outcomes:
        longest: dict[tuple[str, int], list[int]] = {}
        for path in storage.files(results / storage.TRIALS):
            spec = storage.read(path).spec
            if spec.method == each.method:
                longest.setdefault((spec.family, spec.seed), []).append(spec.visits)
        spent = sum(sum(v) if each.anew else max(v) for v in longest.values())
        assert each.visits == spent


def test_the_choice_is_the_best_on_validation(straight: tuple[Path, list[Tuned]]) -> None:
    """Among the settings of the last rung, by the mean over seeds, and test rows have no say."""
    results, outcomes = straight
    for each in outcomes:
        last: dict[str, list[float]] = {}
        settings: dict[str, dict[str, Any]] = {}
        for path in storage.files(results / storage.TRIALS):
            result = storage.read(path)
            if result.spec.method == each.method and result.spec.visits == 40:
                key = result.spec.model_copy(update={"seed": 0}).identity
                last.setdefault(key, []).append(result.best.val_accuracy)
                settings[key] = result.spec.params
        best = max(sum(v) / len(v) for v in last.values())
        assert each.score == pytest.approx(best)
        chosen = [key for key in last if all(settings[key][n] == v for n, v in each.settings.items())]
        assert len(chosen) == 1
        assert sum(last[chosen[0]]) / len(last[chosen[0]]) == pytest.approx(best)


def test_trials_are_kept_apart_and_leave_no_states(straight: tuple[Path, list[Tuned]]) -> None:
    results, _ = straight
    seeds = {storage.read(path).spec.seed for path in storage.files(results / storage.TRIALS)}
    assert seeds == {FIRST_SEED, FIRST_SEED + 1}
    assert not seeds & {*SEEDS, *seed_list(100)}
    assert list(storage.files(results)) == []
    assert not list(results.rglob("*.state"))


def test_what_is_done_is_not_run_again(straight: tuple[Path, list[Tuned]]) -> None:
    results, outcomes = straight
    lacking: list[Job] = []

    def none(rung: int, jobs: Sequence[Job]) -> list[Outcome]:
        lacking.extend(jobs)
        return []

    assert tuning(results).run(none) == (outcomes, [])
    assert lacking == []


@pytest.mark.slow
def test_two_jobs_choose_as_one(straight: tuple[Path, list[Tuned]], tmp_path: Path) -> None:
    assert found(tuning(tmp_path), processes=2) == straight[1]


@pytest.mark.slow
def test_killed_again_and_again_it_chooses_alike(straight: tuple[Path, list[Tuned]], tmp_path: Path) -> None:
    """SIGKILL after every few results, then the same search: the same trials, the same choice, the same visits."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; from pathlib import Path; "
        "names = runpy.run_path(sys.argv[0]); names['found'](names['tuning'](Path(sys.argv[1])))"
    )
    deaths, ended = 0, None
    while ended is None:
        trials = tmp_path / storage.TRIALS
        stored = len(list(trials.glob("*/*/*.json")))
        process = subprocess.Popen([sys.executable, "-c", code, __file__, str(tmp_path)], stderr=subprocess.DEVNULL)
        while process.poll() is None:
            here = len(list(trials.glob("*/*/*.json")))
            if here >= stored + 11:
                process.send_signal(signal.SIGKILL)
                process.wait()
        if process.returncode == -signal.SIGKILL:
            deaths += 1
        else:
            ended = process.returncode
    assert ended == 0
    assert deaths >= 2
    assert found(tuning(tmp_path)) == straight[1]
    names = [
        {p.relative_to(r / storage.TRIALS) for p in storage.files(r / storage.TRIALS)} for r in (tmp_path, straight[0])
    ]
    assert names[0] == names[1]


def test_the_settings_file_says_it_all_and_is_read_again(straight: tuple[Path, list[Tuned]], tmp_path: Path) -> None:
    results, outcomes = straight
    path = tmp_path / "tuned.toml"
    tuning(results).write(path, outcomes)
    content = tomllib.loads(path.read_text())
    assert content["tuning"]["seeds"] == [FIRST_SEED, FIRST_SEED + 1]
    assert content["tuning"]["visits"] == [10, 20, 40]
    assert content["tuning"]["trials"] == [8, 4, 2]
    for each in outcomes:
        facts = content["methods"][each.method]
        assert (facts["trials"], facts["visits"], facts["code"]) == (each.trials, each.visits, each.code)
        assert Path(facts["where"]).is_dir()
        known = read_settings(path)[each.method]
        assert known.words == f"tuned, 8 trials, {each.visits} visits"
    comparison = replace(tuning(results).comparison, settings_file=path, settings={})
    for job in comparison.jobs():
        chosen = next(each for each in outcomes if each.method == job.spec.method)
        assert {name: job.spec.params[name] for name in chosen.settings} == chosen.settings
        assert job.spec.params["local.steps"] == 2  # as all trials had it
    assert comparison.warnings == []
    assert comparison.efforts["fedavg"] == "tuned, 8 trials, 160 visits"
    said = replace(comparison, settings={"fedavg.local.lr": "0.02", "all.local.lr": "0.03"})
    assert [job.spec.params["local.lr"] for job in said.jobs()] == [0.02, 0.03, 0.03]


def test_a_method_that_was_not_tuned_or_has_changed_is_named(
    straight: tuple[Path, list[Tuned]], tmp_path: Path
) -> None:
    results, outcomes = straight
    path = tmp_path / "tuned.toml"
    tuning(results).write(path, [replace(each, code="0" * 16) for each in outcomes])
    comparison = replace(tuning(results).comparison, methods=["fedavg", "pfedhn"], settings_file=path, settings={})
    assert len(comparison.warnings) == 2
    assert "says nothing of pfedhn: its defaults are used" in comparison.warnings[0]
    assert "fedavg was tuned with other code" in comparison.warnings[1]
    assert comparison.efforts["pfedhn"] == "defaults"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "methods = 1",
        "[methods.fedavg]\nsettings = 3",
        "[methods.fedavg]\ntrials = 1",
        "[methods.fedavg]\nsettings = {}\ncode = '0'\nvisits = 10\ntrials = inf",
    ],
)
def test_another_file_is_no_settings_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(BadInput, match="is no settings file as `fedbench tune` writes it"):
        read_settings(tmp_path / "other.toml")


def test_a_settings_file_may_not_say_what_it_was_tuned_on(tmp_path: Path) -> None:
    spec = tuning(tmp_path).comparison.jobs()[0].spec
    for text in ("methods = {}", "methods = {}\ntuning = 3"):
        (tmp_path / "other.toml").write_text(text)
        assert elsewhere(tmp_path / "other.toml", spec) == ""


DIVERGING = {"fedavg.local.lr": "1e30,2e30"}  # overflows float32 in a step or two


@pytest.mark.parametrize("methods", [("fedavg",), ("fedavg", "local")])
def test_a_method_whose_trials_all_diverge_is_named_and_the_others_are_tuned(
    methods: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "tuned.toml"
    with pytest.raises(fedbench.api.Untuned, match=r"^all 2 trials of fedavg .* at 10 visits: search smaller") as e:
        fedbench.api.tune(
            methods,
            trials=2,
            visits="10..20",
            evaluate_every=5,
            search=DIVERGING,
            settings={f"{method}.local.steps": 2 for method in methods},
            jobs=1,
            results=tmp_path,
            out=out,
        )
    assert [each.method for each in e.value.found] == list(methods[1:])
    assert out.exists() == (len(methods) > 1)
    assert list((tmp_path / "tuning" / storage.WORK).glob("*.state")) == []
    if out.exists():
        alone = tuning(tmp_path, trials=2, visits="10..20", methods=methods[1:])
        assert found(alone) == e.value.found
        assert list(read_settings(out)) == ["local"]


def test_a_field_that_is_not_in_the_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no method in this search called 'pfedhn'"):
        tuning(tmp_path, search={"pfedhn.local.lr": "1"}).searches()


def test_what_the_user_has_set_stays_fixed(tmp_path: Path) -> None:
    """Also where it would be searched otherwise, and where it was said of all methods."""
    settings = {"per-fedavg.alpha": 0.03, "all.local.lr": 0.02, "Per-FedAvg.local.lr": 0.04}
    search = tuning(tmp_path, methods=["per-fedavg"], settings={"all.local.lr": 0.02}, trials=4, visits="10")
    (only,) = search.searches()
    assert list(only.space) == ["alpha"]
    assert {search.job(only, trial, 0).spec.params["local.lr"] for trial in only.trials(4)} == {0.02}
    fixed = tuning(tmp_path, methods=["per-fedavg"], settings=settings, search={"Per-FedAvg.local.steps": "1,2"})
    assert fixed.searches()[0].fixed == {"alpha": 0.03, "local.lr": 0.04}


def test_what_is_fixed_is_not_searched(tmp_path: Path) -> None:
    search = {"per-fedavg.alpha": "0.1,0.2"}
    with pytest.raises(BadInput, match=r"per-fedavg\.alpha is to stay fixed and to be searched"):
        tuning(tmp_path, methods=["per-fedavg"], settings={"per-fedavg.alpha": 0.03}, search=search).searches()
    with pytest.raises(BadInput, match="nothing of fedavg is marked to be searched and not fixed"):
        tuning(tmp_path, methods=["fedavg"], settings={"all.local.lr": 0.03}).searches()


@pytest.mark.parametrize(
    ("scores", "default", "left"),
    [
        ([0.1, 0.4, 0.3, 0.2], None, [1, 2]),
        ([0.1, 0.4, 0.3, 0.2], 0, [0, 1]),
        ([0.4, 0.1, 0.3, 0.2], 0, [0, 2]),
        ([0.1, 0.5, 0.4, 0.3, 0.2], 0, [0, 1, 2]),
        ([0.1, 0.5], 0, [0, 1]),
        ([0.5], 0, [0]),
        ([float("-inf"), 0.5, 0.4, 0.3], 0, [1, 2]),
        ([0.5, float("-inf"), float("-inf")], None, [0]),
        ([float("-inf"), float("-inf")], 0, []),
    ],
)
def test_the_defaults_are_never_dropped_unless_they_fail(
    scores: list[float], default: int | None, left: list[int], tmp_path: Path
) -> None:
    search = tuning(tmp_path).searches()[0]
    search.default, search.scores = default, {point: [score] for point, score in enumerate(scores)}
    assert search.survivors() == left


def test_settings_are_ranked_over_the_seeds_that_all_of_them_had(tmp_path: Path) -> None:
    """The second seed is a hard one: who was spared it is not better for that."""
    search = tuning(tmp_path).searches()[0]
    search.default, search.scores = None, {0: [0.9, 0.3], 1: [0.8, 0.4], 2: [0.7]}
    assert search.ranked() == [0, 1, 2]
    assert search.survivors() == [0, 1]
    assert search.score(0) == 0.9
    search.scores = {0: [0.9, 0.3], 1: [0.8, 0.6]}
    assert search.ranked() == [1, 0]


def test_failed_trials_are_counted_once_and_not_trained_again(tmp_path: Path) -> None:
    search = {"local.local.lr": "1e30,0.01"}
    (tuned,) = found(tuning(tmp_path, trials=4, visits="10..40", methods=("local",), search=search))
    assert tuned.failed == 2  # of four: one setting under two seeds
    assert tuned.settings == {"local.lr": 0.01}
    stored = [storage.read(path).spec for path in storage.files(tmp_path / storage.TRIALS)]
    assert {spec.visits for spec in stored if spec.params["local.lr"] == 1e30} == {10}


def test_visits_of_rungs_that_cannot_go_on_from_each_other_are_counted_anew(tmp_path: Path) -> None:
    """Cohorts of 3 end no round at 10 visits, so that the state of the first rung lies between two rounds."""
    settings = {"fedavg.clients_per_round": "3", "fedavg.local.steps": "2"}
    options: dict[str, Any] = {"trials": 2, "visits": "10..20", "methods": ("fedavg",), "settings": settings}
    (tuned,) = found(tuning(tmp_path, **options))
    assert (tuned.anew, tuned.visits) == (True, 2 * 10 + 2 * 20)


def test_visits_are_counted_again_where_the_state_of_a_rung_is_gone(tmp_path: Path) -> None:
    """The last rung of a search keeps no state: a longer search has its results, and trains them from the start.

    2 trials of 10 visits, then of 20: 20 + 40. Nothing is lost, nor counted otherwise, where the search is begun again.
    """
    options: dict[str, Any] = {"trials": 2, "methods": ("fedavg",)}
    (first,) = found(tuning(tmp_path, visits="10", **options))
    assert (first.anew, first.visits) == (False, 20)
    for _ in range(2):
        (longer,) = found(tuning(tmp_path, visits="10..20", **options))
        assert (longer.anew, longer.visits) == (True, 20 + 40)
    (straight,) = found(tuning(tmp_path / "other", visits="10..20", **options))
    assert (straight.anew, straight.visits) == (False, 20 + 20)
    assert (straight.settings, straight.score) == (longer.settings, longer.score)


def test_a_setting_that_failed_under_one_seed_is_not_chosen(tmp_path: Path) -> None:
    """Though it leads under the seed that all settings had."""
    search = tuning(tmp_path).searches()[0]
    search.default, search.scores = None, {0: [0.9, float("-inf")], 1: [0.8]}
    search.left = search.survivors()
    assert search.ranked()[0] == 0
    assert tuning(tmp_path)._tuned(search).settings == search.points[1]


def test_defaults_are_known_among_the_points(tmp_path: Path) -> None:
    assert [each.default for each in tuning(tmp_path).searches()] == [0, 0, 0]
    (other,) = tuning(tmp_path, methods=["fedavg"], search={"fedavg.local.lr": "0.3,0.4"}).searches()
    assert other.default is None, "the user's grid leaves them out"


def test_a_choice_is_not_worse_than_the_defaults(straight: tuple[Path, list[Tuned]]) -> None:
    """They reach the last rung with whatever is chosen."""
    results, outcomes = straight
    for search, chosen in zip(tuning(results).searches(), outcomes, strict=True):
        assert search.default is not None
        run = tuning(results).job(search, Trial(search.default, FIRST_SEED), 2)
        stored = storage.read(storage.result_path(run.results, run.spec))
        assert stored.best.val_accuracy <= chosen.score or chosen.settings == search.points[search.default]


def test_seeds_go_round_the_points_that_are_left(tmp_path: Path) -> None:
    search = tuning(tmp_path).searches()[0]
    search.left = [0, 2, 3]
    assert search.trials(8) == [
        Trial(point, FIRST_SEED + i) for point, seeds in ((0, 3), (2, 3), (3, 2)) for i in range(seeds)
    ]
