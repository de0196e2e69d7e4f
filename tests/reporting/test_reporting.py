"""Statistics against values computed by hand, tables in all their forms, refusals, figures, scale."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.experiments.schema import Published
from fedbench.reporting import report
from fedbench.reporting import tables as forms
from fedbench.reporting.cells import Cell, collect, make_cell, read
from fedbench.reporting.figures import draw, styles
from fedbench.reporting.figures.drawing import _spread, curve, on_front
from fedbench.reporting.settings import best_of, by_setting, communication, difference_table, grids, measures
from fedbench.reporting.statistics import Pairs, compare, difference, holm, not_worse, p_value, paired, summary
from fedbench.reporting.tables import Column, Entry, Table

Maker = Callable[..., storage.Result]


def put(root: Path, *results: storage.Result) -> Path:
    for result in results:
        storage.write(root, result)
    return root


def cell_of(root: Path, *results: storage.Result) -> Cell:
    return make_cell([read(storage.write(root, result)) for result in results], len(results))


# ---------------------------------------------------------------- statistics


def test_mean_and_sample_standard_deviation() -> None:
    """Of 80, 82, 87: mean 83; squares 9 + 1 + 16 = 26 over n - 1 = 2 is 13."""
    found = summary([80, 82, 87])
    assert (found.mean, found.n) == (83, 3)
    assert found.sd == pytest.approx(13**0.5)


def test_one_seed_has_no_spread(tmp_path: Path, make: Maker) -> None:
    assert summary([80.0]).sd is None
    setting = by_setting(collect(put(tmp_path, make("fedavg", correct=[8, 6]))).runs)[0]
    text = forms.markdown(measures(setting))
    assert "70.00" in text
    assert "70.00 ±" not in text


def test_holm_by_hand() -> None:
    """Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, made monotone .04 .06 .06 .06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_wilcoxon_by_hand() -> None:
    """Six differences of one sign and different sizes: 2 of the 2^6 sign patterns are as extreme."""
    assert p_value(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)
    assert p_value(np.zeros(5)) == 1


def test_difference_by_hand() -> None:
    """Of 2, 0, -1, 3: mean 1; two wins, one tie and one loss of four are 62.5 %."""
    found = difference(Pairs(np.array([2.0, 0, -1, 3]), 2))
    assert found.mean == 1
    assert found.wins == 0.625
    assert (found.pairs, found.seeds) == (4, 2)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low < 1 < found.high <= 3
    assert found == difference(Pairs(np.array([2.0, 0, -1, 3]), 2)), "the bootstrap is seeded"
    assert difference(Pairs(np.array([2.0]), 1)).low is None


def test_bootstrap_interval_has_the_width_of_the_normal_one() -> None:
    """For many pairs the interval is mean ± 1.96 sd / sqrt(n), here ± 1.96 / 20."""
    pairs = np.random.default_rng(1).normal(0, 1, 400)
    pairs = (pairs - pairs.mean()) / pairs.std()
    found = difference(Pairs(pairs, 1))
    assert found.low == pytest.approx(-1.96 / 20, rel=0.1)
    assert found.high == pytest.approx(1.96 / 20, rel=0.1)


def test_pairs_are_clients_of_common_seeds(tmp_path: Path, make: Maker) -> None:
    ours = cell_of(tmp_path, make("fedper", 42, correct=[8, 6]), make("fedper", 27, correct=[7, 7]))
    theirs = cell_of(tmp_path, make("fedavg", 42, correct=[5, 6]), make("fedavg", 13, correct=[1, 1]))
    assert isinstance(pairs := paired(ours, theirs), Pairs)
    assert pairs.values.tolist() == pytest.approx([30, 0])
    assert pairs.seeds == 1
    assert paired(ours, theirs, unseen=True) == "not paired: no unseen clients"
    alone = cell_of(tmp_path, make("fedavg", 13, correct=[5, 6]))
    assert paired(ours, alone) == "not paired: no seed in common"
    other = cell_of(tmp_path, make("local", 42, correct=[5, 6], partition="other rows"))
    assert "other rows" in str(paired(ours, other))


def test_equal_differences_are_ties_whatever_rounding_made_of_them(tmp_path: Path, make: Maker) -> None:
    """Of ten clients with ten rows each, accuracies differ by 10 or 30 points: 0.8 - 0.7 and 0.3 - 0.2 are one rank."""
    ours = cell_of(tmp_path, make("fedper", correct=[8, 3, 7, 9, 1, 4, 6, 9, 5, 2]))
    theirs = cell_of(tmp_path, make("fedavg", correct=[7, 2, 6, 8, 0, 3, 5, 6, 4, 3]))
    assert isinstance(pairs := paired(ours, theirs), Pairs)
    assert sorted(set(pairs.values.tolist())) == [-10, 10, 30]


