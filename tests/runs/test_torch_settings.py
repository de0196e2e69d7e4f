"""torch's settings decide bits: a run sets them, whatever it finds, and leaves them as it found them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedbench import fast, storage
from fedbench.models import lenet
from fedbench.runs import job
from fedbench.runs.comparison import Comparison
from fedbench.runs.torch_settings import SETTINGS, set_up_torch, torch_settings

OTHERWISE: dict[str, Any] = {  # what each setting can be in a notebook, other than a run wants it
    "the number of torch's threads": 2,
    "torch's deterministic mode": 0,
    "torch's default type": torch.float64,
    "torch's default device": torch.device("meta"),
    "torch's precision of matrix products": "medium",
    "torch's flushing of denormal numbers": True,
    "the switch torch.backends.mkldnn.enabled": False,
    "the switch torch.backends.mkldnn.deterministic": True,
    "the switch torch.backends.cudnn.enabled": False,
    "the switch torch.backends.cudnn.benchmark": True,
    "the switch torch.backends.cudnn.deterministic": True,
}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = torch_settings()
    yield
    for name, value in before.items():
        SETTINGS[name].set(value)


def digest(results: Path, **changes: Any) -> str:
    settings = {"fedavg.local.steps": "2"}
    jobs = Comparison(
        methods=["fedavg"], seeds=[1], clients=5, visits=6, evaluate_every=3, device="cpu", settings=settings,
        results=results, **changes,
    ).jobs()  # fmt: skip
    outcome = job.work(jobs[0], results / "stop", os.getpid(), wait=False)
    assert outcome.ending == "done", outcome
    return storage.read(storage.result_path(results, jobs[0].spec)).digest


def test_every_setting_is_tried() -> None:
    assert set(OTHERWISE) == set(SETTINGS)


@pytest.mark.parametrize("name", list(OTHERWISE))
def test_a_run_has_its_own_settings_and_leaves_those_of_the_process_alone(name: str) -> None:
    SETTINGS[name].set(OTHERWISE[name])
    before = torch_settings()
    assert before[name] == OTHERWISE[name]
    inside = []
    with contextlib.suppress(ZeroDivisionError), set_up_torch(torch.device("cpu")):  # also where the run fails
        inside.append(SETTINGS[name].get())
        1 / 0  # noqa: B018
    wanted = SETTINGS[name].wanted
    assert wanted is None or inside == [wanted]
    assert torch_settings() == before


def test_a_comparison_in_a_notebook_gives_the_same_bits_and_leaves_torch_as_it_found_it(tmp_path: Path) -> None:
    expected = digest(tmp_path / "plain")
    for name in OTHERWISE:
        if name != "torch's default device":  # which preparing the job would meet before the run does
            SETTINGS[name].set(OTHERWISE[name])
    before = torch_settings()
    assert digest(tmp_path / "otherwise") == expected
    assert torch_settings() == before


def test_importing_fedbench_changes_no_setting() -> None:
    """In a fresh process; every module, the kit and the plug-ins too."""
    code = (
        "import torch\n"
        "from fedbench.runs.torch_settings import torch_settings\n"
        "before = torch_settings()\n"
        "import fedbench.check, fedbench.cli, fedbench.reporting, fedbench.runs.pool\n"
        "from fedbench import plugins\n"
        "[plugins.find_method(name) for name in plugins.names('method')]\n"
        "[plugins.find_dataset(name) for name in plugins.names('dataset')]\n"
        "assert torch_settings() == before, torch_settings()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_fast_path_works_with_onednn_switched_off() -> None:
    """It asks the switch: the blocked layout cannot be computed with where oneDNN is off."""
    network = lenet((1, 16, 16), 4, 2)
    model = network.init(torch.Generator().manual_seed(0))
    images = torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with_onednn = fast.lenet_logits(model, images)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    torch.testing.assert_close(fast.lenet_logits(model, images), with_onednn)
