"""How long runs take: known from stored runs like them, or measured by a few real steps; and how each would begin."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from fedbench import fast, plugins, storage
from fedbench.errors import BadInput
from fedbench.runs.checkpoint import belonging, reached
from fedbench.runs.comparison import check_possible
from fedbench.runs.display import duration
from fedbench.runs.job import Job, leaves_a_state, origin, passes
from fedbench.runs.prepare import prepare, samples_here
from fedbench.runs.state import look, state_path, states
from fedbench.runs.torch_settings import set_up_torch
from fedbench.storage import Spec
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


def stored_rates(jobs: Sequence[Job]) -> dict[str, float]:
    """Seconds for a visit by identity, for those `jobs` of which a run like them is stored: method, data set, network.

    Of several the one with most in common counts; its seconds are scaled by the samples that a visit trains on.
    """
    known: dict[tuple[Path, str, str, str], list[storage.Head]] = {}
    made: dict[Path, float | None] = {}
    rates = {}
    for job in jobs:
        spec = job.spec
        folder = storage.result_path(job.results, spec).parent
        key = (folder, spec.network, spec.device, spec.method)
        if key not in known:
            found = [head for family in storage.heads(folder).values() for head in family]
            known[key] = [h for h in found if (h.spec.network, h.spec.device) == (spec.network, spec.device)]
        for head in sorted(known[key], key=lambda head: _unlike(head.spec, spec))[:3]:
            if head.path not in made:
                made[head.path] = _rate(head.path)
            if (rate := made[head.path]) is not None:
                rates[spec.identity] = rate * _samples(spec) / _samples(head.spec)
                break
    return rates


def _unlike(one: Spec, other: Spec) -> tuple[bool, bool, bool, bool, float]:
    """How much two runs of a method have apart that decides how long they take; the least is most alike."""
    return (
        one.params != other.params,
        one.clients != other.clients,
        one.evaluate_every != other.evaluate_every,
        one.partition != other.partition,
        abs(math.log(one.visits / other.visits)),
    )


def _samples(spec: Spec) -> float:
    """Samples of a visit; a method may have something else under these names."""
    found = [spec.params.get(name) for name in ("local.steps", "local.batch_size")]
    return math.prod(float(each) if isinstance(each, int | float) and each else 1.0 for each in found)


def _rate(path: Path) -> float | None:
    try:
        result = storage.read(path)
    except BadInput:
        return None
    adapted = result.unseen.history[-1] if result.unseen else None
    visits = result.last.visits + (adapted.visits if adapted else 0)
    return (result.last.seconds + (adapted.seconds if adapted else 0.0)) / max(1, visits)


def visits_left(job: Job) -> int:
    """The visits of a run, less those of the checkpoint or the kept state that it goes on from."""
    path = storage.work_path(job.results, job.spec, "checkpoint")
    made = reached(path) if _is_ours(job, path) else _kept_visits(job) or 0
    return job.total_visits - made


def together(seconds: Sequence[float], processes: int) -> float:
    """How long runs take that take so many `seconds` each, so many at a time."""
    return max([sum(seconds) / max(1, processes), *seconds], default=0.0)


def beginnings(done: Sequence[Job], todo: Sequence[Job]) -> list[str]:
    """Where runs begin that do not begin at the start, or that do and need not: sentences for whoever waits for them.

    More visits than before go on from a kept state; fewer are answered by the longer run.
    """
    said: Counter[str] = Counter()
    for job in done:
        if not storage.result_path(job.results, job.spec).is_file():
            said["answered by a longer run"] += 1
        if job.keep_state and leaves_a_state(job) and not state_path(job, job.spec.visits).is_file():
            said["done already without a state that was kept, and --keep-state does not make it again"] += 1
    for job in todo:
        if _is_ours(job, storage.work_path(job.results, job.spec, "checkpoint")):
            said["going on from a checkpoint"] += 1
        elif kept := _kept_visits(job):
            said[f"going on from the state that was kept at {kept} visits"] += 1
        elif storage.result_path(job.results, job.spec).is_file():
            said["made again: the stored result is of other code or samples, damaged, or without the models kept"] += 1
        elif shorter := _shorter(job):
            said[f"beginning anew, although {shorter} visits are stored: {_why_anew(job)}"] += 1
    return [f"{count} of the runs {'is' if count == 1 else 'are'} {words}" for words, count in said.items()]


def _kept_visits(job: Job) -> int | None:
    """The visits of the kept state that a run can go on from."""
    if not leaves_a_state(job):
        return None
    return next((visits for visits, path in states(job) if passes_through(job, visits) and _is_ours(job, path)), None)


def passes_through(job: Job, visits: int) -> bool:
    """Whether a run passes through the state in which one of so many `visits` ends."""
    return passes(visits, _of_a_round(job), job.spec.evaluate_every)


def _of_a_round(job: Job) -> int:
    """How many clients a round of `job` visits."""
    size = job.spec.params.get("clients_per_round")
    return min(size if isinstance(size, int) else 1, job.spec.clients)


def _is_ours(job: Job, path: Path) -> bool:
    """Whether the checkpoint or state at `path` is of the code, software, processor and samples of now."""
    found = belonging(path) if path.is_file() else None
    if found is None:
        return False
    return (
        all(found.get(key) == value for key, value in origin(job).items())
        and samples_here(job.dataset, job.data_root) in (found.get("samples"), None)
        and (bool(found.get("models")) or not job.keep_models)
    )


def _shorter(job: Job) -> int | None:
    heads = storage.heads(storage.result_path(job.results, job.spec).parent).get(job.spec.family, ())
    return max((head.spec.visits for head in heads if head.spec.visits < job.spec.visits), default=None)


def _why_anew(job: Job) -> str:
    if job.spec.novel_clients:
        return "unseen clients join at the end of a run"
    if plugins.find_method(job.method).cls.depends_on_length:
        return "the method depends on the length of the run"
    kept = states(job)
    if not kept:
        return "no state was kept (--keep-state keeps them)"
    if not any(passes_through(job, visits) for visits, _ in kept):
        return (
            f"the state kept at {kept[0][0]} visits lies between two evaluations or two rounds (every "
            f"{job.spec.evaluate_every} and {_of_a_round(job)} visits)"
        )
    return "the states that were kept are damaged, of other code, samples, versions or processors, or without models"


def show_plan(jobs: Sequence[Job], processes: int, console: Console) -> None:
    """Print every run with its state, and how long those would take that are not done.

    What stored runs do not tell is measured. Raises BadInput for what cannot be run.
    """
    looks = [look(job).state for job in jobs]
    done = [job for job, state in zip(jobs, looks, strict=True) if state == "done"]
    todo = [job for job, state in zip(jobs, looks, strict=True) if state != "done"]
    rates = stored_rates(todo)
    known = {
        job.spec.identity: rates[job.spec.identity] * visits_left(job) for job in todo if job.spec.identity in rates
    }
    unknown = [job for job in todo if job.spec.identity not in known]
    check_possible(unknown)
    measured: dict[str, float] = {}
    elsewhere = [job for job in unknown if job.device == "cuda" and not torch.cuda.is_available()]
    for job in unknown:
        if job in elsewhere:
            continue
        if job.spec.method not in measured:
            console.print(
                f"measuring a few steps of {job.spec.method}, of which there is no run like this", markup=False
            )
            with plugins.guarded(job.spec.method, "fails in its first round"):
                measured[job.spec.method] = seconds(job)
        known[job.spec.identity] = measured[job.spec.method] * visits_left(job) / job.total_visits
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "method", "seed", "visits", "state", "estimate"):
        table.add_column(head, justify="right" if head in ("seed", "visits", "estimate") else "left")
    for job, state in zip(jobs, looks, strict=True):
        spec, estimate = job.spec, known.get(job.spec.identity)
        shown = "-" if estimate is None else duration(estimate)
        table.add_row(spec.identity, spec.method, str(spec.seed), str(job.total_visits), state, shown)
    spec = jobs[0].spec
    console.print(
        f"{spec.dataset}, {spec.partition}, {spec.clients} clients, evaluated every {spec.evaluate_every} visits",
        markup=False,
    )
    console.print(table)
    for sentence in beginnings(done, todo):
        console.print(sentence, markup=False)
    if elsewhere:
        console.print("how long runs on a GPU take is not known: none like them is stored, and there is no GPU here")
        return
    sources = [*(["stored runs like these"] if rates else []), *(["a few measured steps"] if measured else [])]
    left = duration(together(list(known.values()), processes))
    told = f" (from {' and '.join(sources)}; nothing was run)" if sources else " (everything is done)"
    console.print(f"about {left} with {processes} at a time{told}")
