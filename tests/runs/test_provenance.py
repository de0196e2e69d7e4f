"""A result says where its numbers come from: versions, commit, processor, settings of torch."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

import torch
from small_runs import a_job, done

import fedbench
from fedbench import storage
from fedbench.runs.provenance import checkout


def test_a_result_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    done(a := a_job(tmp_path))
    found = storage.read(storage.result_path(a.results, a.spec)).provenance
    assert found["software"] == {
        "fedbench": fedbench.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
    }
    assert found["device"] == "cpu"
    assert found["host"]["instruction_set"].startswith(torch.backends.cpu.get_cpu_capability())
    assert found["determinism"]["torch_threads"] == 1
    assert found["determinism"]["deterministic_algorithms"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["finished"])


def test_the_commit_is_that_of_the_sources() -> None:
    """Where there is no checkout, nothing is claimed."""
    found = checkout()
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", found["commit"])
    assert (found["commit"] is None) == (found["uncommitted_changes"] is None)
