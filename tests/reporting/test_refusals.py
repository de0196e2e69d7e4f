"""What must not be averaged, cannot be read or cannot be cut is told, and is in no mean."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_results import Maker, cell_of, put

from fedbench import storage
from fedbench.api import reproduce
from fedbench.errors import BadInput
from fedbench.experiments.schema import load
from fedbench.reporting import report
from fedbench.reporting.collection import collect
from fedbench.reporting.compose import gather
from fedbench.reporting.figures import draw
from fedbench.reporting.settings import by_setting
from fedbench.reporting.summary import headline
from fedbench.reporting.tables import (
    Entry,
    best_of,
    grids,
    prose,
    ranking,
)
from fedbench.runs.plan import plan
from fedbench.storage.gap import Gap, Missing

HALVES = """
import numpy as np
from pydantic.dataclasses import dataclass
from fedbench.partition import Kind

@dataclass(frozen=True)
class Halves(Kind):
    def shares(self, data, clients, seed):
        return np.full((clients, data.classes), 1.0 / clients)
"""


def test_mixed_versions_are_refused(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make(seed=42), make(seed=27, version="0.2.0"), make("local"))
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    assert made.status == 1
    assert "fedbench version: 0.1.0 (seed 42); 0.2.0 (seed 27)" in made.warnings[0]
    row = dict(made.tables[0].rows)["FedAvg"][0]
    assert (row.value, row.gap and row.gap.kind) == (None, "refused")
    assert "0.2.0 (seed 27)" in (made.out / "report.md").read_text()


def test_other_code_is_refused(tmp_path: Path, make: Maker) -> None:
    found = cell_of(tmp_path, make(seed=42), make(seed=27, code="beef"))
    assert found.runs == ()
    assert found.gap == Gap(
        Missing.REFUSED, "the runs differ in more than the seed: method's code: c0de (seed 42); beef (seed 27)"
    )


def test_other_code_of_a_partition_or_network_is_refused(tmp_path: Path, make: Maker) -> None:
    """Those that come from files: the spec names them, and a file may have been edited between two seeds."""
    before, after = (make(seed=s).model_copy(update={"codes": {"mine": c}}) for s, c in ((42, "c0de"), (27, "beef")))
    assert "code of mine: c0de (seed 42); beef (seed 27)" in str(cell_of(tmp_path, before, after).gap)


def test_an_experiment_does_not_show_runs_of_a_partition_that_has_changed(tmp_path: Path) -> None:
    rule, experiment = tmp_path / "halves.py", tmp_path / "mine.toml"
    rule.write_text(HALVES)
    experiment.write_text(
        'title = "Mine"\npaper = "none"\ncaption = "none"\nmetric = "pooled"\nmethods = ["fedavg"]\n'
        '[settings]\nall.local.steps = 1\n[presets.smoke]\nvisits = 2\nseeds = 1\n[[columns]]\nname = "one"\n'
        f'label = "One"\ndataset = "digits"\nclients = 2\npartition = "{rule}"\n'
    )
    results, out = tmp_path / "results", tmp_path / "out"
    reproduce(str(experiment), preset="smoke", results=results, out=out, jobs=1)
    assert len(gather(plan(load(str(experiment)), "smoke", results=results), results).collection.runs) == 1
    rule.write_text(HALVES.replace("1.0", "0.5"))
    assert gather(plan(load(str(experiment)), "smoke", results=results), results).collection.runs == ()


def test_partially_different_settings_are_refused(tmp_path: Path, make: Maker) -> None:
    """Seed 13 alone had another rate: that is no row of its own but one row gone wrong."""
    put(tmp_path, make(seed=42), make(seed=27), make(seed=13, params={"local.lr": 0.1}))
    (line,) = by_setting(collect(tmp_path).runs)[0].rows
    assert "local.lr: 0.005 (seed 42, 27); 0.1 (seed 13)" in str(line.cell.gap)


def test_settings_that_share_seeds_are_rows_of_their_own(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, *(make(seed=s, params={"local.lr": lr}) for s in (42, 27) for lr in (0.005, 0.1)))
    setting = by_setting(collect(tmp_path).runs)[0]
    assert sorted(line.title for line in setting.rows) == ["FedAvg (local.lr=0.005)", "FedAvg (local.lr=0.1)"]
    assert all(len(line.cell.runs) == 2 for line in setting.rows)
    assert draw(setting, "visits") is not None


def test_damaged_and_foreign_files_are_named_and_left_out(results: Path, tmp_path: Path) -> None:
    folder = results / "digits" / "fedavg"
    victim = sorted(folder.glob("*.json"))[0]
    edited = json.loads(victim.read_text())
    edited["best"]["test"]["correct"][0] += 1
    victim.write_text(json.dumps(edited))
    (folder / "foreign.json").write_text('{"hello": "world"}')
    (folder / "half.json").write_text('{"format": 1, "spec"')
    shutil.copy(sorted(folder.glob("*.json"))[1], folder / "copy.json")
    made = report(results, tmp_path / "out", figures=0)
    assert made.status == 1
    text = "\n".join(made.warnings)
    for name in (victim.name, "foreign.json", "half.json", "copy.json"):
        assert name in text
    assert len(made.warnings) == 4
    assert len(made.runs) == 14
    assert "foreign.json" in made.page.read_text()


def test_a_method_that_failed_is_a_gap_with_its_reason(results: Path, tmp_path: Path, make: Maker) -> None:
    """Its settings are those of the others, so it has a place in their tables; a damaged record is left out."""
    storage.write_failure(results, make("scaffold", novel=4).spec, "Traceback\nRuntimeError: no luck\n")
    storage.write_failure(results, make("fedavg", seed=99, novel=4).spec, "of a method that has other runs")
    storage.work_path(results, make("local", seed=98).spec, "error").write_text("not a record")
    made = report(results, tmp_path / "out", figures=0)
    row = dict(made.tables[0].rows)["scaffold"][0]
    assert (row.value, row.gap) == (None, Gap(Missing.FAILED, "RuntimeError: no luck"))
    assert len(made.tables[0].rows) == 6
    assert "is not the record of a failed run" in made.warnings[0]
    page = made.page.read_text()
    assert "scaffold, digits, 24 clients, seed 42" in page
    assert "of a method that has other runs" in page
    for path in storage.files(results):
        path.unlink()
    with pytest.raises(BadInput, match="failed: scaffold: RuntimeError: no luck"):
        report(results, tmp_path / "out")


def test_a_part_of_the_results_has_its_failures(tmp_path: Path, make: Maker) -> None:
    root = put(tmp_path / "r", make("fedavg"), make("local"))
    storage.write_failure(root, make("local", seed=7).spec, "RuntimeError: no luck")
    for part, failures in (
        (root, 1),
        (root / "digits", 1),
        (root / "digits" / "local", 1),
        (root / "digits/fedavg", 0),
    ):
        assert len(report(part, tmp_path / "out", figures=0).gaps) == failures


def test_a_mean_over_fewer_seeds_says_so_where_the_others_failed(tmp_path: Path, make: Maker) -> None:
    """Both methods have two seeds and failed with the third, which no finished run tells of."""
    put(tmp_path / "r", *(make(method, seed) for method in ("fedavg", "local") for seed in (42, 27)))
    for method in ("fedavg", "local"):
        storage.write_failure(tmp_path / "r", make(method, 13).spec, "RuntimeError: boom")
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    text = (made.out / "report.md").read_text()
    assert text.count("(n=2 of 3)") >= 4
    assert "over 2 seeds" in text
    assert made.status == 1
    assert "failed: fedavg, digits, 20 clients, 1000 visits, seed 13: RuntimeError: boom" in made.gaps


def test_a_failure_that_a_longer_run_answers_is_none(tmp_path: Path, make: Maker) -> None:
    """Unless it cannot be cut there, for its method depends on the length of the run."""
    put(tmp_path / "r", make("fedavg"), make("lg-fedavg", depends_on_length=True))
    for method in ("fedavg", "lg-fedavg"):
        shorter = make(method).spec.model_copy(update={"visits": 500})
        storage.write_failure(tmp_path / "r", shorter, "RuntimeError: boom")
    for at in ([], [500]):
        made = report(tmp_path / "r", tmp_path / "out", at=at, figures=0)
        assert made.gaps == ["failed: lg-fedavg, digits, 20 clients, 500 visits, seed 42: RuntimeError: boom"]


def test_methods_of_one_title_are_told_apart(tmp_path: Path, make: Maker) -> None:
    """As of a subclass of FedAvg that keeps its title: two rows with two values."""
    put(tmp_path, make("fedavg", correct=[9, 9]), make("own", title="FedAvg", correct=[2, 2]))
    rows = dict(ranking(by_setting(collect(tmp_path).runs)[0], "client mean").rows)
    assert {title: row[0].value for title, row in rows.items()} == {"FedAvg [fedavg]": 90, "FedAvg [own]": 20}


def test_variants_are_named_by_settings_that_only_one_of_them_has(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("own", correct=[9]), make("own", correct=[1], params={"mu": 0.1}))
    titles = [line.title for line in by_setting(collect(tmp_path).runs)[0].rows]
    assert sorted(titles) == ["own (mu=0.1)", "own (mu=absent)"]


def test_methods_of_one_title_are_told_apart_across_settings(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("fedavg", correct=[9, 9]), make("own", title="FedAvg", correct=[2]), make("local", correct=[1]))
    titles = {line.title for setting in by_setting(collect(tmp_path).runs) for line in setting.rows}
    assert titles == {"FedAvg [fedavg]", "FedAvg [own]", "Local"}


def test_a_variant_is_called_alike_wherever_it_stands(tmp_path: Path, make: Maker) -> None:
    """Also where it stands alone, so that a table of several settings has one row for it; a name may end in `code`."""
    for value in (1, 2):
        put(tmp_path, make("own", correct=[9, 9], params={"encode": value}))
    put(tmp_path, make("own", correct=[9], params={"encode": 2}))
    settings = by_setting(collect(tmp_path).runs)
    assert [sorted(line.title for line in each.rows) for each in settings] == [
        ["own (encode=1)", "own (encode=2)"],
        ["own (encode=2)"],
    ]
    assert "own (encode=1)" in headline(settings)
    put(tmp_path, make("own", correct=[9, 9], params={"encode": 3}))
    assert headline(by_setting(collect(tmp_path).runs)).startswith("3 variants of 1 method in 2 settings")


def test_a_results_folder_within_another_is_no_part_of_it(
    tmp_path: Path, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of one ablation, or a copy of another machine's: one sentence, and no warning a file."""
    inner = tmp_path / "ablations"
    put(inner, make("fedavg"), make("local"))
    put(inner / "deeper", make("fedavg"))
    with pytest.raises(BadInput, match=r"there are no results in .*; .*ablations is a results folder of its own"):
        report(tmp_path, tmp_path / "out")
    put(tmp_path, make("fedavg", seed=7))
    made = report(tmp_path, tmp_path / "out", figures=0)
    assert [run.spec.seed for run in collect(tmp_path).runs] == [7]
    assert made.warnings == made.gaps == []
    assert (
        f"{inner} is a results folder of its own and no part of this: `fedbench report {inner}` shows its 2 runs"
        in (made.notes)
    )
    assert any(note.startswith(f"{inner / 'deeper'} is a results folder") for note in made.notes)
    stray = next(inner.rglob("*.json")).rename(inner / "moved.json")
    assert [str(stray) in text for text in collect(tmp_path).left_out] == [True]
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}")
    assert len(collect(Path()).left_out) == 2


