"""`fedbench report`: tables, statistics and figures of what has been run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedbench.cli.console import DataRoot, err, out, path
from fedbench.errors import BadInput

if TYPE_CHECKING:
    from fedbench.reporting import Report

commands = typer.Typer()
Number = TypeVar("Number", int, float)


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
    at: Annotated[
        str | None,
        typer.Option(metavar="VISITS", help="Take every result as it was after so many visits, as in 250,500,1000."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Accuracies to price in visits, MB and seconds, as in 70,80."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="What `fedbench tune` wrote: tables say which runs have these settings.")
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
        api.report(
            results,
            to,
            at=_numbers("--at", at, int),
            reference=reference,
            targets=_numbers("--targets", targets, float),
            settings_file=settings,
            figures=figures,
            partitions=partitions,
            data_root=data_root,
        )
    )


def _numbers(option: str, text: str | None, kind: type[Number]) -> list[Number]:
    """Positive numbers with commas between them; none where the option is not given."""
    try:
        numbers = [kind(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"{option} {text}: give numbers with commas between them, such as 70,80") from None
    if text is not None and not numbers:
        raise BadInput(f"{option} names no number: give some, with commas between them, or leave it out")
    if any(not 0 < number < float("inf") for number in numbers):
        raise BadInput(f"{option} {text}: give numbers above 0")
    return numbers


def show_report(made: Report) -> None:
    """Print the main table, what was left out and where the page is; exit with the report's status."""
    from fedbench.reporting.tables import terminal

    for table in made.tables[:1]:
        out.print(terminal(table, out))
    for text in [*made.warnings, *made.gaps]:
        err.print(f"warning: {text}", markup=False, soft_wrap=True)
    for text in made.uncut[:3]:
        err.print(f"note: {text}", markup=False, soft_wrap=True)
    if len(made.uncut) > 3:
        err.print(f"note: {len(made.uncut) - 3} more cannot be cut; the report names all of them")
    out.print(f"report: {made.page}", markup=False, soft_wrap=True)
    if made.stopped:
        err.print("stopped; the same command goes on from here")
    if made.status:
        raise typer.Exit(made.status)
