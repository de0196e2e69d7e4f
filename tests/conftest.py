"""What all tests share: one torch thread, and the tasks that methods are tested on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_experiment import MINE
from tiny import make_task

from fedbench.task import Task

torch.set_num_threads(1)  # as in every run: the numbers are the same, and small operations are faster


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """A run sets deterministic algorithms for its process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["mlp-plain", "mlp-fast", "lenet-plain", "lenet-fast"])
def task(request: pytest.FixtureRequest) -> Task:
    """A tiny problem: fast is the hand-written backward, plain is autograd through `torch.func`."""
    net, path = request.param.split("-")
    return make_task(net, plain=path == "plain")


@pytest.fixture(params=["mlp", "lenet"])
def plain_task(request: pytest.FixtureRequest) -> Task:
    """A tiny problem that autograd differentiates."""
    return make_task(request.param, plain=True)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """An experiment file of two methods on the digits."""
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path