def test_names_of_ablations_say_what_is_unusual(tmp_path: Path, make: Maker) -> None:
    """One row departs in one thing: naming all things in all rows would hide it. What is left out is said once."""
    ablated: list[dict[str, float]] = [{}, {"lr": 0.2}, {"lr": 0.3}, {"k": 1}, {"k": 5}]
    for changes in ablated:
        put(tmp_path, make("own", correct=[9, 9], params={"lr": 0.1, "k": 50, **changes}))
    put(tmp_path, make("own", correct=[9], params={"lr": 0.1, "k": 7}))
    several, alone = by_setting(collect(tmp_path).runs)
    expected = ["own", "own (k=1)", "own (k=5)", "own (lr=0.2)", "own (lr=0.3)"]
    assert sorted(row.title for row in several.rows) == expected
    assert [row.title for row in alone.rows] == ["own (k=7)"]
    for setting in (several, alone):
        assert "own: lr=0.1, k=50, where the name of a row says nothing else" in setting.notes


@pytest.mark.parametrize("grid", [{"lr": (1, 2), "k": (3, 4)}, {"lr": (1, 2)}])
def test_names_of_grids_say_everything(grid: dict[str, tuple[int, int]], tmp_path: Path, make: Maker) -> None:
    """No value is usual there, or there is one thing to say."""
    cells = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    for cell in cells:
        put(tmp_path, make("own", correct=[9, 9], params=cell))
    (setting,) = by_setting(collect(tmp_path).runs)
    said = [{part.split("=")[0] for part in row.title[5:-1].split(", ")} for row in setting.rows]
    assert said == [set(grid)] * len(cells)
    assert not any("says nothing else" in note for note in setting.notes)


