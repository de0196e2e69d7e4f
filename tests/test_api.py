"""What a script and a notebook call."""

from __future__ import annotations

import functools
import inspect
import io
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import fedbench
from fedbench import plugins, tree
from fedbench.methods.fedavg import FedAvg
from fedbench.plugins.given import text_of
from fedbench.runs.arguments import checked

FACTOR = 0.5


def _half(a: tree.Tree, b: tree.Tree) -> tree.Tree:
    return tree.lerp(a, b, FACTOR)


@dataclass(frozen=True, kw_only=True)
class Halfway(FedAvg):
    title = "Halfway"

    def server_receive(self, server: tree.Tree, cohort: object, upload: tree.Tree) -> tree.Tree:
        return _half(server, super().server_receive(server, cohort, upload))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Other(FedAvg):
    title = "Other"  # with it this file has two methods, and neither can be found by the file


def test_names_are_there_and_the_import_is_light() -> None:
    script = (
        "import sys, fedbench\n"
        "assert not {'torch', 'pandas', 'rich', 'joblib'} & set(sys.modules), 'heavy'\n"
        "for name in fedbench.__all__: assert getattr(fedbench, name) is not None, name\n"
        "assert set(fedbench.__all__) <= set(dir(fedbench))\n"
        "assert callable(fedbench.check) and callable(fedbench.check.parametrize)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_title_with_brackets_is_shown_as_it_is_in_a_notebook(tmp_path: Path) -> None:
    """Two methods of one title are told apart by their names, in brackets, which are markup to rich."""
    options: dict[str, Any] = {"seeds": 1, "visits": 2, "settings": {"all.local.steps": 1}, "jobs": 1}
    twins = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.py"
        path.write_text(
            "from dataclasses import dataclass\nfrom fedbench.methods.fedavg import FedAvg\n\n"
            f'@dataclass(frozen=True, kw_only=True)\nclass {name.title()}(FedAvg):\n    title = "Twin"\n'
        )
        twins.append(path)
    html = fedbench.run(twins, "digits", results=tmp_path / "r", **options)._repr_html_()
    assert "<td>Twin [one]</td>" in html
    assert "\\[" not in html


def test_a_comparison_prints_as_a_table_and_is_a_frame(tmp_path: Path) -> None:
    """Classes and names side by side; torch's settings are afterwards what they were before."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    options: dict[str, Any] = {"seeds": 2, "visits": 4, "settings": {"Halfway.local.steps": 2, "fedavg.local.steps": 2}}
    scores = fedbench.run([Halfway, FedAvg], "digits", jobs=1, results=tmp_path, **options)  # type: ignore[arg-type]
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == before
    assert all(text in str(scores) for text in ("Halfway", "FedAvg", "4 client visits"))
    assert repr(scores) == str(scores)
    html = scores._repr_html_()
    assert "<td>Halfway</td>" in html
    assert html.count("<tr>") == 3
    assert list(scores.frame["seed"]) == [42, 42, 27, 27]
    assert scores.failures == []
    stored = fedbench.load_results(tmp_path).set_index("identity").loc[list(scores.frame["identity"])]
    assert list(stored["accuracy"]) == list(scores.frame["accuracy"])
    again = fedbench.run(
        [Halfway], "digits", jobs=1, results=tmp_path, **options | {"settings": {"all.local.steps": 2}}
    )  # type: ignore[arg-type]
    assert again.outcomes == []  # nothing was run again


def test_a_class_of_this_process_is_refused_by_others(tmp_path: Path) -> None:
    with pytest.raises(fedbench.BadInput, match=r"Halfway was defined .* jobs=2 .* jobs=1, or write it to a file"):
        fedbench.run([Halfway], visits=2, jobs=2, results=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_hash_of_a_class_covers_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class itself, a function beside it, and a constant which that function uses."""

    def code() -> str:
        return plugins.find_method(text_of("method", Halfway)).code

    first = code()
    assert code() == first
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 0.25)
    second = code()
    monkeypatch.setattr(sys.modules[__name__], "_half", lambda a, b: b)
    assert len({first, second, code()}) == 3


