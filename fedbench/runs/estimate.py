"""`--dry-run`: the plan, and how long it would take, measured by a few real steps."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from fedbench import fast, plugins
from fedbench.errors import BadInput
from fedbench.runs.display import duration
from fedbench.runs.job import Job
from fedbench.runs.prepare import prepare
from fedbench.runs.state import look
from fedbench.runs.torch_settings import set_up_torch
from fedbench.training import Clients, Engine, Keep


def seconds(job: Job) -> float:
    """An estimate for one run: a timed first round after an untimed one, and a timed look at one client."""
    device = torch.device(job.device)
    with torch.no_grad(), fast.kept_memory(), set_up_torch(device):
        return _measured(job, device)


def _measured(job: Job, device: torch.device) -> float:
    method, dataset = plugins.find_method(job.method), plugins.find_dataset(job.dataset)
    networks = plugins.parse_networks(job.spec.network, job.spec.clients, dict(job.networks))
    engine = prepare(
        job.spec, method, dataset, job.data_root, device, networks=networks, partition=job.partition or None
    ).engine
    engine.round(engine.start())
    progress = engine.start()
    began = time.perf_counter()
    engine.round(progress)
    visit = (time.perf_counter() - began) / progress.visits
    one = engine.clients
    alone = Engine(
        engine.methods,
        Clients(
            ids=one.ids[:1],
            train=one.train[:1],
            validation=one.validation[:1],
            test=one.test[:1],
            images=one.images,
            labels=one.labels,
            network=one.network[:1],
        ),
        engine.schedule,
        engine.seed,
    )
    began = time.perf_counter()
    alone.evaluate(progress, Keep())
    evaluation = (time.perf_counter() - began) * len(one.ids)
    spec = job.spec
    evaluations = spec.visits // spec.evaluate_every + 1
    adapting = spec.novel_clients * (spec.adapt_visits * visit + 5 * evaluation / len(one.ids))
    return spec.visits * visit + evaluations * evaluation + adapting


def show_plan(jobs: Sequence[Job], processes: int, console: Console) -> None:
    """Print every run with its state, and an ETA for those that are not done."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "method", "seed", "visits", "state", "estimate"):
        table.add_column(head, justify="right" if head in ("seed", "visits", "estimate") else "left")
    measured: dict[str, float] = {}
    total, longest = 0.0, 0.0
    for job in jobs:
        state, spec = look(job).state, job.spec
        if state != "done" and spec.method not in measured:
            try:
                measured[spec.method] = seconds(job)
            except BadInput:
                raise
            except Exception:
                raise BadInput(f"{spec.method} fails in its first round:\n{traceback.format_exc()}") from None
        estimate = 0.0 if state == "done" else measured[spec.method]
        total, longest = total + estimate, max(longest, estimate)
        shown = "-" if state == "done" else duration(estimate)
        table.add_row(spec.identity, spec.method, str(spec.seed), str(spec.visits), state, shown)
    spec = jobs[0].spec
    console.print(
        f"{spec.dataset}, {spec.partition}, {spec.clients} clients, evaluated every {spec.evaluate_every} visits"
    )
    console.print(table)
    together = max(longest, total / processes)
    console.print(f"about {duration(together)} with {processes} at a time (from a few measured steps; nothing was run)")