ANY_NAME = ["samples", "width", "device", "visits", "seed", "code", "title", "identity", "dataset"]


@pytest.mark.parametrize("name", ANY_NAME)
def test_a_hyperparameter_may_be_called_as_anything_else_of_a_run(tmp_path: Path, make: Maker, name: str) -> None:
    """Its values are rows of their own, each with its accuracy, and seeds of two values are never averaged."""
    recorded = {"provenance": {"samples": "a"}}
    for value, correct in ((5, [9, 9]), (50, [2, 2])):
        put(
            tmp_path / "both",
            *(make("own", seed, correct=correct, params={name: value}, **recorded) for seed in (1, 2)),
        )
    (setting,) = by_setting(collect(tmp_path / "both").runs)
    values = {title: row[0].value for title, row in ranking(setting, "client mean").rows}
    shown = {title.partition("(")[2].removeprefix("hyperparameter "): value for title, value in values.items()}
    assert shown == {f"{name}=5)": 90, f"{name}=50)": 20}
    mixed = [make("own", seed, correct=[9], params={name: seed}, **recorded) for seed in (1, 2)]
    found = cell_of(tmp_path / "mixed", *mixed)
    assert found.gap is not None
    assert f"{name}: 1 (seed 1); 2 (seed 2)" in found.gap.reason


