"""Measure what must not grow: a visit among many clients, a job that does nothing, a plan of ten thousand runs.

    python tests/benchmarks/scale.py [visits] [jobs] [plan] [local] [cluster]

Each part prints one table; ratios are of times taken in turns in one process. `local` needs about 1.5 GB of memory and
2.5 GB of disk, `cluster` the extra of that name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

PLANNED, DONE, EMPTY = 10_000, 9_000, 300
FEW, MANY = 10, 5_000
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "pfedhn (embedding size 8)": ("pfedhn", {"hypernetwork.embedding_size": 8}),
    "pfedhn (default size)": ("pfedhn", {}),
    "fedavg": ("fedavg", {}),
    "fedper": ("fedper", {}),
}

NOTHING = '''
"""A method whose clients do nothing."""

from dataclasses import dataclass
from fedbench import tree
from fedbench.method import Method


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Nothing."""

    title = "Nothing"
    paper = "none"

    def server_init(self, rng):
        return self.task.init(rng)

    def server_send(self, server, cohort):
        return tree.expand(server, len(cohort.ids))

    def client_train(self, message, state, batches):
        return message, state

    def server_receive(self, server, cohort, upload):
        return server
'''


def peak() -> float:
    """The most memory that this process had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


# ---------------------------------------------------------------- visits


def cifar(folder: Path, images: int) -> Path:
    """Random images of CIFAR-10's shape; enough of them that every client has several."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, rows in (("train", images), ("test", images // 5)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(rows) % 10
    np.savez(folder / "cifar10.npz", **arrays)
    return folder


def visits(folder: Path, repeats: int) -> None:
    """A round of one client, with the same number of images in a batch, among few clients and among many."""
    import torch

    from fedbench import fast, plugins
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.prepare import prepare
    from fedbench.runs.torch_settings import set_up_torch

    root = cifar(folder, 60_000)

    def rounds(name: str, settings: dict[str, object], clients: int) -> Callable[[], float]:
        fixed = {**settings, "clients_per_round": 1, "local.batch_size": 4, "local.steps": 20}
        job = Comparison(
            methods=[name],
            seeds=[1],
            dataset="cifar10",
            clients=clients,
            partition="iid",
            visits=10_000,
            settings={f"{name}.{key}": value for key, value in fixed.items()},
            device="cpu",
            data_root=root,
        ).jobs()[0]
        engine = prepare(job.spec, plugins.find_method(name), plugins.find_dataset("cifar10"), root).engine
        progress = engine.start()

        def one() -> float:
            began = time.process_time()
            for _ in range(5):
                engine.round(progress)
            return (time.process_time() - began) / 5

        return one

    print(f"\nA visit (20 steps of 4 images) among {FEW} and {MANY} clients; at most 1.2 is asked for.\n")
    row("method", f"{FEW} clients", f"{MANY} clients", "ratio")
    row("---", "---", "---", "---")
    with set_up_torch(torch.device("cpu")), fast.kept_memory(), torch.no_grad():
        for title, (name, settings) in METHODS.items():
            few, many = rounds(name, settings, FEW), rounds(name, settings, MANY)
            pairs = [(few(), many()) for _ in range(repeats + 1)][1:]
            a, b = (median(times) for times in zip(*pairs, strict=True))
            row(title, f"{a * 1e3:.1f} ms", f"{b * 1e3:.1f} ms", f"{b / a:.2f}")


# ---------------------------------------------------------------- jobs that do nothing


def empty_jobs(folder: Path, scheduler: str | None) -> None:
    """The time of a job whose clients do nothing, beyond its own seconds."""
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.pool import split_done
    from fedbench.runs.workers import Workers

    plugin = folder / "nothing.py"
    plugin.write_text(NOTHING)
    name = "cluster" if scheduler else "local"
    jobs = Comparison(
        methods=[str(plugin)],
        seeds=range(EMPTY + 2),
        visits=1,
        clients=2,
        evaluate_every=1,
        device="cpu",
        results=folder / name,
    ).jobs()
    workers = Workers(jobs=2, scheduler=scheduler)
    workers.run(jobs[:2], lambda notes: None, lambda outcome: None)  # the workers import torch
    began = time.perf_counter()
    outcomes = workers.run(jobs[2:], lambda notes: None, lambda outcome: None)
    each = 2 * (time.perf_counter() - began) / EMPTY
    assert {outcome.ending for outcome in outcomes} == {"done"}
    from fedbench import storage

    own = median(storage.read(path).last.seconds for path in storage.files(folder / name))
    began = time.perf_counter()
    split_done(jobs)
    again = time.perf_counter() - began
    row(
        f"{EMPTY} jobs on two {name} workers", f"{(each - own) * 1e3:.0f} ms beyond {own * 1e3:.0f} of its own", "50 ms"
    )
    row("finding them done", f"{again:.2f} s", "")


@contextlib.contextmanager
def two_workers() -> Iterator[str]:
    """The address of a Dask scheduler with two workers, each a process of its own."""
    from distributed import LocalCluster

    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(host="127.0.0.1", scheduler_port=0, **options) as made:
        yield made.scheduler_address


# ---------------------------------------------------------------- ten thousand runs


def ten_thousand(folder: Path) -> list[str]:
    """The options of a comparison of 10,000 runs, 9,000 of which are stored."""
    from fedbench import storage
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.job import Job, work

    methods = ["fedavg", "fedavg-ft", "fedper", "lg-fedavg", "local", "per-fedavg", "pfedhn", "pfedhn-pc", "pfedme"]
    names, seeds = [*methods, "fedavg"], list(range(PLANNED // 10))
    results = folder / "many"

    def jobs(methods: list[str]) -> list[Job]:
        made = Comparison(methods=methods, seeds=seeds, visits=1000, clients=10, device="cpu", results=results)
        return made.jobs()

    planned = jobs(names[:9])
    template: dict[str, dict[str, object]] = {}
    for job in planned[:9]:  # one real result of each method, as long as those of a real campaign
        short = Comparison(
            methods=[job.method],
            seeds=[0],
            visits=20,
            clients=10,
            evaluate_every=10,
            device="cpu",
            results=folder / "one",
        ).jobs()[0]
        assert work(short, folder / "none", os.getpid(), wait=True).ending == "done"
        made = storage.read(storage.result_path(short.results, short.spec)).model_dump(mode="json")
        test, last = made["best"]["test"], made["history"][-1]
        rows = [{**last, "round": 10 * i, "visits": 50 * i, "val_accuracy": 0.5} for i in range(20)]
        made["history"] = [*rows, {**last, "round": 200, "visits": 1000, "val_accuracy": 0.75}]
        first, best = ({**made["history"][i], "test": test} for i in (0, -1))
        del first["seconds"], best["seconds"]
        made |= {"earlier": [first], "best": best}
        template[job.spec.method] = made
    for job in planned[:DONE]:
        made = {**template[job.spec.method], "spec": job.spec.model_dump(mode="json")}
        made["digest"] = storage.digest(made)
        path = storage.result_path(job.results, job.spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made, indent=1))
    return ["--methods", ",".join(methods), "--seeds", ",".join(map(str, range(PLANNED // 9)))]


PLAN = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from fedbench.runs.comparison import Comparison, check_possible
from fedbench.runs.pool import split_done
from fedbench.runs.status import status
results = Path(sys.argv[1])
methods = sys.argv[2].split(",")
imported = time.perf_counter()
if sys.argv[3] == "status":
    found = status(results)
    count = sum(found.done.values())
else:
    jobs = Comparison(methods=methods, seeds=range(-(-10_000 // len(methods))), visits=1000, clients=10, device="cpu",
                      results=results).jobs()
    done, todo = split_done(jobs)
    count = len(done)
    check_possible(todo)
now = time.perf_counter()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([count, imported - began, now - imported, time.process_time(), memory]))
"""


def plan(folder: Path) -> None:
    """Seconds and memory of a plan of 10,000 runs, and of `status`; without an index, and with one."""
    options = ten_thousand(folder)
    time.sleep(2.5)  # files of this moment are not indexed
    for what, how in (("plan, no index", "plan"), ("plan", "plan"), ("status", "status")):
        command = [sys.executable, "-c", PLAN, str(folder / "many"), options[1], how]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        count, importing, seconds, cpu, kilobytes = json.loads(done.splitlines()[-1])
        assert count == DONE
        memory = kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
        row(
            f"{what}: {count} done",
            f"{seconds:.1f} s + {importing:.1f} s of imports ({cpu:.1f} s of CPU), {memory:.2f} GB",
            "10 s, 1 GB",
        )
    command = [sys.executable, "-m", "fedbench", "run", *options, "--visits", "1000", "--clients", "10"]
    command += ["--device", "cpu", "--results", str(folder / "many"), "--jobs", "1"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "many" / ".work").glob("*.progress")):
        time.sleep(0.05)
    row("`fedbench run` to the first run's start", f"{time.perf_counter() - began:.1f} s", "15 s")
    process.terminate()
    process.wait()


# ---------------------------------------------------------------- Local with 5,000 LeNets

LOCAL = """
import os, resource, sys, time
from pathlib import Path
from fedbench.runs.comparison import Comparison
from fedbench.runs.job import work
root, results = map(Path, sys.argv[1:])
job = Comparison(methods=["local"], seeds=[1], dataset="cifar10", clients=5000, partition="iid", visits=5200,
                 evaluate_every=5200, device="cpu", data_root=root, results=results,
                 settings={"local.local.steps": "1", "local.local.batch_size": "4"}).jobs()[0]
outcome = work(job, Path("no-such-file"), os.getpid(), wait=True)
print(outcome.ending, outcome.message, *outcome.warnings, sep="; ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def local(folder: Path) -> None:
    """The memory of a run in which each of 5,000 clients keeps a LeNet."""
    root = cifar(folder, 60_000)
    done = subprocess.run(
        [sys.executable, "-c", LOCAL, str(root), str(folder / "local")], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    print(done[-2])
    memory = int(done[-1]) * (1 if sys.platform == "darwin" else 1024) / 1e9
    row("Local, 5,000 LeNets, every client visited", f"{memory:.2f} GB", "1.5 GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["visits", "jobs", "plan"])
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    print(f"load when this began: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        if "visits" in chosen.parts:
            visits(Path(folder), chosen.repeats)
        print()
        row("what", "measured", "asked for")
        row("---", "---", "---")
        if "jobs" in chosen.parts:
            empty_jobs(Path(folder), None)
        if "cluster" in chosen.parts:
            with two_workers() as address:
                empty_jobs(Path(folder), address)
        if "plan" in chosen.parts:
            plan(Path(folder))
        if "local" in chosen.parts:
            local(Path(folder))


if __name__ == "__main__":
    main()
