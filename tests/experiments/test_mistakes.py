"""All mistakes of a file at once, each with its line; and plug-ins that lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedbench.api import reproduce
from fedbench.errors import BadInput
from fedbench.experiments.schema import load
from fedbench.runs.plan import plan, plugin_mistakes

FILE = """\
title = "Mine"
paper = "none"
caption = "none"
metric = "pooled"
tables = ["grid"]
axis = "k"
methods = ["fedavg", "local"]

[presets.smoke]
visits = 20
seeds = 2

[[columns]]
name = "one"
label = "One"
dataset = "digits"
clients = 10
x = 1

[[columns]]
name = "two"
label = "Two"
dataset = "digits"
clients = 6
network = ["mlp-digits*2", "mlp-digits*4"]
visits = 8

[settings]
fedavg.local.lr = 0.01

[sources.memory]
text = "remembered"
certainty = "remembered"

[published.one]
fedavg = { mean = 50.0, source = "memory" }

[[claims]]
text = "One is better."
where = "nowhere"
certainty = "remembered"
rule = "fedavg > local in one"
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return path


MISTAKES = {  # what is replaced, by what, and what is said of it
    'title = "Mine"': ("title = 3", "title = 3: input should be a valid string"),
    'axis = "k"': ('axiss = "k"', "Did you mean 'axis'"),
    "seeds = 2": ("seeds = 0", "greater than or equal to 1"),
    "x = 1": ('x = "far"', "valid number"),
    'network = ["mlp-digits*2", "mlp-digits*4"]': ('network = ["mlp-digits*2", "mlp-digits*3"]', "make them add up"),
    "fedavg.local.lr = 0.01": ("fedavg.local.lrr = 0.01", "Did you mean 'local.lr'"),
    'certainty = "remembered"': ('certainty = "sure"', "'verified', 'mean-seen' or 'remembered'"),
    "mean = 50.0": ("mean = 500.0", "less than or equal to 100"),
    'rule = "fedavg > local in one"': ('rule = "fedavg > locall in one"', "Did you mean 'local'"),
    'where = "nowhere"': ('were = "nowhere"', "Did you mean 'where'"),
}


def lines_of(message: str) -> list[int]:
    return [int(number) for number in re.findall(r"line (\d+):", message)]


@pytest.mark.parametrize("old", MISTAKES)
def test_every_mistake_alone_has_its_line_and_remedy(mine: Path, old: str) -> None:
    new, message = MISTAKES[old]
    text = FILE.replace(old, new, 1)
    mine.write_text(text)
    with pytest.raises(BadInput) as error:
        load(str(mine), plugin_mistakes)
    assert message in str(error.value)
    assert text.splitlines().index(next(line for line in text.splitlines() if new in line)) + 1 in lines_of(
        str(error.value)
    )


def test_all_mistakes_are_reported_at_once_in_the_order_of_their_lines(mine: Path) -> None:
    """Those of form, those of names that other parts must know, and those that only plug-ins know."""
    left_out = ("where =", "axis =")  # these make others of a claim and a column vanish or appear
    text, expected = FILE, {}
    for old, (new, message) in MISTAKES.items():
        if not old.startswith(left_out):
            text = text.replace(old, new, 1)
            expected[new] = message
    text = text.replace("clients = 10", "clients = 10\nnovel_clients = 10", 1).replace('"local"]', '"local", "fedpe"]')
    mine.write_text(text)
    with pytest.raises(BadInput) as error:
        load(str(mine), plugin_mistakes)
    message = str(error.value)
    for new, words in expected.items():
        number = next(i for i, line in enumerate(text.splitlines(), 1) if new in line)
        assert any(f"line {number}:" in line and words in line for line in message.splitlines()), new
    assert "there is no method called 'fedpe'. Did you mean 'fedper'" in message
    assert lines_of(message) == sorted(lines_of(message))
    assert message.startswith(f"{mine} has {len(lines_of(message))} mistakes:")


