"""One run from start to stored result, as a worker process does it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import Timeout

from fedbench import fast, plugins, storage
from fedbench.dataset import Dataset
from fedbench.errors import BadInput
from fedbench.runs import checkpoint
from fedbench.runs.arithmetic import arithmetic, instruction_set
from fedbench.runs.devices import Stop
from fedbench.runs.prepare import Problem, data_fingerprint, forget_data, prepare
from fedbench.runs.provenance import checkout, provenance, software
from fedbench.runs.spill import Spill
from fedbench.runs.state import look, state_path, states
from fedbench.runs.torch_settings import set_up_torch
from fedbench.storage.spec import Spec
from fedbench.training import Engine, Keep, Progress, adapt

PROGRESS_EVERY = 0.5  # seconds between two progress files
MUCH = 4_000_000  # bytes that a server keeps for all clients together, above which a warning says so
WITHOUT_MODELS = "it has no models of the chosen round, which are to be kept"
LOOK_EVERY = 1.0  # seconds between two looks for a request to stop, while another process is at the run
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
Ending = Literal["done", "stopped", "busy", "failed"]
Note = dict[str, Any]  # what a job says of its progress: round, visits, seconds, last, best, ...
Tell = Callable[[Note], None]


@dataclass(frozen=True)
class Job:
    """A run and where its things are. Plug-ins are given as text, so that nothing of them is pickled."""

    spec: Spec
    method: str  # a name or an absolute file path
    dataset: str
    data_root: Path
    results: Path
    checkpoint_every: float  # seconds
    device: str  # "cpu", "cuda:0", ...
    partition: str = ""  # where the spec's partition is a file: its path, and the settings
    networks: tuple[tuple[str, str], ...] = ()  # names of networks that are files, and their paths
    keep_models: bool = False  # store the personal models of the chosen round
    keep_state: bool = False  # keep the final state, from which a longer run can go on

    @property
    def total_visits(self) -> int:
        """All visits of the run, those to unseen clients included."""
        return self.spec.visits + self.spec.novel_clients * self.spec.adapt_visits

    @property
    def codes(self) -> dict[str, str]:
        """The code hashes of the partition and the networks that are plug-ins, by name; a network may have the same."""
        found = {name: plugins.find_network(where).code for name, where in self.networks}
        dealt = plugins.partition_plugin(self.partition or self.spec.partition, Dataset)
        found[f"partition {dealt.name}" if dealt.name in found else dealt.name] = dealt.code
        return {name: code for name, code in found.items() if code}


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `message` is the error of a failed one; `warnings` are worth showing in any case."""

    job: Job
    ending: Ending
    message: str = ""
    details: str = ""
    warnings: tuple[str, ...] = ()


def leave_stops_to(parent: int) -> None:
    """A worker ignores what asks for a stop: terminals and schedulers send it to all, and the parent asks by a file.

    From here on, and between two runs as well: an idle worker that dies takes the others down before their checkpoints.
    """
    if os.getpid() != parent and threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


