"""`fedbench verify`: does a stored result come out again?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli.console import DataRoot, out, path

commands = typer.Typer()


@commands.command()
def verify(
    result: Annotated[Path, typer.Argument(parser=path, metavar="PATH", help="A result file.")],
    method: Annotated[str | None, typer.Option(help="The method's file, where it is not found by name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The data set's file, where it is not found by name.")] = None,
    partition: Annotated[str | None, typer.Option(help="The partition's file, where it is not found by name.")] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network's file, where it is not found by name; once for each.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Run a stored result again: are the numbers equal, bit for bit, or where do they first differ?"""
    from fedbench.runs.verify import verify as run_again

    verdict = run_again(
        result,
        method=method,
        dataset=dataset,
        partition=partition,
        networks=network or (),
        data_folder=data_root,
    )
    out.print(str(verdict), markup=False, soft_wrap=True)
    if not verdict.equal:
        raise typer.Exit(1)
