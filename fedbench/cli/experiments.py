"""`fedbench reproduce` and `list experiments`: tables and figures of papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli import completion
from fedbench.cli.console import DataRoot, Device, Jobs, JobsPerGpu, Results, Scheduler, out, path
from fedbench.cli.plugins import list_app, new_app
from fedbench.cli.report import show_report
from fedbench.errors import canonical

commands = typer.Typer()


@commands.command()
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="An experiment (see `fedbench list experiments`) or a .toml file.",
            autocompletion=completion.experiments,
        ),
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="How long: smoke, laptop, paper, or another that the experiment has.",
            autocompletion=completion.presets,
        ),
    ] = "laptop",
    jobs: Jobs = None,
    jobs_per_gpu: JobsPerGpu = 1,
    scheduler: Scheduler = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    results: Annotated[
        Path, typer.Option(parser=path, metavar="PATH", help="Folder of the results; none is made again.")
    ] = Path("results"),
    to: Annotated[Path, typer.Option("--out", parser=path, metavar="PATH", help="The report goes to OUT/NAME.")] = Path(
        "reports"
    ),
    run: Annotated[bool, typer.Option("--run/--no-run", help="Run what is missing, or only render.")] = True,
) -> None:
    """Run what is missing of an experiment and render it beside its published values; go on where it stopped."""
    from fedbench import api

    show_report(
        api.reproduce(
            name,
            preset=canonical(preset),
            jobs=jobs,
            jobs_per_gpu=jobs_per_gpu,
            scheduler=scheduler,
            device=device,
            data_root=data_root,
            results=results,
            out=to,
            run=run,
            console=out,
        )
    )


@list_app.command("experiments")
def list_experiments(
    name: Annotated[
        str | None, typer.Argument(help="One experiment, by name or .toml file.", autocompletion=completion.experiments)
    ] = None,
    preset: Annotated[
        str, typer.Option(help="smoke, laptop, paper, or one of the experiment.", autocompletion=completion.presets)
    ] = "laptop",
    data_root: DataRoot = None,
    results: Results = Path("results"),
    keys: Annotated[bool, typer.Option("--keys", help="Print what every key of an experiment file says.")] = False,
) -> None:
    """Tables and figures that can be reproduced, how many of their runs are done, and the time for the others."""
    if keys:
        from fedbench.experiments.keys import documentation

        out.print(documentation(), markup=False, soft_wrap=True)
        return
    from rich.table import Table

    from fedbench.experiments.schema import load, names
    from fedbench.runs.display import duration
    from fedbench.runs.plan import status

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("name", "title", "runs", "done", "left"):
        table.add_column(head, justify="right" if head in ("runs", "done", "left") else "left")
    having = [each for each in names() if canonical(preset) in load(each).presets] or names()[:1]  # which complains
    for each in having if name is None else [name]:
        state = status(each, canonical(preset), data_root=data_root, results=results)
        left = "unknown" if state.seconds_left is None else duration(state.seconds_left)
        table.add_row(state.name, state.title, str(state.runs), str(state.done), left)
    table.caption = (
        f"preset {preset}; time for one process, from the stored runs most like these (unknown: there are none)"
    )
    out.print(table, markup=False)


@new_app.command("experiment")
def new_experiment(
    name: Annotated[str, typer.Argument(help="Its name, e.g. my-table.")],
    folder: Annotated[Path, typer.Option(parser=path, metavar="PATH", help="Where to write the file.")] = Path(),
) -> None:
    """Write a commented experiment file that runs on the digits as it stands."""
    from fedbench.experiments.template import new_experiment as write

    for written in write(name, folder):
        out.print(f"written: {written}", markup=False, soft_wrap=True)