def test_a_hyperparameter_hides_no_setting_of_its_name(tmp_path: Path, make: Maker) -> None:
    runs = [make("own", seed, correct=[9], params={"width": 3}, width=seed) for seed in (1, 2)]
    found = cell_of(tmp_path, *runs)
    assert found.gap is not None
    assert found.gap.reason.endswith("width: 1 (seed 1); 2 (seed 2)")


def test_rows_that_would_be_called_alike_are_numbered(tmp_path: Path, make: Maker) -> None:
    """As of the number 1 and the text "1", so that neither takes the place of the other."""
    put(tmp_path, make("own", correct=[9], params={"mu": 1}), make("own", correct=[2], params={"mu": "1"}))
    (setting,) = by_setting(collect(tmp_path).runs)
    assert sorted(row.title for row in setting.rows) == ["own", "own (2)"]
    assert len(setting.cells) == 2


def test_runs_of_other_samples_are_refused(tmp_path: Path, make: Maker) -> None:
    other = [make(seed=seed, provenance={"samples": samples}) for seed, samples in ((42, "a"), (27, "b"))]
    found = cell_of(tmp_path, *other, make(seed=13))
    assert found.gap is not None
    assert "samples: a (seed 42); b (seed 27)" in found.gap.reason


def test_a_run_that_went_on_from_a_shorter_one_was_not_beside_it(tmp_path: Path, make: Maker) -> None:
    """Its seconds hold those of the shorter one: 10.1 until 500 visits, 20.1 until 1000."""

    def finished(minute: int, second: int, run: storage.Result) -> storage.Result:
        made = {**run.provenance, "finished": f"2026-01-01T00:{minute:02}:{second:02}+00:00"}
        return run.model_copy(update={"provenance": made})

    long = make("fedavg")
    short = long.at(500)
    short = short.model_copy(update={"provenance": {k: v for k, v in short.provenance.items() if k != "cut_from"}})
    runs = collect(put(tmp_path / "on", finished(1, 0, short), finished(1, 12, long))).runs
    assert [run.beside for run in runs] == [False, False]
    other = make("local")
    runs = collect(put(tmp_path / "beside", finished(1, 0, other), finished(1, 12, long))).runs
    assert [run.beside for run in runs] == [True, True]


