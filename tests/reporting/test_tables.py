"""Which numbers stand in tables, and the tables in all their forms."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_results import Maker, put

from fedbench import storage
from fedbench.experiments.parts import Published
from fedbench.reporting import report
from fedbench.reporting import tables as forms
from fedbench.reporting.collection import collect
from fedbench.reporting.run import read
from fedbench.reporting.settings import by_setting
from fedbench.reporting.tables import (
    Column,
    Entry,
    Table,
    difference_table,
    effort,
    fairness,
    grids,
    ranking,
    targets,
)
from fedbench.storage.gap import Gap, Missing


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).returncode == 0


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
                Entry(50.0, 1.0, n=3, expected=3, marks="†", published=VAGUE),
                Entry(gap=Gap(Missing.FAILED, "out of memory")),
            ],
        ),
    ],
)


def test_markdown() -> None:
    text = forms.markdown(TABLE)
    assert "| pFedHN | **88.00 ± 0.50 (n=3)** | 1.00 (n=1 of 3) |" in text
    assert "| published | 88.38 ± 0.29 (\u22120.38) |  |" in text
    assert "| Fed\\_Avg | 50.00 ± 1.00 (n=3) † | failed |" in text
    assert "51.42 ± 2.41 ? (\u22121.42)" in text
    assert "remembered and unverified" in text
    assert "failed: out of memory" in text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert widths == {4}


def test_csv_has_every_number() -> None:
    rows = list(csv.DictReader(io.StringIO(forms.as_csv(TABLE))))
    assert [(row["row"], row["column"]) for row in rows][:2] == [("pFedHN", "CIFAR-10 | 50"), ("pFedHN", "other")]
    assert float(rows[0]["difference"]) == pytest.approx(-0.38)
    assert (rows[0]["certainty"], rows[2]["certainty"], rows[2]["inseparable"]) == ("verified", "remembered", "1")
    assert (rows[3]["value"], rows[3]["gap"]) == ("", "failed")


def test_tildes_strike_nothing_out() -> None:
    assert (
        forms.markdown(Table("t", "~~T~~", "C.", [Column("x")], [("~own~", [Entry(1.0)])])).count(r"\~") == 4
    )  # those that could open
    assert forms.prose("1 ~ 2, ~~no~~") == r"1 ~ 2, \~\~no\~~"


def test_latex_is_escaped_and_balanced() -> None:
    text = forms.latex(TABLE)
    assert r"50\% of A\_B \& co" in text
    assert r"{}\mbox{Fed\_Avg} & 50.00 \pm 1.00 { (n=3)$^\dagger$} & {failed} \\" in text
    assert r"{\bfseries 88.00 $\pm$ 0.50 (n=3)\phantom{$^\dagger$}}" in text
    assert "S[table-format=2.2(3),table-space-text-post=" in text, "siunitx aligns numbers"
    for begin in re.findall(r"\\begin\{(\w+\*?)\}", text):
        assert text.count(rf"\begin{{{begin}}}") == text.count(rf"\end{{{begin}}}")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert forms.tex("中") == "?"
    assert forms.tex("\u201ca\u201d\u2014\u2026") == r"``a''---\ldots{}"


def test_the_second_of_a_column_can_be_underlined() -> None:
    entries = [("a", [Entry(3.0, best=True)]), ("b", [Entry(2.0, second=True)]), ("c", [Entry(1.0)])]
    text = forms.latex(Table("t", "T", "C.", [Column("x")], entries))
    assert r"{\fedbenchsecond{2.00}}" in text
    assert r"\providecommand{\fedbenchsecond}[1]{#1}" in forms.latex_document(["t"])


def test_a_caption_does_not_repeat_the_key() -> None:
    caption = next(line for line in forms.latex(TABLE).splitlines() if line.startswith(r"\caption"))
    assert "Bold" not in caption
    assert "Bold" in forms.latex(TABLE)


def test_wide_tables_take_the_page_or_are_split() -> None:
    def table(columns: int) -> Table:
        rows = [(name, [Entry(88.88, 1.11, n=3) for _ in range(columns)]) for name in ("pFedHN", "FedAvg")]
        return Table("t", "T", "C.", [Column(f"column {i}") for i in range(columns)], rows)

    assert r"\begin{table}[" in forms.latex(table(2))
    assert r"\begin{table*}[" in forms.latex(table(5))
    split = forms.latex(table(20))
    assert split.count(r"\begin{tabular}") > 1
    assert sum(split.count(f"column {i}") for i in range(20)) >= 20


@pytest.mark.slow
@pytest.mark.skipif(not has_latex(), reason="needs pdflatex and siunitx: apt-get install texlive-science")
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
    console = Console(file=io.StringIO(), width=100)
    console.print(forms.terminal(TABLE))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "88.00 ± 0.50" in text
    assert "51.42 ± 2.41 ? (\u22121.42)" in text


@pytest.mark.parametrize("width", [40, 80, 100])
def test_settings_that_tell_methods_apart_are_not_cut_in_a_terminal(width: int) -> None:
    names = [f"pFedHN (local.lr=0.005, hypernetwork.lr={rate})" for rate in (0.01, 0.05)]
    table = replace(TABLE, rows=[(name, row[1]) for name, row in zip(names, TABLE.rows, strict=False)])
    console = Console(file=io.StringIO(), width=width)
    console.print(forms.terminal(table))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    first = "".join(line.split("\u2502")[1].strip() for line in text.splitlines() if line.startswith("\u2502"))
    assert all(f"hypernetwork.lr={rate}" in first for rate in (0.01, 0.05))


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
    row = dict(ranking(by_setting(collect(results).runs)[0], "client mean").rows)["pFedHN"]
    assert "(n=2 of 3)" in forms.body(row[0], Column(""))


def test_differences_are_to_the_chosen_reference(results: Path) -> None:
    setting = by_setting(collect(results).runs)[0]
    table = difference_table(setting, "fedavg")
    assert table is not None
    assert "Difference to FedAvg" in table.title
    first = dict(table.rows)["pFedHN"]
    assert first[0].value is not None
    assert first[0].value > 20
    assert (first[2].value, first[4].value) == (3, 60)
    assert difference_table(setting, "nonesuch") is None


def test_targets_are_priced_in_visits_traffic_and_time(results: Path) -> None:
    """pFedHN moves 2 * 484728 bytes a visit and has 0.02 s a visit and 0.1 s beside."""
    setting = by_setting(collect(results).runs)[0]
    table = targets(setting, "pooled", [60.0, 80.0])
    usual = targets(setting, "pooled")
    assert table is not None
    assert usual is not None
    labels = ["visits to 60 %", "MB to 60 %", "s to 60 %", "visits to 80 %", "MB to 80 %", "s to 80 %"]
    assert [column.label for column in table.columns] == labels
    rows = dict(table.rows)
    visits, megabytes, seconds = (entry.value for entry in rows["pFedHN"][:3])
    expected = [
        run.history["visits"][np.flatnonzero(run.history["accuracy"] >= 60)[0]] for run in setting.cells["pFedHN"].runs
    ]
    assert visits is not None
    assert visits == pytest.approx(np.mean(expected))
    assert megabytes == pytest.approx(visits * 2 * 484728 / 1e6)
    assert seconds == pytest.approx(0.02 * visits + 0.1)
    assert rows["FedAvg"][0].gap == Gap(Missing.NOT_REACHED)
    assert len({column.label for column in usual.columns}) == 9, "three targets by themselves"


def test_effort_before_scoring_is_shown(tmp_path: Path, make: Maker) -> None:
    """50 steps of fine-tuning for each of 20 clients when chosen; 50 gradients a visit. Older files say nothing."""
    result = make("fedavg-ft")
    best = result.best.model_copy(update={"personalize_gradients": 50 * 20})
    history = [
        row.model_copy(update={"personalize_gradients": 50 * 20}) if row.visits == best.visits else row
        for row in result.history
    ]
    result = result.model_copy(update={"best": best, "history": history})
    put(tmp_path, result.model_copy(update={"digest": storage.digest(result.model_dump(mode="json"))}))
    put(tmp_path, make("local", modern=False))
    table = effort(by_setting(collect(tmp_path).runs)[0])
    labels = [column.label for column in table.columns]
    rows = dict(table.rows)
    place = labels.index("gradients to personalize a client")
    assert rows["FedAvg-FT"][place].value == 50
    assert rows["FedAvg-FT"][labels.index("gradients / visit")].value == 50
    assert rows["FedAvg-FT"][labels.index("gradients / run")].value == 50_000
    assert str(rows["Local"][place].gap) == "not recorded"


def test_fairness_by_hand(tmp_path: Path, make: Maker) -> None:
    """Ten clients, nine at 100 % and one at 20 %: worst tenth and worst client 20, index 920^2 / (10 (9 10^4 + 400)),
    and one of ten is below Local, which has 50 % everywhere."""
    put(tmp_path, make("fedper", correct=[10] * 9 + [2]), make("local", correct=[5] * 10))
    row = dict(fairness(by_setting(collect(tmp_path).runs)[0]).rows)["FedPer"]
    mean, worst, client, _, index, losing = (entry.value for entry in row)
    assert (mean, worst, client, losing) == pytest.approx((92, 20, 20, 10))
    assert index == pytest.approx(920**2 / (10 * (9e4 + 400)))


def test_the_ranking_is_sorted_and_names_its_reference(results: Path) -> None:
    setting = by_setting(collect(results).runs)[0]
    table = ranking(setting, "client mean", "local")
    means = [row[0].value for _, row in table.rows]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]
    assert table.columns[1].label == "difference to Local, points"
    assert dict(table.rows)["Local"][1].value == 0
    assert dict(table.rows)["pFedHN"][1].low is not None


def test_every_cell_says_its_seeds_where_they_differ(tmp_path: Path, make: Maker) -> None:
    """One setting has three seeds, the other one: no cell of one seed stands under "over 3 seeds"."""
    put(tmp_path, *(make(method, seed) for method in ("fedavg", "local") for seed in (42, 27, 13)))
    put(tmp_path, *(make(method, 42, clients=30) for method in ("fedavg", "local")))
    table = grids(by_setting(collect(tmp_path).runs))[0]
    assert "over n seeds, 1 to 3 as each cell says" in table.caption
    text = forms.markdown(table)
    assert (text.count("(n=3)"), text.count("(n=1)")) == (2, 2)


def test_labels_name_what_differs(tmp_path: Path, make: Maker) -> None:
    """A Dirichlet column beside one of two classes, of other data and clients."""
    put(tmp_path, make(), make(clients=30, partition_text="dirichlet:alpha=0.3,least=10"))
    labels = sorted(setting.label for setting in by_setting(collect(tmp_path).runs))
    assert labels == [
        "digits, 20 clients, 1000 visits, classes (per_client=2)",
        "digits, 30 clients, 1000 visits, dirichlet (alpha=0.3)",
    ]


def test_run_times_that_cannot_be_compared_are_marked(tmp_path: Path, make: Maker) -> None:
    """Of different machines; or beside each other: both took 20.1 s and ended in the same second."""
    host = {"host": {"processor": "another"}}
    put(tmp_path / "a", make("fedavg"), make("local", provenance={**host, "finished": "2026-01-01T01:00:00+00:00"}))
    setting = by_setting(collect(tmp_path / "a").runs)[0]
    assert "2 machines" in setting.unlike_times
    seconds = [row[-1] for _, row in effort(setting).rows]
    assert all("*" in entry.marks for entry in seconds)
    put(tmp_path / "b", make("fedavg"), make("local"))
    assert "beside other runs" in by_setting(collect(tmp_path / "b").runs)[0].unlike_times
    put(tmp_path / "c", make("fedavg"), make("local", provenance={"finished": "2026-01-01T01:00:00+00:00"}))
    setting = by_setting(collect(tmp_path / "c").runs)[0]
    assert setting.unlike_times == ""
    assert not any("*" in row[-1].marks for _, row in effort(setting).rows)
    put(tmp_path / "d", make("fedavg"), make("local", provenance={"commit": "abc", "finished": "2026-02-01T00:00:00"}))
    assert "2 commits" in by_setting(collect(tmp_path / "d").runs)[0].unlike_times


def test_uncommitted_sources_are_marked(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("fedavg", provenance={"uncommitted_changes": True}), make("local"))
    setting = by_setting(collect(tmp_path).runs)[0]
    rows = dict(grids([setting])[0].rows)
    assert ("‡" in rows["FedAvg"][0].marks, "‡" in rows["Local"][0].marks) == (True, False)
    assert any("uncommitted" in warning for warning in setting.warnings)


def test_how_hyperparameters_were_chosen_is_noted(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"), make("local"))
    tuned = {"fedavg": "tuned, 16 trials, 9,600 visits", "local": "defaults"}
    made = report(tmp_path / "r", tmp_path / "out", figures=0, tuned=tuned)
    text = (made.out / "report.md").read_text()
    assert "hyperparameters of FedAvg: tuned, 16 trials, 9,600 visits" in text
    assert "hyperparameters of Local: defaults" in text


def test_a_number_is_said_in_any_form(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg", params={"mu": None, "flag": True, "kind": "a"}))
    for lr, mu, flag, kind, same in (
        *(("5e-3", "none", "true", "a", True), ("0.005", "None", "True", "a", True)),
        *(("0.05", "none", "true", "a", False), ("0.005", "0", "true", "a", False), ("0.005", "none", "1", "a", False)),
        ("0.005", "none", "true", "b", False),
    ):
        file = tmp_path / "tuned.toml"
        told = f'{{ "local.lr" = "{lr}", "mu" = "{mu}", "flag" = "{flag}", "kind" = "{kind}" }}'
        file.write_text(f'[tuning]\n[methods.fedavg]\nsettings = {told}\ncode = "x"\ntrials = 16\nvisits = 9600\n')
        made = report(tmp_path / "r", tmp_path / "out", figures=0, settings_file=file)
        assert ("tuned, 16 trials" in (made.out / "report.md").read_text()) == same


def test_a_settings_file_is_told_of_the_runs_that_have_its_settings(tmp_path: Path, make: Maker) -> None:
    file = tmp_path / "tuned.toml"
    table = '[methods.{}]\nsettings = {{ "local.lr" = {} }}\ncode = "x"\ntrials = 16\nvisits = 9600\n'
    file.write_text("[tuning]\n" + table.format("fedavg", 0.005) + table.format("local", 0.1))
    put(tmp_path / "r", make("fedavg"), make("local"))
    made = report(tmp_path / "r", tmp_path / "out", figures=0, settings_file=file)
    text = (made.out / "report.md").read_text()
    assert "hyperparameters of FedAvg: tuned, 16 trials, 9,600 visits" in text
    assert "hyperparameters of Local: not those of tuned.toml" in text
    put(tmp_path / "other", make("fedavg", params={"local.momentum": 0.5, "local.batch_size": 64}))
    made = report(tmp_path / "other", tmp_path / "out", figures=0, settings_file=file)
    (note,) = (note for note in made.tables[0].notes if "of FedAvg" in note)
    assert note.endswith("tuned, 16 trials, 9,600 visits; set besides: local.momentum")
    file.write_text(f"[tuning]\ndataset = 'digits'\nclients = 50\n{table.format('fedavg', 0.005)}")
    made = report(tmp_path / "r", tmp_path / "out", figures=0, settings_file=file)
    (note,) = (note for note in made.tables[0].notes if "of FedAvg" in note)
    assert note.endswith(f"tuned, 16 trials, 9,600 visits ({file.name} was tuned with clients 50; here: clients 20)")


@pytest.mark.parametrize("width", [30, 60, 100, 400])
def test_columns_without_room_are_named_and_no_number_is_cut(width: int) -> None:
    table = Table("t", "T", "C.", [Column(f"column {i}") for i in range(9)], [("a", [Entry(12345.678, 0.5)] * 9)])
    console = Console(width=width, file=io.StringIO())
    console.print(forms.terminal(table, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    shown = text.count("12345.68")
    gone = re.findall(r"column \d", " ".join(text.split()).partition("Not shown, for want of width:")[2])
    assert shown + len(gone) == 9
    assert shown >= 1
    assert all(len(line) <= width for line in text.splitlines())


def test_a_table_higher_than_a_page_is_several_floats() -> None:
    rows = [(f"m{i}", [Entry(float(i))]) for i in range(100)]
    text = forms.latex(Table("t", "T", "C.", [Column("x")], rows))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert [line for line in text.splitlines() if line.startswith(r"\label")] == [
        r"\label{tab:t}",
        r"\label{tab:t-2}",
        r"\label{tab:t-3}",
    ]
    assert "T (part 2 of 3)" in text
    assert all(rf"\mbox{{m{i}}}" in text for i in range(100))


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.1235"), (999.94, "999.9"), (12345.6, "12,346"), (2e7, "20,000,000")]
)
def test_amounts_have_no_exponent(value: float, text: str) -> None:
    assert forms.amount(value) == text
