"""A data set, a partition and a network of one's own do all that built-in ones do: run, spread, verify, report."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedbench
from fedbench import plugins
from fedbench.plugins.new import new
from fedbench.runs.verify import verify
from fedbench.storage import read

KINDS = ("dataset", "partition", "network")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file of each kind, as `fedbench new` writes it."""
    return {kind: str(new(kind, f"my-{kind}", tmp_path)[0]) for kind in KINDS}


def run(files: dict[str, str], folder: Path, jobs: int, **options: str | None) -> list[Path]:
    scores = fedbench.run(
        methods=["fedavg", "local"],
        dataset=files["dataset"],
        seeds=[1],
        visits=4,
        evaluate_every=2,
        settings={"all.local.steps": 1},
        jobs=jobs,
        results=folder,
        **options,  # type: ignore[arg-type]
    )
    assert scores.failures == []
    return sorted(folder.glob("my-dataset/*/*.json"))


@pytest.mark.slow
def test_plugins_of_all_kinds_in_worker_processes(files: dict[str, str], tmp_path: Path) -> None:
    """And the same bits from one process as from two; a result says by what code it was made, and is verified."""
    options = {"partition": f"{files['partition']}:skew=3", "network": f"{files['network']}*5,mlp-digits*5"}
    two, one = (run(files, tmp_path / f"results-{jobs}", jobs, **options) for jobs in (2, 1))
    assert len(two) == len(one) == 2
    for a, b in zip(two, one, strict=True):
        assert read(a).digest == read(b).digest
    stored = read(two[0])
    assert stored.spec.partition == "my-partition:skew=3.0"
    assert stored.spec.network == "my-network*5,mlp-digits*5"
    assert set(stored.codes) == {"my-partition", "my-network"}
    given = {"dataset": files["dataset"], "partition": files["partition"], "networks": [files["network"]]}
    assert verify(two[0], **given).equal  # type: ignore[arg-type]
    made = fedbench.report(tmp_path / "results-1", tmp_path / "reports", figures=0)
    assert made.page.is_file()


def test_a_data_set_names_files_beside_it(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whatever folder it is used; `verify` finds them through the data set."""
    text = Path(files["dataset"]).read_text()
    text = text.replace('network = "mlp-digits"', 'network = "my_network.py"')
    Path(files["dataset"]).write_text(text.replace('partition = "classes"', 'partition = "my_partition.py:skew=3"'))
    plugins.find.cache_clear()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stored = run(files, tmp_path / "results", 1)[0]
    assert set(read(stored).codes) == {"my-partition", "my-network"}
    assert verify(stored, dataset=files["dataset"]).equal


def test_another_source_is_another_run(files: dict[str, str], tmp_path: Path) -> None:
    """A network that was edited makes its runs anew."""
    before = read(run(files, tmp_path / "results", 1, network=files["network"])[0])
    text = Path(files["network"]).read_text()
    Path(files["network"]).write_text(text.replace("F.relu(F.linear(", "F.silu(F.linear(").replace("fast=True, ", ""))
    after = read(run(files, tmp_path / "results", 1, network=files["network"])[0])
    assert before.spec == after.spec
    assert before.codes != after.codes
    assert before.digest != after.digest