def test_a_budget_that_is_named_twice_is_one(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make(), make("local"))
    made = report(tmp_path / "r", tmp_path / "out", at=[1000, 1000], figures=0)
    assert (made.status, made.warnings) == (0, [])


def test_different_torch_is_noted(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make(seed=42), make(seed=27, torch="2.7.0"), make("local"))
    text = (report(tmp_path / "r", tmp_path / "out", figures=0).out / "report.md").read_text()
    assert "runs were made with different versions of torch: 2.6.0, 2.7.0" in text


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["history"][-1].update(seconds=float("inf")), "history.20.seconds"),
        (lambda r: r["history"][3].update(val_client_mean=float("nan")), "history.3.val_client_mean"),
        (lambda r: r["provenance"].update(software="x"), "software"),
        (lambda r: r["best"]["test"].update(correct=[1], total=[2], loss=[0.5]), "test scores of 1 clients"),
    ],
)
def test_impossible_numbers_are_named_and_left_out(
    edit: Callable[[Any], None], message: str, tmp_path: Path, make: Maker
) -> None:
    path = storage.write(tmp_path / "r", make())
    put(tmp_path / "r", make("local"))
    content = json.loads(path.read_text())
    edit(content)
    content["digest"] = storage.digest(content)
    path.write_text(json.dumps(content))
    made = report(tmp_path / "r", tmp_path / "out", figures=1)
    assert len(made.runs) == 1
    assert path.name in made.warnings[0]
    assert message in made.warnings[0]


def test_files_in_other_places_are_named(results: Path, tmp_path: Path) -> None:
    (results / "top.json").write_text("{}")
    (results / "digits" / "foreign.json").write_text("{}")
    made = report(results, tmp_path / "out", figures=0)
    assert made.status == 1
    assert [name in "\n".join(made.warnings) for name in ("top.json", "foreign.json")] == [True, True]
    alone = report(results / "digits", tmp_path / "out", figures=0)
    assert len(alone.runs) == len(made.runs) == 15, "the folder of one data set is reported on like any other"