def test_significantly_better_on_most_clients_is_not_worse(tmp_path: Path, make: Maker) -> None:
    """A little better on 19 of 21 clients and much worse on two: lower in the mean, and the test favours it."""
    best = cell_of(tmp_path, make("fedper", correct=[8] * 19 + [10] * 2))
    other = cell_of(tmp_path, make("fedavg", correct=[9] * 19 + [0] * 2))
    mean = [np.mean(cell.runs[0].seen.client) for cell in (best, other)]
    assert isinstance(pairs := paired(other, best), Pairs)
    assert p_value(pairs.values) < 0.05
    assert not_worse({"best": best, "other": other}, "best") == {"other"}
    assert mean[1] < mean[0]


def test_not_significantly_worse_and_too_few_pairs(tmp_path: Path, make: Maker) -> None:
    """`level` wins and loses by turns; `behind` always loses; `few` shares one client only, and nothing can be said."""
    best = cell_of(tmp_path, make("fedper", correct=[9, 8] * 6))
    level = cell_of(tmp_path, make("fedavg", correct=[8, 9] * 6))
    behind = cell_of(tmp_path, make("local", correct=[3, 2] * 6))
    cells = {"best": best, "level": level, "behind": behind}
    assert not_worse(cells, "best") == {"level"}
    one = {name: cell_of(tmp_path / "one", make(name, correct=[5])) for name in ("fedavg", "local")}
    assert not_worse(one, "local") == set()
    assert set(compare(cells, "best")) == {"level", "behind"}


def test_worst_decile_and_spread_over_clients(tmp_path: Path, make: Maker) -> None:
    """Clients at 0, 10, ..., 100 %: the first decile is 10; the variance (2 * (2500 + 1600 + 900 + 400 + 100)) / 10
    = 1100."""
    run = read(storage.write(tmp_path, make(correct=range(11))))
    assert run.seen.worst_decile == pytest.approx(10)
    assert run.seen.client_sd == pytest.approx(1100**0.5)
    assert (run.seen.client_mean, run.seen.pooled) == (50, 50)


# ---------------------------------------------------------------- tables

GOLD = Published(mean=88.38, std=0.29, source="x", certainty="verified", origin="seen there")
VAGUE = Published(mean=51.42, std=2.41, source="y", certainty="remembered", origin="remembered, unverified")
TABLE = Table(
    name="t",
    title="50% of A_B & co",
    caption="Accuracy in %.",
    columns=[Column("CIFAR-10 | 50"), Column("other")],
    rows=[
        ("pFedHN", [Entry(88.0, 0.5, n=3, expected=3, best=True, published=GOLD), Entry(1.0, n=1, expected=3)]),
        (
            "Fed_Avg",
            [
                Entry(50.0, 1.0, n=3, expected=3, close=True, published=VAGUE),
                Entry(gap="failed", reason="failed: out of memory"),
            ],
        ),
    ],
)


def test_markdown() -> None:
    text = forms.markdown(TABLE)
    assert "| pFedHN | **88.00 ± 0.50** | 1.00 (n=1 of 3) |" in text
    assert "| published | 88.38 ± 0.29 (\u22120.38) |  |" in text
    assert "| Fed\\_Avg | 50.00 ± 1.00 ≈ | failed |" in text
    assert "51.42 ± 2.41 ? (\u22121.42)" in text
    assert "remembered and unverified" in text
    assert "failed: out of memory" in text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert widths == {4}


def test_csv_has_every_number() -> None:
    rows = list(csv.DictReader(io.StringIO(forms.as_csv(TABLE))))
    assert [(row["row"], row["column"]) for row in rows][:2] == [("pFedHN", "CIFAR-10 | 50"), ("pFedHN", "other")]
    assert float(rows[0]["difference"]) == pytest.approx(-0.38)
    assert (rows[0]["certainty"], rows[2]["certainty"], rows[2]["not_worse"]) == ("verified", "remembered", "1")
    assert (rows[3]["value"], rows[3]["gap"]) == ("", "failed")


