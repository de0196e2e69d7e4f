"""What a notebook shows: progress that is updated in place, tables, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CELLS = [
    """\
import os
from dataclasses import dataclass
import fedbench
from fedbench import tree
from fedbench.methods.fedavg import FedAvg
""",
    """\
@dataclass(frozen=True, kw_only=True)
class Mine(FedAvg):
    title = "Mine"

    def server_receive(self, server, cohort, upload):
        return tree.lerp(server, super().server_receive(server, cohort, upload), 0.5)


@dataclass(frozen=True, kw_only=True)
class Bare(FedAvg):  # a class without a function has no source that Python could tell
    title = "Bare"
""",
    """\
scores = fedbench.run(["fedavg", Mine, Bare], "digits", seeds=[1], visits=20, settings={"all.local.steps": 2})
scores
""",
    "fedbench.run(Mine, visits=20, jobs=2)",
    "len(scores.frame)",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The outputs of each cell of an executed notebook."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    resources = {"metadata": {"path": str(folder)}}
    client.NotebookClient(book, timeout=300, allow_errors=True, resources=resources).execute()
    assert list(Path(folder).glob("results/digits/mine/*.json"))
    return [cell.outputs for cell in book.cells]


@pytest.mark.slow
def test_a_notebook_runs_classes_and_shows_a_table(outputs: list[list[Any]]) -> None:
    *shown, table = outputs[2]
    assert table["output_type"] == "execute_result"
    assert "<td>Mine</td>" in table["data"]["text/html"]
    assert "<td>Bare</td>" in table["data"]["text/html"]
    texts = [each["data"]["text/plain"] for each in shown]
    assert texts[0].startswith("planning: fedavg, Mine, Bare on digits")
    assert [text for text in texts if "3/3 runs" in text] == [texts[-1]]  # one place, which was updated
    assert len(texts) <= 4
    assert outputs[4][0]["data"]["text/plain"] == "3"


@pytest.mark.slow
def test_a_notebook_says_why_not_in_many_processes(outputs: list[list[Any]]) -> None:
    error = outputs[3][-1]
    assert error["output_type"] == "error"
    assert error["ename"] == "BadInput"
    assert "jobs=1, or write it to a file (in a notebook, by %%writefile my_method.py)" in error["evalue"]
