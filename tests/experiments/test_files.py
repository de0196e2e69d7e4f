"""Experiment files: what they say, mistakes in them, and running one end to end on the digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_experiment import MINE

from fedbench import storage
from fedbench.api import reproduce
from fedbench.errors import BadInput
from fedbench.experiments import parts
from fedbench.experiments import schema as experiment
from fedbench.experiments.keys import documentation
from fedbench.experiments.schema import line_of, load
from fedbench.experiments.template import new_experiment
from fedbench.reporting import tables as forms
from fedbench.runs.plan import efforts, plan, plugin_mistakes, status
from fedbench.storage.gap import Missing

# ---------------------------------------------------------------- the files of the package


def test_the_package_has_them() -> None:
    assert set(experiment.names()) == {
        *("table1", "table2", "curves", "communication", "novel-clients", "personal-extractors", "embeddings", "mnist"),
        *("local-steps", "embedding-size", "depth", "spectral-norm", "fixed-embedding", "linear-theory"),
    }


@pytest.mark.parametrize("name", experiment.names())
def test_every_file_loads_and_every_cell_can_be_planned(name: str, tmp_path: Path) -> None:
    loaded = load(name, plugin_mistakes)
    assert set(loaded.presets) - {"reference"} == {"smoke", "laptop", "paper"}
    for preset in loaded.presets:
        made = plan(loaded, preset, data_root=tmp_path, results=tmp_path, device="cpu", check_data=False)
        assert not [gap for gap in made.gaps.values() if gap.kind is Missing.NOT_POSSIBLE]
        assert len(made.jobs) == len(loaded.chosen(preset)) * len(loaded.chosen_methods(preset))
        assert len(made.all_jobs) == loaded.length(preset).seeds * len(made.jobs)
        assert {job.spec.evaluate_every for job in made.all_jobs} <= {50}, "one grid, so that long runs answer"
    made = plan(loaded, "paper", data_root=tmp_path, results=tmp_path, device="cpu", check_data=False)
    assert {job.spec.visits for job in made.all_jobs} <= {1000 if name == "local-steps" else 5000}


@pytest.mark.parametrize("name", experiment.names())
def test_classes_are_dealt_as_the_official_code_deals_them(name: str, tmp_path: Path) -> None:
    """The draw of the classes moves accuracy by points, so every file uses the authors' own, and says so."""
    made = plan(load(name), "paper", data_root=tmp_path, results=tmp_path, device="cpu", check_data=False)
    dealt = {job.spec.partition for job in made.all_jobs if job.spec.partition.startswith("classes")}
    assert all("spare=1" in text and "seeding=legacy" in text for text in dealt)
    assert not dealt or "seeding=legacy" in load(name).caption


def test_nothing_that_is_remembered_weakly_is_a_published_value() -> None:
    """Beside the main table one cell is published: MNIST with 50 clients, seen in a public source."""
    cells = {
        (name, column, method): cell
        for name in experiment.names()
        for column, row in load(name).published.items()
        for method, cell in row.items()
        if name != "table1" and cell.mean is not None
    }
    assert {key: (cell.mean, cell.std, cell.certainty) for key, cell in cells.items()} == {
        ("mnist", "mnist-50", "pfedhn"): (99.28, 0.11, "verified")
    }
    assert not load("spectral-norm").claims, "that it is in the paper is not known"


def test_the_documentation_of_keys_names_every_key() -> None:
    text = documentation()
    for part in (parts.Experiment, parts.Column, parts.Length, parts.Claim):
        assert all(f"| `{key}` | " in text and f"| `{key}` |  |" not in text for key in parts.keys_of(part))
    assert "equal within 1 point" in text


@pytest.mark.slow
def test_the_file_to_start_from_runs_as_it_stands(tmp_path: Path) -> None:
    (path,) = new_experiment("My table", tmp_path)
    assert path == tmp_path / "my-table.toml"
    text = path.read_text().replace("visits = 50", "visits = 4").replace("seeds = 2", "seeds = 1")
    path.write_text(text)
    made = reproduce(str(path), preset="smoke", jobs=1, results=tmp_path / "r", out=tmp_path / "o", device="cpu")
    assert made.status == 0
    assert "pFedHN is more accurate than FedAvg." in made.page.read_text()
    with pytest.raises(BadInput, match="is there already"):
        new_experiment("my_table", tmp_path)
    with pytest.raises(BadInput, match="is no name"):
        new_experiment("../etc", tmp_path)


