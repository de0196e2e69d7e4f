"""`fedbench verify`: does a stored result come out again?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli.console import DataRoot, Results, out

commands = typer.Typer()


@commands.command()
def verify(
    result: Annotated[str, typer.Argument(help="A result file, or the identity of a result or its beginning.")],
    method: Annotated[str | None, typer.Option(help="The method's file, where it is not found by name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The data set's file, where it is not found by name.")] = None,
    partition: Annotated[str | None, typer.Option(help="The partition's file, where it is not found by name.")] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network's file, where it is not found by name; once for each.")
    ] = None,
    data_root: DataRoot = None,
    results: Results = Path("results"),
) -> None:
    """Run a stored result again: are the numbers equal, bit for bit, or where do they first differ?"""
    from fedbench.runs.verify import verify as run_again
    from fedbench.storage import find_result

    verdict = run_again(
        find_result(result, results),
        method=method,
        dataset=dataset,
        partition=partition,
        networks=network or (),
        data_folder=data_root,
    )
    out.print(str(verdict), markup=False, soft_wrap=True)
    if not verdict.equal:
        raise typer.Exit(1)