def _scaled(a: tree.Tree, b: tree.Tree, by: float = 1.0) -> tree.Tree:
    return tree.lerp(a, b, by)


def _kept(a: tree.Tree, b: tree.Tree) -> tree.Tree:
    return a


class _Step:
    """A callable with a value of its own."""

    def __init__(self, by: float) -> None:
        self.by = torch.tensor(by)

    def __call__(self, a: tree.Tree, b: tree.Tree) -> tree.Tree:
        return tree.lerp(a, b, float(self.by))


@pytest.mark.parametrize(
    "make",
    [
        lambda by: functools.partial(_scaled, by=by),
        lambda by: functools.cache(_scaled if by > 0.5 else _kept),
        _Step,
    ],
)
def test_the_hash_of_a_class_covers_callables_that_are_no_functions(
    make: Callable[[float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    for by in (0.25, 0.25, 0.75):
        monkeypatch.setattr(sys.modules[__name__], "_half", make(by))
        codes.append(plugins.find_method(text_of("method", Halfway)).code)
    assert codes[0] == codes[1] != codes[2]


def test_the_hash_of_a_tensor_is_that_of_its_numbers() -> None:
    """In every process: what torch pickles of a tensor has addresses in it."""
    script = (
        "import sys, torch\nfrom fedbench.plugins.given import _Hasher\n"
        "apart = [torch.zeros(9) for _ in range(int(sys.argv[1]))]\n"
        "def told(value): return _Hasher(hash_name='md5').hash(value)\n"
        "linear = torch.nn.Linear(2, 2)\ntorch.nn.init.ones_(linear.weight), torch.nn.init.zeros_(linear.bias)\n"
        "assert told(torch.ones(3)) == told(torch.ones(3)) != told(torch.ones(4))\n"
        "assert told(torch.ones(2, 3)) != told(torch.ones(3, 2)) != told(torch.ones(3, 2).int())\n"
        "print(told({'a': torch.ones(3, dtype=torch.bfloat16), 'b': linear}))\n"
    )
    printed = {
        subprocess.run([sys.executable, "-c", script, count], capture_output=True, text=True, check=True).stdout
        for count in ("1", "50")
    }
    assert len(printed) == 1


def test_a_class_of_a_file_or_a_name_is_found_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lonely.py").write_text(
        "from dataclasses import dataclass\nfrom fedbench.methods.fedavg import FedAvg\n\n"
        '@dataclass(frozen=True, kw_only=True)\nclass Mine(FedAvg):\n    title = "Mine"\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import lonely  # type: ignore[import-not-found]

    assert text_of("method", lonely.Mine) == str(tmp_path / "lonely.py")
    assert text_of("method", FedAvg) == "fedavg"
    assert text_of("method", "fedavg") == "fedavg"


@pytest.mark.parametrize(
    ("given", "message"),
    [(int, "must define exactly one subclass of Method|must be a subclass"), (3, "give a name, a file or a class")],
)
def test_what_is_no_plugin_is_refused(given: object, message: str) -> None:
    with pytest.raises(fedbench.BadInput, match=message):
        fedbench.run([given], visits=2)  # type: ignore[list-item]


def test_a_class_without_source_says_so(tmp_path: Path) -> None:
    module = ModuleType("typed_in")
    sys.modules["typed_in"] = module
    source = (
        "from dataclasses import dataclass\nfrom fedbench.methods.fedavg import FedAvg\n"
        '@dataclass(frozen=True, kw_only=True)\nclass TypedIn(FedAvg):\n    title = "t"\n'
    )
    exec(source, vars(module))
    with pytest.raises(fedbench.BadInput, match="the source of TypedIn is not known"):
        text_of("method", vars(module)["TypedIn"])


def test_a_failed_run_is_a_gap_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "unlucky.py").write_text(
        "from dataclasses import dataclass\nfrom fedbench.methods.fedavg import FedAvg\n\n"
        '@dataclass(frozen=True, kw_only=True)\nclass Unlucky(FedAvg):\n    title = "Unlucky"\n'
        "    def client_train(self, message, state, batches):\n        raise RuntimeError('no luck')\n"
    )
    file = str(tmp_path / "unlucky.py")
    scores = fedbench.run([file, "fedavg"], visits=2, seeds=[1], jobs=1, results=tmp_path / "results")
    assert [failure.message for failure in scores.failures] == ["RuntimeError: no luck"]
    assert "0/1" in str(scores)
    assert len(scores.frame) == 1


WRONG = [
    {"methods": 3},
    {"methods": []},
    {"methods": None},
    {"seeds": "42"},
    {"seeds": [1.5]},
    {"seeds": [-1]},
    {"seeds": 0},
    {"seeds": True},
    {"seeds": 3_000_000},
    {"visits": "5"},
    {"visits": 0},
    {"visits": 2.5},
    {"evaluate_every": 0},
    {"clients": 0},
    {"clients": "x"},
    {"partition": 3},
    {"network": ""},
    {"settings": 3},
    {"settings": {"lr": 1}},
    {"settings": {"fedavg.local.lr": "fast"}},
    {"novel_clients": -1},
    {"adapt_visits": -1, "novel_clients": 2},
    {"jobs": 0},
    {"jobs": "2"},
    {"device": 3},
    {"data_root": 3},
    {"results": ""},
    {"preset": 3},
    {"dataset": int},
    {"dataset": None},
    {"checkpoint_every": float("nan")},
    {"keep_models": "yes"},
]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
def test_a_wrong_argument_is_named_before_anything_runs(arguments: dict[str, object], tmp_path: Path) -> None:
    options = {"methods": "fedavg", "visits": 2, "seeds": [1], "jobs": 1, "results": tmp_path, **arguments}
    with pytest.raises(fedbench.BadInput) as refused:
        fedbench.run(**options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_whole_numbers_of_numpy_and_ranges_are_numbers(tmp_path: Path) -> None:
    import numpy as np

    options = {"visits": np.int64(2), "seeds": range(2), "jobs": 1, "results": tmp_path}
    assert len(fedbench.run("fedavg", settings={"fedavg.local.steps": 1}, **options).frame) == 2  # type: ignore[arg-type]


def test_python_and_the_command_line_have_the_same_arguments() -> None:
    """An option that is added on one side is added on the other."""
    import inspect
    from dataclasses import fields

    from fedbench import reporting
    from fedbench.cli.run import run as command
    from fedbench.runs.comparison import Comparison

    here, there = (set(inspect.signature(function).parameters) for function in (fedbench.run, command))
    other_names = {"set_": "settings", "seed_count": "seeds"}
    not_in_python = {"context", "config", "write_config", "dry_run"}
    assert {other_names.get(name, name) for name in there} - not_in_python == here - {"console"}
    assert {field.name for field in fields(Comparison)} - {"remote"} <= here
    made, shown = (inspect.signature(function).parameters for function in (reporting.report, fedbench.report))
    assert list(made) == list(shown)
    assert [each.default for each in made.values()] == [each.default for each in shown.values()]


def test_scores_of_no_runs_are_printed() -> None:
    """Those of a search that was stopped."""
    none = fedbench.Scores([], [])
    assert (str(none), none._repr_html_(), len(none.frame)) == ("no runs", "no runs", 0)


SEARCH: dict[str, Any] = {
    "trials": np.int64(2),
    "visits": "5",
    "evaluate_every": np.int64(5),
    "jobs": 1,
    "device": "cpu",
}


def test_a_search_with_numbers_of_numpy_writes_a_file_that_can_be_read(tmp_path: Path) -> None:
    search: dict[str, Any] = {"fedavg.local.lr": np.array([0.1, 0.01])}
    out = tmp_path / "tuned.toml"
    fedbench.tune("fedavg", search=search, settings={"fedavg.local.steps": 1}, results=tmp_path, out=out, **SEARCH)
    written = tomllib.loads(out.read_text())
    assert (written["tuning"]["trials"], written["methods"]["fedavg"]["trials"]) == ([2], 2)
    again = fedbench.run("fedavg", settings_file=out, seeds=[1], visits=5, jobs=1, results=tmp_path / "r", device="cpu")
    assert len(again.frame) == 1


def test_a_search_overwrites_no_other_file_and_says_what_it_replaces(tmp_path: Path) -> None:
    out, options = tmp_path / "tuned.toml", {**SEARCH, "settings": {"all.local.steps": 1}, "results": tmp_path}
    out.write_text("[project]\nname = 'mine'\n")
    with pytest.raises(fedbench.BadInput, match=r"tuned.toml is no settings file .*; it is not overwritten: remove it"):
        fedbench.tune("fedavg", out=out, **options)
    assert "mine" in out.read_text()
    out.unlink()
    fedbench.tune("fedavg", out=out, **options)
    text = io.StringIO()
    fedbench.tune("local", out=out, console=Console(file=text, width=300), **options)
    assert f"{out} had settings of fedavg, which go" in text.getvalue()
    assert set(tomllib.loads(out.read_text())["methods"]) == {"local"}


def test_a_search_of_a_method_that_fails_tells_the_error_and_not_of_rates(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from dataclasses import dataclass\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Broken(FedAvg):\n"
        "    title = 'Broken'\n"
        "    paper = 'none'\n"
        "    def server_receive(self, server, cohort, upload):\n"
        "        raise RuntimeError('no luck')\n"
    )
    with pytest.raises(fedbench.api.Untuned, match=r"all 2 trials of broken failed .*RuntimeError: no luck") as refused:
        fedbench.tune(tmp_path / "broken.py", results=tmp_path, out=tmp_path / "tuned.toml", **SEARCH)
    assert "rates" not in str(refused.value)


def test_a_search_whose_trials_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tuning").write_text("a file")
    with pytest.raises(fedbench.BadInput, match=r"results cannot be written to .*tuning"):
        fedbench.tune("fedavg", results=tmp_path, out=tmp_path / "tuned.toml", **SEARCH)


CALLS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "run": (fedbench.run, ()),
    "tune": (fedbench.tune, ()),
    "report": (fedbench.report, ()),
    "reproduce": (fedbench.reproduce, ("table1",)),
    "load_models": (fedbench.load_models, ("0123",)),
}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (call, name)
        for call, (function, _) in CALLS.items()
        for name in inspect.signature(function).parameters
        if name not in ("console", "result")
    ],
)
def test_a_wrong_argument_of_any_call_is_one_sentence_that_names_it(call: str, name: str, tmp_path: Path) -> None:
    """Of whatever a function can be given, so that a new argument is looked at too."""
    function, given = CALLS[call]
    wrong: dict[str, Any] = {} if name in ("results", "out") else {"results": tmp_path}
    wrong[name] = object()
    if call == "reproduce" and name == "name":
        given, name = (), "experiment"
    with pytest.raises(fedbench.BadInput) as refused:
        function(*given, **wrong)
    assert name in str(refused.value).replace("--", "")
    assert "\n" not in str(refused.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_numbers_may_be_those_of_numpy() -> None:
    assert checked("seeds", np.arange(2)) == [0, 1]
    assert checked("seeds", np.int64(3)) == 3
    assert checked("targets", (70, np.float32(0.5))) == [70, 0.5]
    assert checked("at", range(50, 150, 50)) == [50, 100]
    assert checked("settings", {"a.b": np.float32(0.5), "c.d": "x"}) == {"a.b": 0.5, "c.d": "x"}
    with pytest.raises(fedbench.BadInput, match=r"^jobs=True cannot be: give the number of runs"):
        checked("jobs", True)


def test_presets_of_experiments_are_named_as_all_is_named(tmp_path: Path) -> None:
    made = fedbench.reproduce("Table1", preset=" Smoke", run=False, results=tmp_path, out=tmp_path / "out")
    assert made.page.is_file()