def test_latex_is_escaped_and_balanced() -> None:
    text = forms.latex(TABLE)
    assert r"50\% of A\_B \& co" in text
    assert r"{}Fed\_Avg & 50.00 $\pm$ 1.00 $\approx$ & failed \\" in text
    assert r"\textbf{88.00 $\pm$ 0.50}" in text
    for begin in re.findall(r"\\begin\{(\w+)\}", text):
        assert text.count(rf"\begin{{{begin}}}") == text.count(rf"\end{{{begin}}}")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert forms.tex("中") == "?"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex: apt-get install texlive-latex-base")
def test_latex_compiles(results: Path, tmp_path: Path) -> None:
    made = report(results, tmp_path / "out", figures=0)
    strange = [("[x] M", TABLE.rows[0][1]), ("* star", TABLE.rows[1][1]), (r"$\foo$ #%&_{}~^\\", TABLE.rows[1][1])]
    (made.out / "tables" / "t.tex").write_text(forms.latex(replace(TABLE, rows=[*TABLE.rows, *strange])))
    document = made.out / "tables" / "all.tex"
    document.write_text(document.read_text().replace(r"\end{document}", r"\input{t}" + "\n" + r"\end{document}"))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=document.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_terminal() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    console.print(forms.terminal(TABLE))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "88.00 ± 0.50" in text
    assert "51.42 ± 2.41 ? (\u22121.42)" in text


def test_numbers() -> None:
    assert forms.number(-1.005, Column("", signed=True)) == "\u22121.00"
    assert forms.number(1234.5, Column("", 3, significant=True)) == "1,234"
    assert forms.number(0.01928, Column("", 3, significant=True)) == "0.0193"


def test_seen_and_unseen_client_mean_and_pooled(results: Path) -> None:
    found = {table.name: table for table in grids(by_setting(collect(results).runs))}
    assert set(found) == {f"accuracy-{m}-{s}" for m in ("client-mean", "pooled") for s in ("seen", "unseen")}
    runs = [read(path) for path in storage.files(results)]
    pfedhn = [run.unseen.pooled for run in runs if run.spec.method == "pfedhn" and run.unseen]
    row = dict(found["accuracy-pooled-unseen"].rows)["pFedHN"][0]
    assert row.value == pytest.approx(np.mean(pfedhn))
    assert row.sd == pytest.approx(np.std(pfedhn, ddof=1))
    assert sum(entry.best for _, (entry,) in found["accuracy-pooled-seen"].rows) == 1


def test_a_missing_seed_is_shown(results: Path) -> None:
    next(path for path in storage.files(results) if "pfedhn" in path.parts).unlink()
    row = dict(measures(by_setting(collect(results).runs)[0]).rows)["pFedHN"]
    assert "(n=2 of 3)" in forms.body(row[0], Column(""))


def test_differences_are_to_the_chosen_reference(results: Path) -> None:
    setting = by_setting(collect(results).runs)[0]
    table = difference_table(setting, "fedavg")
    assert table is not None
    assert "difference to FedAvg" in table.title
    first = dict(table.rows)["pFedHN"]
    assert first[0].value is not None
    assert first[0].value > 20
    assert first[3].value == 60
    assert difference_table(setting, "nonesuch") is None


def test_communication(results: Path) -> None:
    table = communication(by_setting(collect(results).runs)[0], "pooled", 60.0)
    rows = dict(table.rows)
    assert rows["pFedHN"][1].value == pytest.approx(2 * 484728 / 1e6)
    assert rows["pFedHN"][2].value == pytest.approx(1000 * 2 * 484728 / 1e6)
    assert rows["FedAvg"][4].gap == "not reached"
    reached = rows["pFedHN"][4].value
    assert reached is not None
    assert 0 < reached < 969.456


# ---------------------------------------------------------------- refusals


def test_mixed_versions_are_refused(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make(seed=42), make(seed=27, version="0.2.0"), make("local"))
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    assert made.status == 1
    assert "fedbench version: 0.1.0 (seed 42); 0.2.0 (seed 27)" in made.warnings[0]
    row = dict(made.tables[0].rows)["FedAvg"][0]
    assert (row.value, row.gap) == (None, "refused")
    assert "0.2.0 (seed 27)" in (made.out / "report.md").read_text()


def test_other_code_is_refused(tmp_path: Path, make: Maker) -> None:
    found = cell_of(tmp_path, make(seed=42), make(seed=27, code="beef"))
    assert found.runs == ()
    assert found.differences == ("method's code: c0de (seed 42); beef (seed 27)",)


