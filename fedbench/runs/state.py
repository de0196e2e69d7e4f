"""What a results folder holds of a job: the one place that says whether a result is current."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.runs.prepare import make_partition, samples_here
from fedbench.storage import Facts, Index, Result, Spec

if TYPE_CHECKING:
    from fedbench.runs.job import Job

State = Literal["done", "started", "outdated", "damaged", "missing"]


@dataclass(frozen=True)
class Found:
    """What there is of a job. A job that is done has the `path` of its result, or of a longer run that answers it."""

    state: State
    path: Path | None = None
    result: Result | None = None  # at `path`, where it was read in full to know that

    def read(self, job: Job) -> Result:
        """The result of a job that is done."""
        assert self.path is not None
        return (self.result or storage.read(self.path)).at(job.spec.visits)


class Made(Protocol):
    """What says by which code and of which samples it was made: a result, or what is kept of one."""

    @property
    def code(self) -> str: ...
    @property
    def dataset_code(self) -> str | None: ...
    @property
    def codes(self) -> Mapping[str, str]: ...
    @property
    def samples(self) -> str | None: ...
    @property
    def partition(self) -> str: ...


def is_current(result: Made, job: Job) -> bool:
    """Whether `result` was made by the method, the samples and other plug-ins that `job` would use.

    Samples are compared where the result names them and the file of them is here; who holds which rows where a plug-in
    file says so, which may read it from wherever it likes.
    """
    data = plugins.find_dataset(job.dataset).code
    same = result.code == plugins.find_method(job.method).code and result.dataset_code in (data, None)
    if not same or result.codes != job.codes:
        return False
    if result.samples is not None and samples_here(job.dataset, job.data_root) not in (result.samples, None):
        return False
    return not job.partition or _dealt(job) in (result.partition, None)


def _dealt(job: Job) -> str | None:
    """The checksum of who would hold which rows; None where that cannot be made here."""
    with contextlib.suppress(BadInput):
        made = make_partition(job.dataset, job.data_root, job.partition, job.spec.clients, job.spec.seed)
        return made.checksum()
    return None


def look(job: Job, index: Index | None = None) -> Found:
    """The state of `job`; a result of another spec, other code or other samples is outdated, and is made again.

    Where there is no result of its own, a longer run of the same spec may answer for it. An `index` of the results
    spares reading those in full that were checked before.
    """
    path = storage.result_path(job.results, job.spec)
    found: State | None = None
    if _is_there(path):
        try:
            facts, result = _facts(path, index)
        except BadInput:
            if not os.access(path, os.R_OK):
                raise
            found = "damaged"
        else:
            has_models = facts.models is not None and path.with_name(facts.models).is_file()
            if facts.identity == path.stem and is_current(facts, job) and (has_models or not job.keep_models):
                return Found("done", path, result)
            found = "outdated"
    if not job.keep_models and (longer := longer_run(job, index)):
        return longer
    if found is None:
        started = storage.work_path(job.results, job.spec, "checkpoint").is_file()
        found = "started" if started else "missing"
    return Found(found)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise BadInput(f"{path.parent} may not be entered: ask its owner, or choose another --results") from None


def _facts(path: Path, index: Index | None) -> tuple[Facts, Result | None]:
    if index is not None:
        return index.facts(path), None
    result = storage.read(path)
    return Facts.of(result), result


def longer_run(job: Job, index: Index | None = None) -> Found | None:
    """The result of the shortest longer run that answers for `job`."""
    family, visits = job.spec.family, job.spec.visits
    for head in storage.heads(storage.result_path(job.results, job.spec).parent).get(family, ()):
        if head.spec.visits > visits:
            try:
                facts, result = _facts(head.path, index)
            except BadInput:
                continue
            if facts.family == family and visits in facts.cuts and is_current(facts, job):
                return Found("done", head.path, result)
    return None


def state_path(job: Job, visits: int) -> Path:
    """The kept final state of a run of the same spec with so many `visits`."""
    return job.results / storage.WORK / f"{job.spec.family}-{visits}.state"


def states(job: Job) -> list[tuple[int, Path]]:
    """The kept states of shorter runs of the same spec, the longest first: their visits and their files."""
    found = []
    for path in (job.results / storage.WORK).glob(f"{job.spec.family}-*.state"):
        visits = path.stem.rpartition("-")[2]
        if visits.isdecimal() and int(visits) < job.spec.visits:
            found.append((int(visits), path))
    return sorted(found, reverse=True)


__all__ = ["Found", "Spec", "State", "is_current", "longer_run", "look", "state_path", "states"]
