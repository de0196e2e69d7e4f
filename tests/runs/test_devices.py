"""Devices are tokens: none ever has more runs than it was meant to have. Tested without a GPU, on made-up names."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import a_job, numbers

from fedbench import storage
from fedbench.runs import pool
from fedbench.runs.devices import Devices, physical
from fedbench.runs.execution import workers_for
from fedbench.runs.job import Note, Outcome


class Never:
    def exists(self) -> bool:
        return False


class Asked:
    def exists(self) -> bool:
        return True


def hold(devices: Devices, log: Path, seconds: float) -> None:
    """Take a token for a while, and note when."""
    with devices.take(Never()) as name:
        began = time.monotonic()
        time.sleep(seconds)
        log.with_name(f"{name}-{os.getpid()}").write_text(f"{began} {time.monotonic()}")


@pytest.mark.parametrize(("names", "each"), [(("cuda:0",), 1), (("cuda:0",), 2), (("cuda:0", "cuda:1"), 1)])
def test_no_device_has_more_runs_than_it_takes(names: tuple[str, ...], each: int, tmp_path: Path) -> None:
    """Five processes want one at the same time: at every moment, at most `each` hold the same device."""
    devices = Devices(names, each, tmp_path / "tokens")
    (tmp_path / "log").mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=hold, args=(devices, tmp_path / "log" / "x", 0.3)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    held: list[tuple[str, float, float]] = []
    for path in (tmp_path / "log").iterdir():
        began, ended = map(float, path.read_text().split())
        held.append((path.name.split("-")[0], began, ended))
    assert len(held) == 5
    for name, began, _ in held:
        together = [1 for other, start, end in held if other == name and start <= began < end]
        assert len(together) <= each
    assert {name for name, _, _ in held} == set(names)  # the first of each before the second of any


def test_a_token_comes_back_when_its_holder_dies(tmp_path: Path) -> None:
    devices = Devices(("cuda:0",), 1, tmp_path)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(devices, tmp_path / "x", 60.0))
    process.start()
    time.sleep(0.5)
    process.kill()
    process.join()
    with devices.take(Never()) as name:
        assert name == "cuda:0"


def test_who_waits_for_a_token_hears_a_stop(tmp_path: Path) -> None:
    devices = Devices(("cuda:0",), 1, tmp_path)
    with devices.take(Never()), devices.take(Asked()) as name:
        assert name is None


def test_tokens_are_of_the_machine_and_not_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that were each given another GPU call it cuda:0 both."""
    assert physical("cuda:1") == "cuda:1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [physical(f"cuda:{i}") for i in range(3)] == ["cuda:3", "cuda:5", "cuda:2"]
    assert physical("cpu:0") == "cpu:0"


def test_a_part_of_a_gpu_is_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-0a1b/1/0,MIG-GPU-0a1b/2/0")
    devices = Devices(("cuda:0", "cuda:1"), 1, tmp_path)
    with devices.take(Never()) as first, devices.take(Never()) as second:
        assert (first, second) == ("cuda:0", "cuda:1")


def test_as_many_runs_at_a_time_as_there_are_places_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a core or a device, however few runs were planned first: a search makes more of them than a comparison."""
    monkeypatch.setattr(Devices, "of_this_machine", lambda each: Devices(("cuda:0", "cuda:1"), each))
    monkeypatch.setattr("fedbench.runs.workers.cpu_count", lambda: 16)
    jobs = [a_job(tmp_path, seeds=[seed]) for seed in range(1, 21)]
    gpu = [replace(job, device="cuda") for job in jobs]
    usual = workers_for(jobs[:3], None, 1, None)
    assert [usual.at_once(jobs), usual.at_once(jobs[:3]), usual.at_once([])] == [16, 3, 1]
    assert [usual.at_once(gpu), workers_for(gpu, None, 3, None).at_once(gpu)] == [2, 6]
    assert [workers_for(jobs, 5, 3, None).at_once(jobs), workers_for(gpu, 5, 3, None).at_once(gpu)] == [5, 5]


@pytest.mark.slow
def test_jobs_take_turns_on_a_device_and_their_numbers_do_not_tell(tmp_path: Path) -> None:
    """One device that takes one run, and four processes: never two notes at a time; outcomes name the job as given."""
    jobs = [a_job(tmp_path / "turns", seeds=[seed]) for seed in (1, 2, 3)]
    devices = Devices(("cpu:0",), 1, tmp_path / "tokens")
    most: list[int] = []
    ended: list[Outcome] = []

    def progress(notes: dict[str, Note]) -> None:
        most.append(len(notes))

    assert [o.ending for o in pool.run(jobs, 4, progress, ended.append, devices=devices)] == ["done"] * 3
    assert sorted(o.job.spec.seed for o in ended) == [1, 2, 3]
    assert all(outcome.job in jobs for outcome in ended)
    assert max(most, default=0) <= 1
    straight = replace(jobs[0], results=tmp_path / "straight")
    pool.run([straight], 1, progress, ended.append)
    paths = [storage.result_path(job.results, job.spec) for job in (jobs[0], straight)]
    assert numbers(paths[0]) == numbers(paths[1])
