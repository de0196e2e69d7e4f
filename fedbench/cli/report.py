"""`fedbench report`: tables, statistics and figures of what has been run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.console import DataRoot, err, out, path

if TYPE_CHECKING:
    from fedbench.reporting import Report

commands = typer.Typer()


@commands.command()
def report(
    results: Annotated[Path, typer.Argument(parser=path, metavar="PATH", help="Folder of the results.")] = Path(
        "results"
    ),
    to: Annotated[
        Path, typer.Option("--out", parser=path, metavar="PATH", help="Folder of the report: see its index.html.")
    ] = Path("reports"),
    reference: Annotated[
        str | None, typer.Option(help="Method that others are compared with. Default: each setting's best.")
    ] = None,
    figures: Annotated[int, typer.Option(min=0, help="Draw figures for so many settings, those with most runs.")] = 3,
    partitions: Annotated[bool, typer.Option("--partitions", help="Also draw who holds what; needs the data.")] = False,
    data_root: DataRoot = None,
) -> None:
    """Tables, statistics and figures of what has been run, and one HTML page.

    Exit status 1: something was left out, or runs failed.
    """
    from fedbench import api

    show_report(
        api.report(results, to, reference=reference, figures=figures, partitions=partitions, data_root=data_root)
    )


def show_report(made: Report) -> None:
    """Print the main table, what was left out and where the page is; exit with the report's status."""
    from fedbench.reporting.tables import terminal

    for table in made.tables[:1]:
        out.print(terminal(table))
    for text in [*made.warnings, *made.gaps]:
        err.print(f"warning: {text}", markup=False, soft_wrap=True)
    out.print(f"report: {made.page}", markup=False, soft_wrap=True)
    if made.stopped:
        err.print("stopped; the same command goes on from here")
    if made.status:
        raise typer.Exit(made.status)
