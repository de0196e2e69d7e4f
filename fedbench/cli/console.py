"""Where commands print, and the options that several of them have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli import completion
from fedbench.errors import BadInput
from fedbench.runs.console import new_console

out, err = new_console(), new_console(stderr=True)


def path(text: str) -> Path:
    """The parser of options that are paths: what cannot be one is refused before anything is done with it."""
    from fedbench.storage.given import given_path  # with pydantic, for which --help does not wait

    try:
        return given_path(text, "the path")
    except BadInput as error:
        raise typer.BadParameter(str(error)) from None


DataRoot = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        metavar="PATH",
        help="Folder with NAME.npz data files. Else $FEDBENCH_DATA, else your cache folder.",
    ),
]
Results = Annotated[Path, typer.Option(parser=path, metavar="PATH", help="Folder of the results.")]
Methods = Annotated[
    str,
    typer.Option(
        help="Names and files, with commas between them; `all` is every method in `fedbench list methods`.",
        autocompletion=completion.methods,
    ),
]
Dataset = Annotated[
    str, typer.Option(help="A name (see `fedbench list datasets`) or a file.", autocompletion=completion.datasets)
]
Clients = Annotated[int | None, typer.Option(min=1, help="Number of clients. Default: the data set's.")]
Partition = Annotated[
    str | None,
    typer.Option(
        help="Who holds what: classes, coarse, dirichlet, group, iid, with settings: classes:per_client=2,spare=0."
    ),
]
Network = Annotated[
    str | None, typer.Option(help="The clients' network: lenet, lenet-8, mlp-digits, ... Default: the data set's.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: one a core, at most one a run.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JobsPerGpu = Annotated[int, typer.Option(min=1, help="Runs at a time on each GPU.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        envvar="FEDBENCH_SCHEDULER",
        metavar="ADDRESS",
        help="Make the runs on the workers of this Dask scheduler: tcp://HOST:8786, or the file that it wrote. See"
        " `fedbench cluster`.",
    ),
]