def test_table1_has_the_cells_of_the_paper() -> None:
    table1 = load("table1")
    assert [column.name for column in table1.columns] == [
        *(f"cifar{kind}-{n}" for kind in (10, 100) for n in (10, 50, 100)),
        "omniglot-50",
    ]
    eight = {"local", "fedavg", "per-fedavg", "fedper", "pfedme", "lg-fedavg", "pfedhn", "pfedhn-pc"}
    assert set(table1.methods) == eight | {"fedavg-ft"}
    assert all(set(cells) == eight for cells in table1.published.values())


def test_only_what_was_seen_is_called_verified() -> None:
    """Three cells were seen whole in a public source, and of five the mean."""
    cells = {(column, method): cell for column, row in load("table1").published.items() for method, cell in row.items()}
    verified = {key: (c.mean, c.std) for key, c in cells.items() if c.mean is not None and c.certainty == "verified"}
    assert verified == {
        ("cifar10-50", "pfedhn"): (88.38, 0.29),
        ("cifar10-50", "pfedhn-pc"): (90.08, 0.63),
        ("cifar100-50", "pfedhn"): (59.48, 0.67),
    }
    assert {key: cell.mean for key, cell in cells.items() if cell.certainty == "mean-seen"} == {
        ("cifar10-10", "pfedhn-pc"): 92.47,
        ("cifar10-100", "pfedhn-pc"): 88.09,
        ("cifar100-10", "pfedhn-pc"): 68.15,
        ("cifar100-50", "pfedhn-pc"): 60.17,
        ("cifar100-100", "pfedhn"): 53.24,
    }
    absent = {key for key, cell in cells.items() if cell.mean is None}
    assert {method for column, method in absent if column != "omniglot-50"} == {"per-fedavg"}
    assert all(cell.absent for key, cell in cells.items() if key in absent)
    assert "marked" in load("table1").caption


def test_reading_imports_no_torch() -> None:
    code = "import sys; from fedbench.experiments.schema import load; load('table1'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- mistakes


