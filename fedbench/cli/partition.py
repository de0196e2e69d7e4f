"""`fedbench partition`: who holds which part of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli.console import Clients, DataRoot, Dataset, Partition, out, path

commands = typer.Typer()


@commands.command()
def partition(
    dataset: Dataset = "digits",
    clients: Clients = None,
    partition: Partition = None,
    seed: Annotated[int, typer.Option(min=0)] = 42,
    data_root: DataRoot = None,
    picture: Annotated[
        Path | None,
        typer.Option(parser=path, metavar="PATH", help="Save the client-by-class picture there (.png or .pdf)."),
    ] = None,
) -> None:
    """Show who holds which part of a data set."""
    from fedbench import plugins
    from fedbench.partitions import picture as draw
    from fedbench.partitions import summary
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.prepare import load_data, make_partition

    spec = (
        job := Comparison(
            methods=plugins.names("method")[:1],
            seeds=[seed],
            dataset=dataset,
            clients=clients,
            partition=partition,
            data_root=data_root,
        ).jobs()[0]
    ).spec
    made = make_partition(job.dataset, job.data_root, job.partition or spec.partition, spec.clients, seed)
    data = load_data(job.dataset, job.data_root)
    out.print(f"{spec.dataset}, {spec.partition}, {spec.clients} clients, seed {seed}", markup=False)
    out.print(summary(made, data), markup=False)
    if picture is not None:
        draw(made, data, picture)
        out.print(f"picture: {picture}", markup=False, soft_wrap=True)