def work(job: Job, stop_file: Stop, parent: int, wait: bool, tell: Tell = lambda note: None) -> Outcome:
    """Run `job` to its end, or until `stop_file` exists; never raises. `parent` is the process that makes `stop_file`.

    A job that another process is at ends as `busy`, or is waited for with `wait`. `tell` gets every note of progress.
    """
    leave_stops_to(parent)
    if stop_file.exists():
        return Outcome(job, "stopped")
    try:
        job.results.joinpath(storage.WORK).mkdir(parents=True, exist_ok=True)
        lock = storage.run_lock(job.results, job.spec)
        while True:
            try:
                with lock.acquire(timeout=LOOK_EVERY if wait else 0), set_up_torch(torch.device(job.device)):
                    return _work(job, stop_file, tell)
            except Timeout:
                if not wait:
                    return Outcome(job, "busy")
            if stop_file.exists():
                return Outcome(job, "stopped")
    except BadInput as error:
        storage.write_failure(job.results, job.spec, str(error))
        return Outcome(job, "failed", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may call sys.exit, or raise whatever it likes
        details = plugins.trace(error)
        message = "; ".join([plugins.said(error), *getattr(error, "__notes__", ())])
        storage.write_failure(job.results, job.spec, f"{details.rstrip()}\n{message}")
        return Outcome(job, "failed", message, details)


def origin(job: Job) -> dict[str, Any]:
    """What decides the bits, as far as it is known without its samples; a checkpoint of another is not used."""
    return {
        "family": job.spec.family,
        "code": plugins.find_method(job.method).code,
        "dataset_code": plugins.find_dataset(job.dataset).code,
        "codes": job.codes,
        "software": software(),
        "instruction_set": instruction_set(),
        "arithmetic": arithmetic(),
    }


def _work(job: Job, stop_file: Stop, tell: Tell) -> Outcome:
    spec = job.spec
    if look(job).state == "done":  # another process finished it a moment ago
        tidy(job)
        return Outcome(job, "done")
    device = torch.device(job.device)
    checkout()  # now, for a commit that is made while the run goes on is not the one that made it
    method, dataset = plugins.find_method(job.method), plugins.find_dataset(job.dataset)
    networks = plugins.parse_networks(spec.network, spec.clients, dict(job.networks))
    problem = prepare(spec, method, dataset, job.data_root, device, networks=networks, partition=job.partition or None)
    samples = data_fingerprint(job.dataset, job.data_root)
    forget_data()  # the run has copies of the rows that it needs
    path = storage.work_path(job.results, spec, "checkpoint")
    belongs_to = {
        **origin(job),
        "visits": spec.visits,
        "partition": problem.partition.checksum(),
        "samples": samples,
        "models": job.keep_models,
    }
    progress, resumed, warnings = _begin(job, problem, belongs_to, device)
    if not isinstance(progress.clients, Spill):
        # it does what the engine asks of a dict
        progress.clients = Spill(progress.clients, path.parent)  # type: ignore[assignment]
    warnings += _growing(progress.server, problem.engine)
    if dataset.cls.cached and not (job.data_root / f"{dataset.name}.npz").is_file():
        warnings.append(
            f"the data set {dataset.name} has read no {job.data_root / dataset.name}.npz: write `cached = False` in "
            "its class, or results will not be made again when its samples change"
        )
    keep = Keep(server=problem.unseen is not None, models=job.keep_models)
    saved = shown = time.monotonic()
    since = time.time()

    def save() -> None:
        began = time.monotonic()
        try:
            checkpoint.save(path, progress, belongs_to)
        except OSError as error:
            warnings.append(f"no checkpoint could be written to {path}: {error.strerror}; the run went on without")
            return
        took, size = time.monotonic() - began, path.stat().st_size
        if took > max(1.0, job.checkpoint_every / 10) and not any("a checkpoint takes" in w for w in warnings):
            each = f"a checkpoint takes {took:.0f} s and {size / 1e9:.1f} GB every {job.checkpoint_every:.0f} s"
            warnings.append(f"{each}: --checkpoint-every {10 * took:.0f} or more leaves more time for the run")

    def tick(progress: Progress) -> bool:
        nonlocal saved, shown
        now = time.monotonic()
        stop = stop_file.exists()
        if stop or now - saved >= job.checkpoint_every:
            save()
            saved = time.monotonic()
        if now - shown >= PROGRESS_EVERY:
            _show(job, progress, tell, since)
            shown = now
        return stop

    def adapting(there: Progress) -> bool:
        nonlocal shown
        if time.monotonic() - shown >= PROGRESS_EVERY:
            _show(job, progress, tell, since, there.visits)
            shown = time.monotonic()
        return stop_file.exists()

    _show(job, progress, tell, since)
    unseen = None
    with fast.kept_memory(), _naming(resumed):
        if not problem.engine.run(progress, keep, tick):
            return Outcome(job, "stopped", warnings=tuple(dict.fromkeys(warnings)))
        if problem.unseen is not None:
            save()  # adapting has no checkpoints of its own
            unseen = adapt(progress.best_server, problem.unseen, problem.engine.rounds, adapting)
            if unseen is None:
                return Outcome(job, "stopped", warnings=tuple(dict.fromkeys(warnings)))
    if job.keep_state and leaves_a_state(job):
        try:
            checkpoint.save(state_path(job, spec.visits), progress, belongs_to)
        except OSError as error:
            warnings.append(f"the state could not be kept: {error.strerror}; a longer run will begin anew")
    models = None
    if job.keep_models and progress.best_models is not None:
        made = dict(zip(problem.engine.clients.ids, progress.best_models["models"], strict=True))
        with _writing(storage.models_path(job.results, spec), "the models"):
            models = storage.write_models(job.results, spec, made, progress.best_models["embeddings"])
    payload: dict[str, Any] = {
        "format": 2,
        "spec": spec.model_dump(mode="json"),
        "title": storage.shown(method.cls.title),
        "code": method.code,
        "dataset_code": dataset.code,
        "codes": job.codes,
        "depends_on_length": method.cls.depends_on_length,
        "partition": problem.partition.checksum(),
        "best": progress.best,
        "earlier": progress.improvements[:-1],
        "unseen": unseen,
        "history": progress.history,
        "models": models and models.model_dump(),
    }
    result = storage.Result(
        **payload, digest=storage.digest(payload), provenance={**provenance(device), "samples": samples}
    )
    with _writing(storage.result_path(job.results, spec), "the result"):
        storage.write(job.results, result)
    tidy(job)
    if result.diverged:
        warnings.append(f"training diverged: its losses are no numbers; the score is of visit {result.best.visits}")
    return Outcome(job, "done", warnings=tuple(dict.fromkeys(warnings)))


@contextlib.contextmanager
def _writing(place: Path, what: str) -> Iterator[None]:
    """While inside, a disk that takes no more is answered with what to do."""
    try:
        yield
    except OSError as error:
        hint = "make room and run the same command again, which goes on from the last checkpoint"
        raise BadInput(f"{what} cannot be written to {place}: {error.strerror}; {hint}") from error


def _begin(
    job: Job, problem: Problem, belongs_to: dict[str, Any], device: torch.device
) -> tuple[Progress, Path | None, list[str]]:
    """Where a run begins: at its checkpoint, at the kept state of a shorter run, or at the start; and warnings.

    The path is that of the file that it goes on from.
    """
    warnings = []
    belongs_to = {key: value for key, value in belongs_to.items() if key != "models"}  # see _has_what_is_kept
    path = storage.work_path(job.results, job.spec, "checkpoint")
    progress, refusal = checkpoint.load(path, belongs_to, device)
    if progress is not None and (refusal := checkpoint.misfit(progress, problem.engine)):
        progress = None
    if progress is not None and not _has_what_is_kept(job, progress):
        progress, refusal = None, WITHOUT_MODELS
    if refusal:
        warnings.append(f"the checkpoint {path} is not used: {refusal}; the run starts afresh")
    if progress is not None:
        return progress, path, warnings
    if leaves_a_state(job):
        of_any_length, refusals = {key: value for key, value in belongs_to.items() if key != "visits"}, []
        for visits, state in states(job):
            if not _can_go_on(problem.engine, visits):
                continue
            progress, refusal = checkpoint.load(state, of_any_length, device)
            if progress is not None and (refusal := checkpoint.misfit(progress, problem.engine)):
                progress = None
            if progress is not None and _has_what_is_kept(job, progress):
                return progress, state, warnings
            refusals.append(f"the state {state} is not used: {refusal or WITHOUT_MODELS}; the run starts afresh")
        warnings += refusals[:1]
    return problem.engine.start(), None, warnings


@contextlib.contextmanager
def _naming(resumed: Path | None) -> Iterator[None]:
    """While inside, an error tells what file the run went on from, which may be the reason for it."""
    try:
        yield
    except Exception as error:
        if resumed is not None:
            error.add_note(f"the run went on from {resumed}: remove that file to start afresh")
        raise


def _growing(server: Any, engine: Engine) -> list[str]:
    """A warning where the server keeps much for each client, which it may touch at every visit."""
    clients = len(engine.clients.ids)
    tables = {n: t for n, t in _tensors(server) if t.dim() and len(t) == clients and t.nbytes > MUCH}
    if not tables:
        return []
    name, table = max(tables.items(), key=lambda item: item[1].nbytes)
    return [
        f"the server's {name} has {table.nbytes / 1e6:.0f} MB for {clients} clients, {table[0].numel()} numbers each, "
        "and may change all of them at every visit: a smaller size that does not grow with the clients is faster"
    ]


def _tensors(state: Any, name: str = "state") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a server's state, with the names that they have there."""
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, (dict, list, tuple)):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(value, str(key))


