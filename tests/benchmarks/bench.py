"""Measure fedbench against a loop as a researcher would write it (`reference.py`), and print the table.

Each side runs in a process of its own, so that neither sees the other's memory settings, and the two take turns, so
that a change of the machine's mood meets both. One thread each. Times are CPU seconds of the process (on an idle
machine these are elapsed seconds), but for throughput and start-up, which are elapsed time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FEDBENCH = [sys.executable, "-m", "fedbench"]
EVALUATE_EVERY, CHECKPOINT_EVERY = 30, 120.0  # visits (paper preset), seconds (default of `fedbench run`)

FIRST_STEP = """
import time
from dataclasses import dataclass
from pathlib import Path
from fedbench.methods.fedavg import FedAvg

@dataclass(frozen=True, kw_only=True)
class FirstStep(FedAvg):
    def client_train(self, message, state, batches):
        result = super().client_train(message, state, batches)
        Path({note!r}).write_text(str(time.time()))
        return result
"""

WITHOUT_TORCH = """
import contextlib, io, sys
import typer
from fedbench.cli import app

def call(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(words, standalone_mode=False)

def show(command, words):
    call(*words, "--help")
    for name, inner in getattr(command, "commands", {}).items():
        show(inner, [*words, name])

show(typer.main.get_command(app), [])
call("report", sys.argv[1], "--out", sys.argv[2])
print("torch" in sys.modules)
"""


# ---------------------------------------------------------------- inside a child process


def our_measurements(root: Path, steps: int) -> dict[str, Callable[[], Any]]:
    """The same functions as `reference.measurements`, and `slice`, what a pFedHN run is made of."""
    import torch

    from fedbench import fast, plugins
    from fedbench.runs import checkpoint
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.prepare import prepare
    from fedbench.runs.torch_settings import set_up_torch
    from fedbench.training import Keep
    from fedbench.training.scoring import score

    job = Comparison(
        methods=["pfedhn"], seeds=[42], dataset="cifar10", clients=10, data_root=root, device="cpu"
    ).jobs()[0]
    set_up_torch(torch.device("cpu")).__enter__()  # for as long as this process lives
    torch.set_grad_enabled(False)
    problem = prepare(job.spec, plugins.find_method(job.method), plugins.find_dataset(job.dataset), root)
    engine, method = problem.engine, problem.engine.method
    progress = engine.start()
    images = sum(map(len, [*engine.clients.validation, *engine.clients.test]))
    cohort = engine.cohort([0], 0)
    upload = {name: torch.randn(1, *shape) for name, shape in method.task.network.shapes.items()}

    def timed(function: Callable[[], Any]) -> float:
        began = time.process_time()
        function()
        return time.process_time() - began

    def step() -> float:
        message = {name: value[0] for name, value in method.server_send(progress.server, cohort).items()}

        def visit() -> None:
            rows = engine.batches("train", method.train_draw._replace(steps=steps), progress.round, 0)
            method.client_train(message, {}, rows)

        return timed(visit) / steps

    def server_step() -> None:
        method.server_send(progress.server, cohort)
        progress.server = method.server_receive(progress.server, cohort, upload)

    def evaluation() -> None:
        clients = engine.clients
        for model, *parts in zip(engine.models(progress), clients.validation, clients.test, strict=True):
            for rows in parts:
                score(method, model, clients.images, clients.labels, rows)

    def one_slice() -> dict[str, float]:
        """Seconds of a visit, of its local steps, of an evaluation that reads the test rows, of a checkpoint."""
        spent, sgd = [], fast.lenet_sgd

        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            result = sgd(*args, **kwargs)
            spent.append(time.process_time() - began)
            return result

        fast.lenet_sgd = watched  # type: ignore[assignment]
        visit = timed(lambda: engine.round(progress))
        fast.lenet_sgd = sgd
        progress.improvements.clear()
        evaluation = timed(lambda: engine.evaluate(progress, Keep(server=False)))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()  # a disk is waited for, and that is part of it
            checkpoint.save(Path(folder) / "checkpoint", progress, {})
            saving = time.perf_counter() - began
        return {"visit": visit, "local": sum(spent), "evaluation": evaluation, "checkpoint": saving}

    return {
        "step": step,
        "server step": lambda: timed(server_step),
        "evaluation": lambda: timed(evaluation) * 20_000 / images,
        "slice": one_slice,
    }


def serve(side: str, root: Path, steps: int) -> None:
    """Answer names of measurements, line by line, with what they return."""
    memory: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if side == "ours":
        from fedbench import fast

        table, memory = our_measurements(root, steps), fast.kept_memory()  # as `job.work` has it
    else:
        import torch
        from reference import measurements

        torch.set_num_threads(1)
        torch.manual_seed(0)
        table = measurements(root, steps)
    with memory:
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(table[line.strip()]()), flush=True)


# ---------------------------------------------------------------- in the parent


class Side:
    """A child process that measures when it is asked."""

    def __init__(self, side: str, root: Path, steps: int) -> None:
        command = [sys.executable, str(HERE / "bench.py"), "--serve", side, "--data-root", str(root)]
        self.process = subprocess.Popen(
            [*command, "--steps", str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a measuring process died; its error is above")
        return json.loads(line)

    def ask(self, name: str) -> Any:
        self.send(name)
        return self.receive()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def take_turns(theirs: Side, name: str, ours: Side, our_name: str, repeats: int) -> tuple[list[float], list[float]]:
    pairs = [(theirs.ask(name), ours.ask(our_name)) for _ in range(repeats + 1)][1:]  # the first is warm-up
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def throughput(first: Side, second: Side, repeats: int) -> list[float]:
    """Steps per second of two processes at once over those of one alone, elapsed time."""
    ratios = []
    for _ in range(repeats):
        began = time.perf_counter()
        first.ask("step")
        alone = time.perf_counter() - began
        began = time.perf_counter()
        first.send("step")
        second.send("step")
        first.receive()
        second.receive()
        ratios.append(2 * alone / (time.perf_counter() - began))
    return ratios


def overhead(ours: Side, repeats: int) -> tuple[float, str]:
    """The share of a paper-preset pFedHN run that is not local steps, from single visits, evaluations, checkpoints."""
    slices = [ours.ask("slice") for _ in range(repeats + 1)][1:]
    one = {key: median(part[key] for part in slices) for key in slices[0]}
    rest = one["visit"] - one["local"]
    period = one["visit"] + one["evaluation"] / EVALUATE_EVERY  # seconds a visit
    total = period * (1 + one["checkpoint"] / CHECKPOINT_EVERY)
    parts = {"server, batches, engine": rest, "evaluation": one["evaluation"] / EVALUATE_EVERY}
    parts["checkpoints"] = total - period
    text = ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in parts.items())
    return 1 - one["local"] / total, text


def run_once(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of `fedbench` with `arguments`."""
    began = time.perf_counter()
    process = subprocess.Popen([*FEDBENCH, *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"fedbench {' '.join(arguments)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - began, usage.ru_maxrss * unit / 1e9


def start_up(root: Path, folder: Path, repeats: int) -> list[tuple[str, str, str, bool]]:
    """Rows of the second table: what, measured, target, met."""
    helped = min(run_once(["--help"], folder)[0] for _ in range(repeats + 1))
    note, plugin = folder / "note", folder / "first_step.py"
    plugin.write_text(FIRST_STEP.format(note=str(note)))
    data = ["--dataset", "cifar10", "--data-root", str(root)]
    waits = []
    for i in range(repeats):
        began = time.time()
        options = ["--methods", str(plugin), "--visits", "1", "--set", "first-step.local.steps=1"]
        run_once(["run", *data, *options, "--seed-count", "2", "--results", str(folder / f"first{i}")], folder)
        waits.append(float(note.read_text()) - began)
    # every visit is followed by a checkpoint here, as any may be, and the second run finds what the first one left
    options = ["--methods", "pfedhn", "--visits", "4", "--seed-count", "2", "--jobs", "1", "--checkpoint-every", "0"]
    _, peak = run_once(["run", *data, *options, "--results", str(folder / "peak")], folder)
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder / "peak"), str(folder / "report")]
    seen = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return [
        ("`fedbench --help`", f"{helped:.2f} s", "under 0.5 s", helped < 0.5),
        ("every `--help` and `fedbench report` import torch", str(seen), "False", seen == "False"),
        ("`fedbench run` to the end of the first local step", f"{min(waits):.1f} s", "under 6 s", min(waits) < 6),
        ("peak memory of two CIFAR-10 runs in one process", f"{peak:.2f} GB", "under 1.2 GB", peak < 1.2),
    ]


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def random_images(folder: Path) -> Path:
    """A stand-in for CIFAR-10 with its shapes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, rows in (("train", 50_000), ("test", 10_000)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(rows) % 10
    np.savez(folder / "cifar10.npz", **arrays)
    return folder


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def main(root: Path, quick: bool, scratch: Path) -> None:
    import torch

    load = os.getloadavg()[0]
    print(f"{machine()}; Python {platform.python_version()}, PyTorch {torch.__version__}")
    if load > 0.5:
        print(f"The machine was busy when this began (load {load:.1f}): expect noise, and too little throughput.")
    if not (root / "cifar10.npz").is_file():
        root = random_images(scratch)
        print("CIFAR-10 is not at the data root: random images of the same shape instead.")
    repeats, steps = (3, 20) if quick else (9, 50)
    theirs, ours, second = Side("reference", root, steps), Side("ours", root, steps), Side("ours", root, steps)
    for side in (theirs, ours, second):
        side.receive()
    rows = []
    for what, name, our_name, least in (
        ("local step in a visit", "step", "step", 2.5),
        ("the same, reference on ready tensors", "step on ready tensors", "step", 1.5),
        ("pFedHN server step", "server step", "server step", 1.6),
        ("evaluation, 10 clients, 20,000 images", "evaluation", "evaluation", 4.0),
    ):
        n = 3 * repeats if name == "server step" else repeats
        a, b = take_turns(theirs, name, ours, our_name, n)
        ratio, best = median(a) / median(b), min(a) / min(b)
        times = [f"{median(x) * 1e3:.1f} ms ({min(x) * 1e3:.1f})" for x in (a, b)]
        rows.append((what, *times, f"{ratio:.2f}x ({best:.2f})", f"{least}x", "yes" if ratio >= least else "no"))
    print("\nMedian (and minimum); the ratio of medians (and of minima).\n")
    print(table(("what", "reference", "fedbench", "faster", "at least", "met"), rows))
    share, parts = overhead(ours, repeats)
    both = throughput(ours, second, repeats)
    for side in (theirs, ours, second):
        side.close()
    fast_enough = median(both) >= 1.8
    more = [
        ("all but local steps in a pFedHN run", f"{share:.1%}", "under 15 %", share < 0.15),
        ("two jobs on two cores against one on one", f"{median(both):.2f}x", "1.8x", fast_enough),
        *start_up(root, scratch, 1 if quick else 3),
    ]
    print()
    print(table(("what", "measured", "target", "met"), [(*row[:3], "yes" if row[3] else "no") for row in more]))
    print(f"\nOf a run of 5000 visits: {parts}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: under a minute")
    parser.add_argument("--data-root", type=Path, help="folder with cifar10.npz, as for `fedbench run`")
    parser.add_argument("--serve", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=50, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.data_root, arguments.steps)
    else:
        from fedbench.dataset import data_root

        with tempfile.TemporaryDirectory() as folder:
            main(data_root(arguments.data_root), arguments.quick, Path(folder))
