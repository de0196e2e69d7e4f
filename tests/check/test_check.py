"""The conformance kit: every built-in method passes, and each check catches a method that is wrong in its way.

The wrong methods are modelled on mistakes found in published code.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from fedbench import plugins
from fedbench.check import Subject, each_check, parametrize, run_check, run_checks, sentences
from fedbench.check.process import changed, process_state
from fedbench.errors import BadInput
from fedbench.method import Cohort, Method
from fedbench.methods.fedavg import FedAvg
from fedbench.plugins import Plugin
from fedbench.plugins.new import new_method
from fedbench.tree import Tree

QUICK = ["fedper", "lg-fedavg", "local", "pfedhn-pc"]
OTHERS = [name for name in plugins.names("method") if name not in QUICK]


@parametrize(QUICK)
def test_built_in_methods_keep_the_contract(check: Callable[[], None]) -> None:
    check()


@pytest.mark.slow
@parametrize(OTHERS)
def test_other_built_in_methods_keep_the_contract(check: Callable[[], None]) -> None:
    check()


# ---------- what is told


def subject(cls: type[Method]) -> Subject:
    return Subject(Plugin("wrong", cls, "wrong", "0"))


@dataclass(frozen=True, kw_only=True)
class LastOneWins(FedAvg):
    """Takes the last client's model instead of the mean."""

    def server_receive(self, server: Tree, cohort: Cohort, upload: Tree) -> Tree:
        return {name: value[-1] for name, value in upload.items()}


def test_a_declared_deviation_is_reported_with_its_reason() -> None:
    class Declared(LastOneWins):
        deviations: ClassVar[dict[str, str]] = {"client order does not matter": "the last one wins"}

    result = run_check(subject(Declared), "client order does not matter")
    assert result.status == "declared"
    assert "the last one wins" in result.seen


def test_a_failing_case_tells_what_was_expected_and_seen(tmp_path: Path) -> None:
    file = tmp_path / "broken_one.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Broken(FedAvg):\n"
        "    title = ''\n"
    )
    mark = parametrize([str(file)])
    cases = mark.args[1]
    assert [case.sentence for case in cases] == sentences()
    with pytest.raises(AssertionError, match=r"expected: two texts that are not empty\nseen: title is ''"):
        cases[0]()
    cases[1]()


def test_the_kit_leaves_the_process_as_it_was() -> None:
    torch.set_num_threads(2)
    before = process_state()
    try:
        for sentence in ("same seed same bits", "the server changes after a round"):
            run_check(subject(FedAvg), sentence)
        assert changed(before, process_state()) == []
    finally:
        torch.set_num_threads(1)


@dataclass(frozen=True, kw_only=True)
class Crashes(FedAvg):
    """Fails whenever a client trains."""

    def client_train(self, message: Tree, state: Tree, batches: Tensor) -> tuple[Tree, Tree]:
        raise ArithmeticError("rates are not rates")


def test_one_mistake_is_told_once_with_its_line() -> None:
    """All that fails for the same reason names the sentence that was told in full."""
    failed = [result for result in each_check(Plugin("crashes", Crashes, "crashes", "0")) if result.status == "fails"]
    line = inspect.getsourcelines(Crashes.client_train)[1] + 1
    assert failed[0].seen == "ArithmeticError: rates are not rates"
    assert failed[0].place == f"test_check.py, line {line}"
    assert failed[0].follows == ""
    assert len(failed) > 20
    assert {result.follows for result in failed[1:]} == {failed[0].sentence}


CRASHES = """\
from dataclasses import dataclass
from fedbench.methods.fedavg import FedAvg

@dataclass(frozen=True, kw_only=True)
class Crashes(FedAvg):
    title = "Crashes"

    def server_send(self, server, cohort):
        raise ArithmeticError("no message")
"""


def test_the_command_line_counts_what_fails_for_the_same_reason(tmp_path: Path) -> None:
    file = tmp_path / "crashes.py"
    file.write_text(CRASHES)
    command = [sys.executable, "-m", "fedbench", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert text.count("ArithmeticError: no message (crashes.py, line 9)") == 1
    assert re.search(r"and \d\d others, as far as can be told because of: messages are stacked tensors", text)


@pytest.mark.slow
def test_a_plugin_that_changes_a_setting_when_it_is_imported_is_found(tmp_path: Path) -> None:
    file = tmp_path / "switches.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "torch.backends.mkldnn.enabled = False\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Switches(FedAvg):\n"
        "    title = 'Switches'\n"
    )
    try:
        found = Subject(plugins.find_method(str(file)))
        assert run_check(found, "the process is left as it was").status == "holds"  # each call does
        result = run_check(found, "a fresh process answers the same")
    finally:
        torch.backends.mkldnn.enabled = True  # type: ignore[assignment]
    assert result.status == "fails"
    assert result.seen == "importing it changes the switch torch.backends.mkldnn.enabled"


@pytest.mark.slow
def test_a_plugin_that_reads_a_file_when_it_is_imported_is_found(tmp_path: Path) -> None:
    """What a module beside it reads as well; what is imported is none of it."""
    (tmp_path / "factor.txt").write_text("0.5")
    (tmp_path / "factor_of_mine.py").write_text(
        "from pathlib import Path\nFACTOR = float(Path(__file__).with_name('factor.txt').read_text())\n"
    )
    file = tmp_path / "reads.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "import wave\n"
        "from factor_of_mine import FACTOR\n"
        "from fedbench.methods.fedavg import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Reads(FedAvg):\n"
        "    title = 'Reads'\n"
    )
    result = run_check(Subject(plugins.find_method(str(file))), "a fresh process answers the same")
    assert result.status == "fails"
    belongs = "which belongs to no code hash: write into the file what it needs"
    assert result.seen == f"importing it opens {tmp_path / 'factor.txt'}, {belongs}"


# ---------- fedbench new method


@pytest.mark.slow
def test_a_new_method_keeps_the_contract_as_it_stands(tmp_path: Path) -> None:
    """And is formatted and linted as the project is."""
    method, test = new_method("My_Method", tmp_path)
    assert (method.name, test.name) == ("my_method.py", "test_my_method.py")
    results = run_checks(plugins.find_method(str(method)))
    assert [result.sentence for result in results if result.status != "holds"] == []
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), str(method), str(test)]
    assert subprocess.run([*ruff, "check", "--ignore", "D103", *options], check=False).returncode == 0
    assert subprocess.run([*ruff, "format", "--check", *options], check=False).returncode == 0


def test_the_test_file_of_a_new_method_runs(tmp_path: Path) -> None:
    _, test = new_method("tree", tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "title or hyperparameters",
        "-p",
        "no:cacheprovider",
        str(test),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_method("mine", tmp_path)
    for left in ("mine.py", "test_mine.py"):
        (tmp_path / "mine.py").unlink(missing_ok=True)
        (tmp_path / "test_mine.py").unlink(missing_ok=True)
        (tmp_path / left).write_text("work of weeks")
        with pytest.raises(BadInput, match="is there already"):
            new_method("mine", tmp_path)
        assert [file.read_text() for file in tmp_path.iterdir()] == ["work of weeks"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.py", "1st", "a--b", "-a", "a-", "a b c!", "é", "x" * 61])
def test_names_that_are_no_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no name for a method"):
        new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_built_in_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'fedavg' already"):
        new_method("FedAvg", tmp_path)
