"""Another processor computes other bits: what was made with one is not gone on with another, and verify says so.

The libraries' own switches stand in for another processor, in a process of their own, for they are read once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import a_job, cut, done, edited

from fedbench import storage
from fedbench.runs.arithmetic import arithmetic, instruction_set
from fedbench.runs.verify import Verdict, verify

SWITCHES = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
CODE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import json, os
from small_runs import a_job, storage, work
a = a_job(Path(sys.argv[1]))
outcome = work(a)
print(json.dumps([outcome.ending, list(outcome.warnings)]))
"""


def elsewhere(results: Path) -> Any:
    """How the run of `a_job` ends on another instruction set, and its warnings."""
    command = [sys.executable, "-c", CODE, str(results), str(Path(__file__).parents[1] / "support")]
    ended = subprocess.run(command, env={**os.environ, **SWITCHES}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_how_the_processor_computes_is_in_the_provenance(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    done(a)
    host = storage.read(storage.result_path(a.results, a.spec)).provenance["host"]
    assert host["instruction_set"] == instruction_set()
    assert host["arithmetic"] == arithmetic()
    assert torch.backends.cpu.get_cpu_capability() in instruction_set()


def test_the_small_sums_are_those_of_the_processor_alone() -> None:
    """Neither the number of threads nor torch's settings, nor random numbers, have a part in them."""
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    found = set()
    try:
        for count, dtype in ((1, torch.float32), (2, torch.float64), (2, torch.float32)):
            torch.set_num_threads(count)
            torch.set_default_dtype(dtype)
            arithmetic.cache_clear()
            found.add(arithmetic())
            assert torch.get_num_threads() == count
            assert torch.get_default_dtype() == dtype
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
    assert len(found) == 1


@pytest.mark.parametrize("switch", SWITCHES)
def test_other_kernels_give_other_sums(switch: str) -> None:
    """Each of the libraries has a part in the small computation: with other kernels of any, its hash is another."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has one kind of kernels only")
    command = [sys.executable, "-c", "from fedbench.runs.arithmetic import arithmetic; print(arithmetic())"]
    limited = {**os.environ, switch: SWITCHES[switch]}
    printed = subprocess.run(command, env=limited, capture_output=True, text=True, check=True).stdout
    assert printed.strip() not in ("", arithmetic())


@pytest.mark.slow
def test_a_run_is_not_gone_on_with_on_another_instruction_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew and says so: neither half of this and half of that, nor in silence."""
    straight, other = tmp_path / "straight", tmp_path / "other"
    assert elsewhere(straight) == ["done", []]
    a = a_job(other)
    cut(a, 7, monkeypatch)
    ending, warnings = elsewhere(other)
    assert ending == "done"
    assert len(warnings) == 1
    assert "made with another instruction_set, arithmetic; the run starts afresh" in warnings[0]
    digests = [storage.read(storage.result_path(root, a.spec)).digest for root in (straight, other)]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_verify_says_that_equal_bits_cannot_be_expected(tmp_path: Path) -> None:
    a = a_job(tmp_path)
    assert elsewhere(tmp_path) == ["done", []]
    text = str(verify(storage.result_path(tmp_path, a.spec)))
    there = f"DEFAULT {' '.join(f'{k}={v}' for k, v in SWITCHES.items())}, whose small sums are "
    assert f" with {there}" in text
    assert f" with {instruction_set()}, whose small sums are {arithmetic()} now" in text
    assert "the largest difference in a client's test accuracy is " in text


def test_verify_tells_the_largest_difference(tmp_path: Path) -> None:
    """One client of 4 has one row more right: the difference is one of its rows."""
    a = a_job(tmp_path, novel_clients=0, clients=4, adapt_visits=None)
    done(a)
    path = storage.result_path(a.results, a.spec)
    total = storage.read(path).best.test.total[0]

    def change(result: dict[str, Any]) -> None:
        scores = result["best"]["test"]
        scores["correct"][0] += 1 if scores["correct"][0] < scores["total"][0] else -1
        result["provenance"]["host"]["instruction_set"] = "AVX9000"

    verdict = verify(edited(path, change))
    assert verdict.place == "best.test.correct.0"
    assert " with AVX9000, whose small sums are " in str(verdict)
    assert f"in a client's test accuracy is {100 / total:.1f} points" in str(verdict)
    assert verify(path) == Verdict(True)


@pytest.mark.parametrize(
    ("change", "decided"),
    [
        ({}, True),
        ({"processor": "another"}, True),  # which computes as this one does
        ({"arithmetic": "0" * 16}, False),
        ({"arithmetic": None}, True),  # older results say the make alone
        ({"arithmetic": None, "processor": "another"}, False),
        ({"arithmetic": None, "instruction_set": "AVX9000"}, False),
        ({"instruction_set": None}, True),  # and still older ones nothing: what differs is called different
    ],
)
def test_a_difference_is_one_only_where_processors_compute_alike(
    change: dict[str, Any], decided: bool, tmp_path: Path
) -> None:
    a = a_job(tmp_path)
    done(a)

    def altered(result: dict[str, Any]) -> None:
        result["best"]["test"]["loss"][0] += 1e-9
        host = result["provenance"]["host"]
        host.update(change)
        result["provenance"]["host"] = {key: value for key, value in host.items() if value is not None}

    verdict = verify(edited(storage.result_path(a.results, a.spec), altered))
    assert not verdict.equal
    assert str(verdict).startswith("different" if decided else "not to be decided here")
