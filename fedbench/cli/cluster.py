"""`fedbench cluster`: how to start a Dask scheduler and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli.console import out, path
from fedbench.errors import unknown_name

commands = typer.Typer()

TEXT = """\
{plan}

1. On every machine the same fedbench, torch and numpy, and Dask:
       pip install 'fedbench[cluster]'
   and the data sets ({data}). A worker that differs is not used, and a sentence says why.

2. The scheduler, on a machine that all others reach:
       dask scheduler --port 8786

3. Workers, one run at a time each, on every machine (about 1 GB of memory each for CIFAR-10):
       OMP_NUM_THREADS=1 dask worker tcp://HOST:8786 --nworkers {workers} --nthreads 1 --memory-limit 0{resources}
   With GPUs, one such line for each, with its number:
       CUDA_VISIBLE_DEVICES=0 OMP_NUM_THREADS=1 dask worker tcp://HOST:8786 --nworkers 1 --nthreads 1 \\
           --memory-limit 0 --resources GPU=1
   A worker makes one run at a time: for more on one GPU, raise --nworkers.
   On Slurm, dask-jobqueue starts them (pip install dask-jobqueue), in Python:
       from dask_jobqueue import SLURMCluster
       cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="01:00:00",
                              worker_extra_args=["--lifetime", "55m", "--lifetime-stagger", "4m"])
       cluster.scale(jobs={workers}); print(cluster.scheduler_address)
       input("workers live as long as this waits")

4. The same command as ever, with the address:
       fedbench run ... --scheduler tcp://HOST:8786        (or: export FEDBENCH_SCHEDULER=tcp://HOST:8786)
   No shared folder is needed. Workers that see the results folder keep checkpoints there, and the run of a worker
   that ends goes on from its checkpoint on another; without it the run starts again.

Whoever reaches a Dask port can run code on all its machines: keep it on a private network, or use Dask's TLS.
"""


@commands.command()
def cluster(
    results: Annotated[
        Path, typer.Argument(parser=path, metavar="PATH", help="Folder of the results, whose plan the workers are for.")
    ] = Path("results"),
    workers: Annotated[int | None, typer.Option(min=1, help="Workers on a machine. Default: one a core.")] = None,
    device: Annotated[str, typer.Option(help="What runs are made on: cpu or cuda.")] = "cpu",
) -> None:
    """Print how to start a scheduler and workers for runs on several machines."""
    from joblib import cpu_count

    from fedbench.runs.status import status

    if device not in ("cpu", "cuda"):
        raise unknown_name("device", device, ("cpu", "cuda"))
    missing = status(results).missing if results.is_dir() else []
    datasets = sorted({each.dataset for each in missing})
    plan = f"{len(missing)} runs are planned in {results} and have no result yet." if missing else "No run is planned."
    out.print(
        TEXT.format(
            plan=f"{plan} Runs go to several machines by Dask:",
            data=", ".join(datasets) or "in --data-root, or $FEDBENCH_DATA there",
            workers=workers or min(int(cpu_count()), max(1, len(missing) or int(cpu_count()))),
            resources=" --resources GPU=1" if device == "cuda" else "",
        ),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