def _has_what_is_kept(job: Job, progress: Progress) -> bool:
    """Whether the models of the chosen round are there, where they are to be stored at the end."""
    return not job.keep_models or progress.best is None or progress.best_models is not None


def _can_go_on(engine: Engine, visits: int) -> bool:
    """Whether a longer run passes through the end of a run of so many `visits`: a whole round, and an evaluation."""
    return passes(visits, engine.cohort_size, engine.schedule.evaluate_every)


def leaves_a_state(job: Job) -> bool:
    """Whether a longer run could go on from where this one ends."""
    return not (job.spec.novel_clients or plugins.find_method(job.method).cls.depends_on_length)


def passes(visits: int, size: int, every: int) -> bool:
    """Whether a run with cohorts of this `size` ends a round at so many visits, and evaluates there."""
    return visits % size == 0 and visits // every > (visits - size) // every


def tidy(job: Job) -> None:
    """Remove what a finished run has no need of; what cannot be removed does no harm."""
    work, identity = job.results / storage.WORK, job.spec.identity
    left = [storage.work_path(job.results, job.spec, suffix) for suffix in ("checkpoint", "progress", "error")]
    for folder in (work, storage.result_path(job.results, job.spec).parent):
        with contextlib.suppress(OSError):
            names = os.listdir(folder)  # noqa: PTH208  a pattern would take long among ten thousand runs
            left += [folder / n for n in names if n.endswith(".partial") and identity in n]  # of killed processes
    for path in left:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _show(job: Job, progress: Progress, tell: Tell, began: float, adapted: int = 0) -> None:
    """Leave a note of how far the run is, for whoever watches; nothing depends on it.

    Visits to unseen clients, `adapted`, count as visits of the run.
    """
    last = progress.history[-1]["val_accuracy"] if progress.history else None
    best = progress.best["val_accuracy"] if progress.best else None
    visits = progress.visits + adapted
    note = {
        "round": progress.round,
        "visits": visits,
        "total": job.total_visits,
        "seconds": progress.seconds,
        "last": last,
        "best": best,
        "name": f"{job.spec.method}, {job.spec.dataset}, seed {job.spec.seed}",
        "where": f"{platform.node()}, process {os.getpid()}, {job.device}",
        "since": began,
    }
    tell(note)
    write_note(job, note)


def write_note(job: Job, note: Note) -> None:
    """Leave the `note` where `status` and other processes find it."""
    with contextlib.suppress(OSError):
        path = storage.work_path(job.results, job.spec, "progress")
        temporary = path.with_suffix(f".progress.{os.getpid()}.partial")
        temporary.write_text(json.dumps(note))
        temporary.replace(path)