def test_partially_different_settings_are_refused(tmp_path: Path, make: Maker) -> None:
    """Seed 13 alone had another rate: that is no row of its own but one row gone wrong."""
    put(tmp_path, make(seed=42), make(seed=27), make(seed=13, params={"local.lr": 0.1}))
    (line,) = by_setting(collect(tmp_path).runs)[0].rows
    assert line.cell.differences == ("local.lr: 0.005 (seed 42, 27); 0.1 (seed 13)",)


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
    assert (row.value, row.gap, row.reason) == (None, "failed", "failed: RuntimeError: no luck")
    assert len(made.tables[0].rows) == 6
    assert "is not the record of a failed run" in made.warnings[0]
    page = made.page.read_text()
    assert "scaffold, digits, 24 clients, seed 42" in page
    assert "of a method that has other runs" in page
    for path in storage.files(results):
        path.unlink()
    with pytest.raises(BadInput, match="failed: scaffold: RuntimeError: no luck"):
        report(results, tmp_path / "out")


def test_a_mean_over_fewer_seeds_says_so_where_the_others_failed(tmp_path: Path, make: Maker) -> None:
    """Both methods have two seeds and failed with the third, which no finished run tells of."""
    put(tmp_path / "r", *(make(method, seed) for method in ("fedavg", "local") for seed in (42, 27)))
    for method in ("fedavg", "local"):
        storage.write_failure(tmp_path / "r", make(method, 13).spec, "RuntimeError: boom")
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    text = (made.out / "report.md").read_text()
    assert text.count("(n=2 of 3)") >= 4
    assert "over 3 seeds" in text
    assert made.status == 1
    assert "failed: fedavg, digits, 20 clients, 1000 visits, seed 13: RuntimeError: boom" in made.gaps


def test_methods_of_one_title_are_told_apart(tmp_path: Path, make: Maker) -> None:
    """As of a subclass of FedAvg that keeps its title: two rows with two values."""
    put(tmp_path, make("fedavg", correct=[9, 9]), make("own", title="FedAvg", correct=[2, 2]))
    rows = dict(measures(by_setting(collect(tmp_path).runs)[0]).rows)
    assert {title: row[0].value for title, row in rows.items()} == {"FedAvg [fedavg]": 90, "FedAvg [own]": 20}


def test_variants_are_named_by_settings_that_only_one_of_them_has(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("own", correct=[9]), make("own", correct=[1], params={"mu": 0.1}))
    titles = [line.title for line in by_setting(collect(tmp_path).runs)[0].rows]
    assert sorted(titles) == ["own (mu=0.1)", "own (mu=absent)"]


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
    with pytest.raises(BadInput, match="does not lie where results do, in DATASET/METHOD below"):
        report(results / "digits", tmp_path / "out")


def test_a_reference_that_is_not_everywhere_is_noted(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"), make("local"), make("local", visits=500), make("fedper", visits=500))
    made = report(tmp_path / "r", tmp_path / "out", figures=0, reference="fedavg")
    text = (made.out / "report.md").read_text()
    assert "digits, 20 clients, 500 visits: no differences, for fedavg has no results there" in text


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
        "digits, 20 clients, 1000 visits, evaluate every 100",
        "digits, 20 clients, 1000 visits, evaluate every 50",
        "digits, 20 clients, 500 visits",
    ]
    assert len({setting.name for setting in found}) == 3


def test_best_of_one_is_nothing_special() -> None:
    assert best_of({"a": Entry(1.0)}) is None
    assert best_of({"a": Entry(1.0), "b": Entry(2.0)}) == "b"
    assert best_of({"a": Entry(-1.0), "b": Entry(gap="not run"), "c": Entry(-2.0)}) == "a"


def test_equals_are_both_best(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("fedavg", correct=[8, 6]), make("local", correct=[6, 8]), make("fedper", correct=[1, 1]))
    rows = dict(grids(by_setting(collect(tmp_path).runs))[0].rows)
    assert [rows[title][0].best for title in ("FedAvg", "Local", "FedPer")] == [True, True, False]


# ---------------------------------------------------------------- figures


def test_styles_are_fixed_and_never_shared() -> None:
    names = ["pfedhn", "fedavg", "my-method", "your-method", "its-method"]
    found = styles(names)
    assert found["pfedhn"] == styles(["pfedhn"])["pfedhn"]
    assert len(set(found.values())) == len(names)
    assert len({style.color for style in found.values()}) == len(names)


