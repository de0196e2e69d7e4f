"""Where the runs of a plan are made: in processes of this machine, or on the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from joblib import cpu_count  # those that this process may use

from fedbench.runs import pool
from fedbench.runs.job import Job, Note, Outcome
from fedbench.runs.status import announced


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where runs are made, and how many at a time."""

    jobs: int | None = None  # runs at a time; None: one a core, or one a worker of the scheduler
    jobs_per_gpu: int = 1
    scheduler: str | None = None  # of Dask: its address, or the file that it wrote; None: this machine

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
            processes = min(self.jobs or int(cpu_count()), max(1, len(jobs)))
            return pool.run(jobs, processes, on_progress, on_outcome, jobs_per_gpu=self.jobs_per_gpu)