def test_what_follows_from_a_mistake_is_none_of_its_own(mine: Path) -> None:
    """A column that cannot be read is still the column that published values and claims name."""
    mine.write_text(FILE.replace("clients = 10", "clients = 0", 1))
    with pytest.raises(BadInput) as error:
        load(str(mine), plugin_mistakes)
    assert lines_of(str(error.value)) == [17]
    mine.write_text(FILE.replace('methods = ["fedavg", "local"]', 'methods = "fedavg"', 1))
    with pytest.raises(BadInput) as error:
        load(str(mine), plugin_mistakes)
    assert lines_of(str(error.value))[0] == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x = 1", "x = nan", "x = nan: input should be a finite number"),
        ('["mlp-digits*2", "mlp-digits*4"]', '["mlp-digits*2", 4]', "give a text such as lenet, or a list of such"),
        (
            '["mlp-digits*2", "mlp-digits*4"]',
            '"mlp-digits*2,,mlp-digits*4"',
            "there is nothing before or after a comma",
        ),
        ('["mlp-digits*2", "mlp-digits*4"]', f'"mlp-digits*{"9" * 5000}"', "write NAME*CLIENTS"),
        ("fedavg.local.lr = 0.01", 'fedavg.local.lr = 0.01\n"fedavg.local.lr" = 0.1', "fedavg.local.lr is set twice"),
        ("[published.one]\nfedavg = ", '[published]\n"not a name" = [3]\none.fedavg = ', "names are lower-case"),
        ("[published.one]", '[published."not a name"]', "names are lower-case letters"),
    ],
)
def test_a_mistake_is_said_once(mine: Path, old: str, new: str, message: str) -> None:
    assert old in FILE
    mine.write_text(FILE.replace(old, new, 1))
    with pytest.raises(BadInput) as error:
        load(str(mine), plugin_mistakes)
    assert message in str(error.value)
    assert len(lines_of(str(error.value))) == 1


def test_a_mark_at_the_beginning_that_editors_write_is_no_mistake(mine: Path) -> None:
    mine.write_text(FILE, encoding="utf-8-sig")
    assert load(str(mine), plugin_mistakes).title == "Mine"


def test_nothing_is_made_of_a_file_with_mistakes(mine: Path, tmp_path: Path) -> None:
    mine.write_text(FILE.replace("fedavg > local in one", "fedavg >", 1))
    with pytest.raises(BadInput, match="cannot be read"):
        reproduce(str(mine), preset="smoke", results=tmp_path / "r", out=tmp_path / "o")
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "o").exists()


def test_an_experiment_without_columns_needs_a_part_that_needs_none(mine: Path) -> None:
    head = FILE[: FILE.index("methods =")] + FILE[FILE.index("[presets") : FILE.index("[[columns]]")]
    mine.write_text(head.replace('axis = "k"\n', ""))
    with pytest.raises(BadInput, match="the key methods is missing"):
        load(str(mine))
    mine.write_text(head.replace('axis = "k"\n', 'extras = ["sweep"]\n'))
    with pytest.raises(BadInput, match="the key methods is missing"):
        load(str(mine))
    mine.write_text(head.replace('axis = "k"\n', 'extras = ["linear-theory"]\n'))
    assert not load(str(mine)).columns


# ---------------------------------------------------------------- what a file may say


def test_a_column_has_visits_and_networks_of_its_own(mine: Path, tmp_path: Path) -> None:
    made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
    assert {job.spec.visits for job in made.jobs["one", "fedavg"]} == {20}
    assert {(job.spec.visits, job.spec.network) for job in made.jobs["two", "fedavg"]} == {(8, "mlp-digits")}
    assert made.visits("two") == 8


def test_a_preset_may_have_other_visits_in_single_columns(mine: Path, tmp_path: Path) -> None:
    mine.write_text(FILE.replace("seeds = 2", "seeds = 2\ncolumn_visits = { one = 30, two = 9 }"))
    made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
    assert {(column, job.spec.visits) for (column, _), jobs in made.jobs.items() for job in jobs} == {
        ("one", 30),
        ("two", 9),
    }
    mine.write_text(FILE.replace("seeds = 2", 'seeds = 2\ncolumns = ["one"]\ncolumn_visits = { two = 9 }'))
    with pytest.raises(BadInput, match="there is no column of this preset called 'two'"):
        load(str(mine))


def test_a_preset_may_run_some_methods_only(mine: Path, tmp_path: Path) -> None:
    mine.write_text(FILE.replace("seeds = 2", 'seeds = 2\nmethods = ["local"]'))
    made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
    assert set(made.jobs) == {("one", "local"), ("two", "local")}
    assert str(made.gaps["one", "fedavg"]) == "not in the preset: smoke"


