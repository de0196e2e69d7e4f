"""Where the runs of a plan are made: in processes of this machine, or on the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from joblib import cpu_count  # those that this process may use

from fedbench.runs import pool
from fedbench.runs.devices import Devices
from fedbench.runs.job import Job, Note, Outcome
from fedbench.runs.scheduler import count_workers
from fedbench.runs.status import announced


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where runs are made, and how many at a time."""

    jobs: int | None = None  # runs at a time; None: one a core, or one a worker of the scheduler
    jobs_per_gpu: int = 1
    scheduler: str | None = None  # of Dask: its address, or the file that it wrote; None: this machine

    def at_once(self, jobs: Sequence[Job]) -> int:
        """How many of `jobs` are made at a time; at least one. Raises BadInput where there is no such scheduler."""
        if self.scheduler is not None:
            most = min(self.jobs or len(jobs), count_workers(self.scheduler))
        else:
            most = self.jobs or int(cpu_count())
            if any(job.device == "cuda" for job in jobs):
                most = min(most, Devices.of_this_machine(self.jobs_per_gpu).tokens)
        return max(1, min(most, len(jobs)))

    def run(
        self,
        jobs: Sequence[Job],
        on_progress: Callable[[dict[str, Note]], None],
        on_outcome: Callable[[Outcome], None],
        say: Callable[[str], None] = lambda text: None,
    ) -> list[Outcome]:
        """Run `jobs`, as `pool.run` does; `say` gets sentences about workers that are not used, and that died."""
        with announced(jobs):
            if self.scheduler is not None:
                from fedbench.runs import cluster

                return cluster.run(jobs, self.scheduler, on_progress, on_outcome, at_most=self.jobs, say=say)
            return pool.run(jobs, self.at_once(jobs), on_progress, on_outcome, jobs_per_gpu=self.jobs_per_gpu)
