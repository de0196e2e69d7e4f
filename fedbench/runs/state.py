"""What a results folder holds of a job: the one place that says whether a result is current."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedbench import plugins, storage
from fedbench.errors import BadInput
from fedbench.storage import Result, Spec

if TYPE_CHECKING:
    from fedbench.runs.job import Job

State = Literal["done", "started", "outdated", "damaged", "missing"]


@dataclass(frozen=True)
class Found:
    """What there is of a job. A job that is done has the `path` of its result, or of a longer run that answers it."""

    state: State
    path: Path | None = None

    def read(self, job: Job) -> Result:
        """The result of a job that is done."""
        assert self.path is not None
        return storage.read(self.path).at(job.spec.visits)


def is_current(result: Result, job: Job) -> bool:
    """Whether `result` was made by the method, the data set and other plug-ins that `job` would use."""
    data = plugins.find_dataset(job.dataset).code
    same = result.code == plugins.find_method(job.method).code and result.dataset_code in (data, None)
    return same and result.codes == job.codes


def look(job: Job) -> Found:
    """The state of `job`; a result of another spec or of other code is outdated, and is made again.

    Where there is no result of its own, a longer run of the same spec may answer for it.
    """
    path = storage.result_path(job.results, job.spec)
    found: State | None = None
    if path.is_file():
        try:
            result = storage.read(path)
        except BadInput:
            found = "damaged"
        else:
            if (
                result.spec == job.spec
                and is_current(result, job)
                and (not job.keep_models or _has_models(result, path))
            ):
                return Found("done", path)
            found = "outdated"
    if not job.keep_models and (longer := longer_run(job)):
        return Found("done", longer)
    if found is None:
        started = storage.work_path(job.results, job.spec, "checkpoint").is_file()
        found = "started" if started else "missing"
    return Found(found)


def _has_models(result: Result, path: Path) -> bool:
    return result.models is not None and path.with_name(result.models.file).is_file()


def longer_run(job: Job) -> Path | None:
    """The result of the shortest longer run that answers for `job`."""
    folder = storage.result_path(job.results, job.spec).parent
    for head in storage.heads(folder).get(job.spec.family, ()):
        if head.spec.visits > job.spec.visits:
            try:
                cut = storage.read(head.path).at(job.spec.visits)
            except BadInput:
                continue
            if cut.spec == job.spec and is_current(cut, job):
                return head.path
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