def test_what_is_set_for_all_is_for_those_that_have_it(mine: Path, tmp_path: Path) -> None:
    """Also in a preset in which no method has it; and a column's word goes before the experiment's on one method."""
    text = FILE.replace('"local"]', '"local", "pfedhn"]').replace(
        "fedavg.local.lr = 0.01", "fedavg.local.lr = 0.01\nall.hypernetwork.hidden = 7"
    )
    text = text.replace("x = 1\n", "x = 1\nsettings = { all.local.lr = 0.3 }\n", 1)
    for methods in ("", 'methods = ["fedavg"]'):
        mine.write_text(text.replace("seeds = 2", f"seeds = 2\n{methods}"))
        made = plan(load(str(mine)), "smoke", data_root=tmp_path, results=tmp_path, device="cpu")
        assert {made.jobs[name, "fedavg"][0].spec.params["local.lr"] for name in ("one", "two")} == {0.3, 0.01}
        if not methods:
            assert made.jobs["one", "pfedhn"][0].spec.params["hypernetwork.hidden"] == 7


PLUGINS = {
    "mydata.py": "from fedbench.datasets.digits import Digits\n\n\nclass Mine(Digits):\n    title = 'Mine'\n"
    "    source = 'none'\n    network = 'mlp-digits'\n",
    "deal.py": "import numpy as np\nimport pydantic\n\nfrom fedbench.partition import Kind\n\n\n"
    "@pydantic.dataclasses.dataclass(frozen=True)\nclass Deal(Kind):\n    name = 'deal'\n    least_rows: int = 1\n\n"
    "    def shares(self, data, clients, seed):\n        return np.full((clients, data.classes), 1 / clients)\n",
    "net.py": "from fedbench.models import mlp\n\n\n"
    "def network(image, classes):\n    return mlp(image, classes, 8, 'net')\n",
}


def test_data_sets_partitions_and_networks_may_lie_beside_the_file(mine: Path, tmp_path: Path) -> None:
    for name, text in PLUGINS.items():
        (tmp_path / name).write_text(text)
    text = FILE.replace(
        'dataset = "digits"\nclients = 10', 'dataset = "mydata.py"\nclients = 10\npartition = "./deal.py:least_rows=2"'
    )
    mine.write_text(text.replace('"mlp-digits*2", "mlp-digits*4"', '"./net.py*2", "mlp-digits*4"'))
    made = plan(load(str(mine), plugin_mistakes), "smoke", data_root=tmp_path, results=tmp_path / "r", device="cpu")
    assert not made.gaps
    (job, *_), (other, *_) = made.jobs["one", "fedavg"], made.jobs["two", "fedavg"]
    assert (job.spec.dataset, job.spec.partition) == ("mydata", "deal:least_rows=2")
    assert other.spec.network == "net*2,mlp-digits*4"
    assert dict(other.networks) == {"net": str(tmp_path / "net.py")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('dataset = "digits"\nclients = 10', 'dataset = "digits"\npartition = "../deal.py"\nclients = 10'),
        ('"mlp-digits*2"', '"../net.py*2"'),
    ],
)
def test_plugins_from_elsewhere_are_refused(mine: Path, tmp_path: Path, old: str, new: str) -> None:
    mine.write_text(FILE.replace(old, new, 1))
    with pytest.raises(BadInput, match=r"line \d+: .*must lie beside the experiment file"):
        load(str(mine), plugin_mistakes)


@pytest.mark.parametrize(
    "text",
    ['"[key]" = 3', '[presets."[key]"]\nvisits = 1', '[sources."[key]"]\n"[key]" = 3', '[published."[key]"]\na = 3'],
)
def test_keys_may_be_called_as_the_library_calls_keys(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f"{text}\n{FILE}" if text.startswith('"') else f"{FILE}\n{text}\n")
    with pytest.raises(BadInput, match=r"\[key\]"):
        load(str(tmp_path / "mine.toml"))


def test_two_columns_of_one_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE.replace('label = "Two"', 'label = "One"'))
    with pytest.raises(BadInput, match="'One' is the label of two columns"):
        load(str(path))