def test_labels_do_not_touch_and_stay_inside() -> None:
    places = _spread([1.0, 1.0, 1.0, 5.0, 9.9], 1.0, 0.0, 10.0)
    assert all(b - a >= 1 - 1e-9 for a, b in zip(sorted(places), sorted(places)[1:], strict=False))
    assert min(places) >= 0
    assert max(places) <= 10
    assert places[3] == 5.0
    crowded = _spread([0.5] * 20, 1.0, 0.0, 10.0)
    assert [min(crowded), max(crowded)] == pytest.approx([0, 10])


def test_front() -> None:
    points = {"cheap": (0.0, 50.0), "good": (5.0, 90.0), "dear": (9.0, 90.0), "worse": (6.0, 80.0)}
    assert on_front(points) == ["cheap", "good"]


def test_curves_are_means_over_seeds(results: Path) -> None:
    line = by_setting(collect(results).runs)[0].rows[0]
    grid, mean, sd = curve(line, "visits", "accuracy")
    assert grid.tolist() == list(range(0, 1001, 50))
    values = [run.history["accuracy"] for run in line.cell.runs]
    assert mean == pytest.approx(np.mean(values, axis=0))
    assert sd == pytest.approx(np.std(values, axis=0, ddof=1))


def test_curves_of_seeds_that_were_looked_at_elsewhere_are_interpolated(results: Path) -> None:
    """Seconds differ from seed to seed: one ends after 20.1 s, the other after twice as long, linear in between."""
    line = by_setting(collect(results).runs)[0].rows[0]
    one, two = line.cell.runs[:2]
    one, two = (
        replace(
            run, history={**run.history, "seconds": run.history["seconds"] * k, "accuracy": run.history["visits"] / 10}
        )
        for run, k in ((one, 1), (two, 2))
    )
    grid, mean, _ = curve(replace(line, cell=replace(line.cell, runs=(one, two))), "seconds", "accuracy")
    assert (grid[0], grid[-1]) == (pytest.approx(0.2), pytest.approx(20.1))
    assert mean[-1] == pytest.approx((100 + 100 * (20.1 / 2 - 0.1) / 20) / 2)


@pytest.mark.parametrize("title", [r"A $\foo$ B", "a$b$_", "[x] 50%", "* starred"])
def test_titles_are_text_in_figures(title: str, tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("own", title=title, novel=4), make("local", novel=4))
    made = report(tmp_path / "r", tmp_path / "out", figures=1)
    assert len(made.pictures) == 6


def test_figures_are_files_of_both_kinds_and_the_same_each_time(results: Path, tmp_path: Path) -> None:
    made = report(results, tmp_path / "out", figures=1)
    kinds = [picture.name.removeprefix("digits-24-clients-1000-visits-") for picture in made.pictures]
    assert kinds == ["curves-visits", "curves-megabytes", "curves-seconds", "front", "clients", "unseen"]
    for picture in made.pictures:
        assert (made.out / "figures" / f"{picture.name}.png").read_bytes().startswith(b"\x89PNG")
        assert (made.out / "figures" / f"{picture.name}.pdf").read_bytes().startswith(b"%PDF")
    again = draw(by_setting(collect(results).runs)[0], "clients", "client mean")
    assert again is not None
    assert again.files == made.pictures[4].files


def test_the_report_imports_no_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from fedbench.reporting import report; report(sys.argv[1], sys.argv[2], figures=1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(results), str(tmp_path / "out")], check=True)


@pytest.mark.slow
def test_five_thousand_results(many: Callable[[Path, int], None], tmp_path: Path) -> None:
    """In 20 s and 1 GB. What is measured is the processor's time, which other programs do not lengthen much; the wall
    clock shows less, as reading is spread over processes."""
    many(tmp_path / "results", 5000)
    code = """
import resource, sys
from fedbench.reporting import report
if __name__ == "__main__":
    made = report(sys.argv[1], sys.argv[2])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(len(made.runs), used[0].ru_utime + used[0].ru_stime, max(use.ru_maxrss for use in used) / 1e6)
"""
    script = tmp_path / "measure.py"
    script.write_text(code)
    arguments = [sys.executable, str(script), str(tmp_path / "results"), str(tmp_path / "out")]
    printed: Any = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    runs, seconds, gigabytes = int(printed[0]), float(printed[1]), float(printed[2])
    assert runs == 5000
    assert seconds < 20
    assert gigabytes < 1