def test_a_reference_that_is_not_everywhere_is_noted(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"), make("local"), make("local", visits=500), make("fedper", visits=500))
    made = report(tmp_path / "r", tmp_path / "out", figures=0, reference="fedavg")
    text = (made.out / "report.md").read_text()
    assert "digits, 20 clients, 500 visits: no differences, for fedavg has no results there" in text
    again = report(tmp_path / "r", tmp_path / "out", figures=0, reference="FEDAVG")
    assert again.tables[0] == made.tables[0]


def test_what_the_report_before_had_is_removed(results: Path, tmp_path: Path, make: Maker) -> None:
    """And nothing else that lies there."""
    report(results, tmp_path / "out", figures=1)
    (tmp_path / "out" / "tables" / "mine.md").write_text("mine")
    assert (tmp_path / "out" / "tables" / "accuracy-pooled-unseen.md").exists()
    for path in storage.files(results):
        path.unlink()
    put(results, make("fedavg"), make("local"))
    report(results, tmp_path / "out", figures=0)
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert "mine.md" in left
    assert not any("unseen" in name or name.endswith(".png") for name in left)


def test_nothing_to_report_is_said(tmp_path: Path, results: Path) -> None:
    with pytest.raises(BadInput, match="there is no results folder"):
        report(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="there are no results"):
        report(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(BadInput, match="Did you mean 'pfedhn'"):
        report(results, tmp_path / "out", reference="pfedh", figures=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        report(results, tmp_path / "file", figures=0)


def test_results_of_different_lengths_are_different_tables(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make(), make(visits=500), make(evaluate_every=100), make("local"))
    found = by_setting(collect(tmp_path).runs)
    assert sorted(setting.label for setting in found) == [
        "digits, 20 clients, 1000 visits, evaluated every 100 visits",
        "digits, 20 clients, 1000 visits, evaluated every 50 visits",
        "digits, 20 clients, 500 visits, evaluated every 50 visits",
    ]
    assert len({setting.name for setting in found}) == 3


def test_best_of_one_is_nothing_special() -> None:
    assert best_of({"a": Entry(1.0)}) is None
    assert best_of({"a": Entry(1.0), "b": Entry(2.0)}) == "b"
    assert best_of({"a": Entry(-1.0), "b": Entry(gap=Gap(Missing.NOT_RUN)), "c": Entry(-2.0)}) == "a"


def test_equals_are_both_best(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("fedavg", correct=[8, 6]), make("local", correct=[6, 8]), make("fedper", correct=[1, 1]))
    rows = dict(grids(by_setting(collect(tmp_path).runs))[0].rows)
    assert [rows[title][0].best for title in ("FedAvg", "Local", "FedPer")] == [True, True, False]


# ---------------------------------------------------------------- cutting


def test_a_report_at_smaller_budgets_is_the_report_of_shorter_runs(tmp_path: Path, make: Maker) -> None:
    """Every number of the table is the one of the results cut by hand; settings are told apart by their visits."""
    full = [make(method, seed) for method in ("fedavg", "local") for seed in (42, 27)]
    put(tmp_path / "r", *full)
    made = report(tmp_path / "r", tmp_path / "out", at=[250, 500], figures=0)
    assert {run.spec.visits for run in made.runs} == {250, 500}
    assert len(made.runs) == 8
    labels = [column.label for column in made.tables[0].columns]
    value = dict(made.tables[0].rows)["FedAvg"][labels.index("digits, 20 clients, 250 visits")].value
    expected = [100 * result.at(250).best.client_mean for result in full if result.spec.method == "fedavg"]
    assert value == pytest.approx(np.mean(expected))


def test_what_cannot_be_cut_is_noted_and_never_dropped(tmp_path: Path, make: Maker) -> None:
    put(
        tmp_path / "r",
        make("fedavg"),
        make("lg-fedavg", title="LG-FedAvg", depends_on_length=True),
        make("local", modern=False),
    )
    made = report(tmp_path / "r", tmp_path / "out", at=[500], figures=0)
    text = (made.out / "report.md").read_text()
    assert "of lg-fedavg cannot be cut at 500 visits: the method depends on the length of the run" in text
    assert "of local cannot be cut at 500 visits: the file is of an older format" in text
    assert {title: str(row[0].gap.kind) for title, row in made.tables[0].rows if row[0].gap} == {
        "LG-FedAvg": "not cut",
        "Local": "not cut",
    }
    assert "lg-fedavg cannot be cut" in made.page.read_text().replace('<span class="n">', "").replace("</span>", "")
    with pytest.raises(BadInput, match="can be cut at 475 visits"):
        report(tmp_path / "r", tmp_path / "out", at=[475], figures=0)


def test_a_method_has_one_row_in_all_settings_also_where_it_is_a_gap(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"), make("lg-fedavg", title="LG-FedAvg", depends_on_length=True))
    made = report(tmp_path / "r", tmp_path / "out", at=[500, 1000], figures=0)
    cells = dict(made.tables[0].rows)["LG-FedAvg"]
    assert [str(cell.gap.kind) if cell.gap else "" for cell in cells] == ["", "not cut"]
    assert sorted(title for title, _ in made.tables[0].rows) == ["FedAvg", "LG-FedAvg"]


def test_runs_that_cannot_be_cut_for_the_same_reason_are_one_note(tmp_path: Path, make: Maker) -> None:
    """And settings that differ in their visits alone stand together, whichever has most runs: the longest first."""
    put(tmp_path / "r", *(make("fedavg", seed) for seed in (42, 27, 13)), make("local").at(500))
    made = report(tmp_path / "r", tmp_path / "out", at=[50, 500, 1000, 2000], figures=0)
    reason = "cannot be cut at 2000 visits: it ended after"
    many, one = (text for text in made.uncut if "2000" in text)
    assert many == f"3 runs of fedavg {reason} 1000; run it for that length"
    assert one == f"the run {make('local').at(500).spec.identity} of local {reason} 500; run it for that length"
    assert [column.label.split(", ")[2] for column in made.tables[0].columns] == [
        "1000 visits",
        "500 visits",
        "50 visits",
    ]


def test_a_run_of_the_right_length_is_used_beside_a_longer_one(tmp_path: Path, make: Maker) -> None:
    """And a method that cannot be cut is there if it was run for that length; nothing is said of its longer run."""
    short = make("lg-fedavg", depends_on_length=True, visits=500)
    put(tmp_path / "r", make("lg-fedavg", depends_on_length=True), short, make("fedavg"), make("fedavg").at(500))
    made = report(tmp_path / "r", tmp_path / "out", at=[500], figures=0)
    assert sorted(run.spec.method for run in made.runs) == ["fedavg", "lg-fedavg"]
    assert not any("cannot be cut" in note for note in made.notes)
    assert made.status == 0


def test_the_shortest_of_longer_runs_is_cut(tmp_path: Path, make: Maker) -> None:
    """Whatever their names are: a cell has its seeds from runs of one length, as long as there are some."""
    for seed in (42, 27, 13):
        put(tmp_path / "r", make("fedavg", seed, visits=2000), make("fedavg", seed, visits=3000, code="beef"))
    found = collect(tmp_path / "r", at=[1000])
    assert [run.whole_visits for run in found.runs] == [2000] * 3
    made = report(tmp_path / "r", tmp_path / "out", at=[1000], figures=0)
    assert made.status == 0


def test_a_failure_that_has_a_result_since_is_none(tmp_path: Path, make: Maker) -> None:
    """As one has that came from another machine."""
    root = tmp_path / "r"
    path = storage.write(root, make("fedavg"))
    storage.write_failure(root, make("fedavg").spec, "Traceback: boom")
    (error,) = (root / storage.WORK).glob("*.error")
    stamp = error.stat().st_mtime
    os.utime(path, (stamp + 1, stamp + 1))
    assert report(root, tmp_path / "out", figures=0).status == 0
    os.utime(path, (stamp - 1, stamp - 1))
    assert report(root, tmp_path / "out", figures=0).status == 1


def test_runs_one_after_the_other_are_not_beside_each_other(tmp_path: Path, make: Maker) -> None:
    """Ends are whole seconds: of 562.61 .. 563 and 562.52 .. 564 the first may have ended before the second began."""
    first, second, third = make("fedavg", visits=50), make("local", visits=50), make("fedper", visits=500)
    for result, end in ((first, "00:00:03"), (second, "00:00:04"), (third, "00:00:14")):
        facts = {**result.provenance, "finished": f"2026-01-01T{end}+00:00"}
        put(tmp_path / "r", result.model_copy(update={"provenance": facts}))
    # they took 1.1, 1.1 and 10.1 seconds
    assert [run.spec.method for run in collect(tmp_path / "r").runs if run.beside] == []
    late = {**third.provenance, "finished": "2026-01-01T00:00:08+00:00"}
    put(tmp_path / "r", third.model_copy(update={"provenance": late}))
    assert sorted(run.spec.method for run in collect(tmp_path / "r").runs if run.beside) == [
        "fedavg",
        "fedper",
        "local",
    ]


def test_a_method_that_failed_has_the_title_of_its_code(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"))
    storage.write_failure(tmp_path / "r", make("local").spec, "Traceback: boom")
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    assert [title for title, _ in made.tables[0].rows] == ["FedAvg", "Local"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("A & B", "A & B"), ("A&lt;B", "A&amp;lt;B"), ("A&#60;B", "A&amp;#60;B"), ("A<B", "A&lt;B"), ("a_b", "a_b")],
)
def test_a_title_is_never_taken_for_markup(text: str, shown: str) -> None:
    assert prose(text) == shown