def number(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('dataset = "digits"\nclients = 10', 'dataset = "digits"\nclient = 10', "Did you mean 'clients'"),
        ("clients = 10\n", "clients = 0\n", "greater than or equal to 1"),
        ("visits = 20", "visits = twenty", "not TOML"),
        ("visits = 20", 'visits = "20"', "valid integer"),
        ('metric = "pooled"', 'metric = "mean"', "'pooled' or 'client-mean'"),
        ('name = "digits-10"', 'name = "../../etc"', "names are lower-case letters, digits and hyphens"),
        ('methods = ["fedavg", "local"]', 'methods = ["../evil.py"]', "a method's file beside this one"),
        ('methods = ["fedavg", "local"]', 'methods = ["FedAvg"]', "names are lower-case letters"),
        ("clients = 5", "clients = 5\nadapt_visits = 3", "say how many with novel_clients"),
        ('"fedavg.local.lr" = 0.01', '"fedavg.local.lr" = [0.1]', "a number, a text, true or false"),
        ('methods = ["fedavg", "local"]', 'methods = ["fedavg", "local", "fedavg"]', "twice"),
        ("[published.digits-10]", "[published.digits-11]", "Did you mean 'digits-10'"),
        ("fedavg = { mean", "fedavgg = { mean", "Did you mean 'fedavg'"),
        ('source = "memory" }', 'source = "memroy" }', "Did you mean 'memory'"),
        ('std = 1.0, source = "memory" }', "std = 1.0 }", "no source"),
        ("mean = 50.0", "mean = 150.0", "less than or equal to 100"),
        ('absent = "not recalled"', "std = 1.25", "give either a mean"),
        ('certainty = "remembered"', 'certainty = "sure"', "'verified', 'mean-seen' or 'remembered'"),
        ('"fedavg.local.lr" = 0.01', '"fedavgg.local.lr" = 0.01', "Did you mean 'fedavg'"),
        ("clients = 5", "clients = 5\nnovel_clients = 5", "leave none"),
    ],
)
def test_a_mistake_is_answered_with_its_line_and_the_remedy(mine: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    text = MINE.replace(old, new, 1)
    mine.write_text(text)
    with pytest.raises(BadInput, match="line") as error:
        load(str(mine))
    expected = number(text, new.splitlines()[-1])
    assert f"line {expected}:" in str(error.value)
    assert message in str(error.value)


def test_text_of_several_lines_holds_no_keys(mine: Path) -> None:
    caption = 'caption = """\nmetric = 3\nvisits = 4\n"""'
    text = MINE.replace('caption = "Two methods on the digits."', caption).replace('"pooled"', '"mean"')
    mine.write_text(text)
    line = number(text, 'metric = "mean"')
    with pytest.raises(BadInput, match=f"line {line}:"):
        load(str(mine))


def test_a_setting_may_be_written_without_quotes(mine: Path) -> None:
    mine.write_text(MINE.replace('"fedavg.local.lr" = 0.01', "fedavg.local.lr = 0.01"))
    assert load(str(mine)).settings == {"fedavg.local.lr": 0.01}


def test_a_missing_key_is_named(mine: Path) -> None:
    mine.write_text(MINE.replace('metric = "pooled"\n', ""))
    with pytest.raises(BadInput, match="the key metric is missing"):
        load(str(mine))


def test_unknown_names_are_answered_with_the_nearest(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'table1'"):
        load("tabel1")
    with pytest.raises(BadInput, match="cannot be read"):
        load(str(tmp_path / "none.toml"))
    with pytest.raises(BadInput, match="Known: smoke"):
        load(str(mine)).length("laptop")
    mine.write_text(MINE.replace('methods = ["fedavg", "local"]', 'methods = ["fedavg", "local", "fedperr"]'))
    with pytest.raises(BadInput, match=r"line 8: there is no method called 'fedperr'. Did you mean 'fedper'"):
        plan(load(str(mine)), "smoke")
    mine.write_text(MINE.replace('dataset = "digits"', 'dataset = "digit"', 1))
    with pytest.raises(BadInput, match=r"line 18: there is no dataset called 'digit'"):
        plan(load(str(mine)), "smoke")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"fedavg.local.lr" = 0.01', '"fedavg.local.rl" = 0.01', "Did you mean 'local.lr'"),
        ('"fedavg.local.lr" = 0.01', '"fedavg.local.lr" = -1', "fedavg.local.lr=-1: input should be greater than 0"),
        ("clients = 10\n", 'clients = 10\npartition = "clases"\n', "Did you mean 'classes'"),
        ("clients = 10\n", 'clients = 10\nnetwork = "lenett"\n', "Did you mean 'lenet'"),
        ("clients = 10\n", 'clients = 10\nsettings = { "fedavg.local.rl" = 1 }\n', "Did you mean 'local.lr'"),
        ("clients = 10\n", 'clients = 10\nsettings = { "fedavgg.local.lr" = 1 }\n', "Did you mean 'fedavg'"),
    ],
)
def test_a_mistake_that_only_the_plan_sees_has_its_line_too(mine: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    mine.write_text(MINE.replace(old, new, 1))
    with pytest.raises(BadInput, match="line") as error:
        plan(load(str(mine)), "smoke")
    assert f"line {number(mine.read_text(), new.strip().splitlines()[-1])}:" in str(error.value)
    assert message in str(error.value)


def test_a_column_has_settings_of_its_own(mine: Path, tmp_path: Path) -> None:
    """Over those of the experiment, and in no other column."""
    own = 'settings = { "fedavg.local.lr" = 0.2, "fedavg.local.steps" = 7 }'
    mine.write_text(MINE.replace("clients = 10\n", f"clients = 10\n{own}\n"))
    made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
    rates = {
        key: {(j.spec.params["local.lr"], j.spec.params["local.steps"]) for j in jobs}
        for key, jobs in made.jobs.items()
    }
    assert rates["digits-10", "fedavg"] == {(0.2, 7)}
    assert rates["digits-5", "fedavg"] == {(0.01, 50)}
    assert rates["digits-10", "local"] == {(0.005, 50)}


def test_tables_say_in_which_columns_the_experiment_sets_a_hyperparameter(mine: Path) -> None:
    mine.write_text(MINE.replace("clients = 5\n", "clients = 5\nsettings = { all.local.steps = 3 }\n"))
    words = efforts(load(str(mine)))
    assert words["fedavg"] == "defaults; set by the experiment: local.lr, local.steps (in digits-5)"
    assert words["local"] == "defaults; set by the experiment: local.steps (in digits-5)"


def test_a_method_file_must_lie_beside_the_experiment(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own.py").write_text("")
    (tmp_path / "own.py").symlink_to(tmp_path / "elsewhere" / "own.py")
    mine.write_text(MINE.replace('methods = ["fedavg", "local"]', 'methods = ["fedavg", "local", "./own.py"]'))
    with pytest.raises(BadInput, match="must lie beside the experiment file"):
        plan(load(str(mine)), "smoke")


def test_lines() -> None:
    text = 'a = 1\n[b]\n[[c]]\nd = 1\n[[c]]\n"x.y" = 2\nd.e = 3\n'
    assert line_of(text, ("a",)) == 1
    assert line_of(text, ("b", "missing")) == 2
    assert line_of(text, ("c", 0, "d")) == 4
    assert line_of(text, ("c", 1, "x.y")) == 6
    assert line_of(text, ("c", 1, "d", "e")) == 7


# ---------------------------------------------------------------- end to end


@pytest.mark.slow
def test_reproduce_runs_what_is_missing_and_renders_it(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Own(FedAvg):\n"
        "    title = 'Own'\n"
        "    paper = 'none'\n"
        "    def server_init(self, rng):\n"
        "        raise RuntimeError('broken on purpose')\n"
    )
    (tmp_path / "my-data.py").write_text(
        "from fedbench.datasets.digits import Digits\n"
        "class Mine(Digits):\n"
        "    title = 'Mine'\n"
        "    source = 'none'\n"
        "    network = 'mlp-digits'\n"
    )
    (tmp_path / "tuned.toml").write_text("[tuning]\ndataset = 'digits'\nclients = 10\n[methods]\n")
    text = MINE.replace('methods = ["fedavg", "local"]', 'methods = ["fedavg", "local", "./own.py"]')
    text = text.replace('dataset = "digits"\nclients = 5', 'dataset = "my-data.py"\nclients = 5')
    mine.write_text(text.replace("target = 60.0", 'target = 60.0\nsettings_file = "tuned.toml"'))
    results, out = tmp_path / "results", tmp_path / "out"
    before = status(str(mine), "smoke", results=results)
    assert (before.runs, before.done, before.seconds_left) == (10, 0, None)
    made = reproduce(str(mine), preset="smoke", jobs=1, results=results, out=out, device="cpu")
    assert made.out == out / "mine"
    assert made.status == 1, "a run failed"
    assert len(made.runs) == 6
    rows = dict(made.tables[0].rows)
    assert rows["FedAvg"][0].n == 2
    assert forms.quoted(rows["FedAvg"][0]).startswith("50.00 ± 1.00 ? (")
    assert [str(e.gap and e.gap.kind) for e in (rows["Local"][1], rows["Own"][0])] == ["not applicable", "failed"]
    assert str(rows["Own"][0].gap) == "failed: RuntimeError: broken on purpose"
    assert "broken on purpose" in made.page.read_text()
    assert {"digits-10-partition", "digits-5-partition"} <= {picture.name for picture in made.pictures}
    assert {"digits-10-front", "digits-5-front"} <= {picture.name for picture in made.pictures}, "asked for by name"
    elsewhere = "tuned.toml was tuned with dataset digits, clients 10; here: dataset my-data, clients 5"
    assert [note for note in made.notes if "was tuned" in note] == [f"Digits, 5 clients: {elsewhere}"]
    after = status(str(mine), "smoke", results=results)
    assert after.done == 6
    assert after.seconds_left is not None
    times = {path: path.stat().st_mtime_ns for path in storage.files(results)}
    next(iter(times)).unlink()
    again = reproduce(str(mine), preset="smoke", jobs=1, results=results, out=out, device="cpu")
    assert len(again.runs) == 6
    changed = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == [next(iter(times))], "only what was missing is run"


def test_columns_that_are_dealt_alike_have_one_picture_of_it(tmp_path: Path) -> None:
    """As those of a sweep; a third column has other clients."""
    column = '[[columns]]\nname = "{0}"\nlabel = "{0}"\ndataset = "digits"\nclients = {1}\npartition = "iid"\n{2}\n'
    text = (
        'title = "Mine"\npaper = "none"\ncaption = "none"\nmetric = "pooled"\nmethods = ["fedavg"]\n'
        "[presets.smoke]\nvisits = 2\nseeds = 1\n"
    )
    steps = "settings = {{ fedavg.local.steps = {} }}"
    text += column.format("one", 3, steps.format(1)) + column.format("two", 3, steps.format(2))
    (tmp_path / "mine.toml").write_text(text + column.format("other", 2, steps.format(1)))
    mine, out = str(tmp_path / "mine.toml"), tmp_path / "out"
    made = reproduce(mine, preset="smoke", jobs=1, results=tmp_path / "r", out=out, device="cpu")
    names = [picture.name for picture in made.pictures]
    assert [name for name in names if name.endswith("-partition")] == ["one-partition", "other-partition"]


def test_a_data_set_that_is_not_there_is_a_gap(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *a: (_ for _ in ()).throw(OSError("no network")))
    mine.write_text(MINE.replace('dataset = "digits"\nclients = 5', 'dataset = "mnist"\nclients = 5'))
    made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
    assert str(made.gaps["digits-5", "fedavg"]).startswith("cannot be run: ")
    assert "mnist.npz is missing" in str(made.gaps["digits-5", "fedavg"])
    assert ("digits-10", "fedavg") in made.jobs
