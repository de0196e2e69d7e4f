"""`reproduce NAME --preset smoke` of every experiment whose data are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedbench import plugins
from fedbench.api import reproduce
from fedbench.dataset import data_root
from fedbench.experiments.schema import load, names


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: runs that experiments share are made once."""
    return tmp_path_factory.mktemp("results")


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_smoke_preset_runs_and_renders(name: str, results: Path, tmp_path: Path) -> None:
    experiment = load(name)
    missing = [
        column.dataset
        for column in experiment.chosen("smoke")
        if plugins.find_dataset(column.dataset).cls.cached and not (data_root() / f"{column.dataset}.npz").is_file()
    ]
    if missing:
        pytest.skip(f"needs {missing[0]}.npz in {data_root()}")
    made = reproduce(name, preset="smoke", jobs=os.cpu_count(), results=results, out=tmp_path, device="cpu")
    assert made.status == 0, (made.warnings, made.gaps)
    page = made.page.read_text()
    assert all(claim.text.split(".")[0].split("'")[0] in page for claim in experiment.claims)
    assert made.tables
    for extra in experiment.extras:
        assert any(made.pictures), extra
    again = reproduce(name, preset="smoke", results=results, out=tmp_path, device="cpu", run=False)
    assert (made.out / "report.md").read_text() == (again.out / "report.md").read_text()
