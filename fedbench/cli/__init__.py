"""The command line. It reads options, calls `fedbench.api`, and prints; what a notebook would want is there.

torch, pandas and all that import them are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fedbench import __version__
from fedbench.cli import cluster, experiments, housekeeping, partition, plugins, report, run, tune, verify
from fedbench.cli.console import err, out
from fedbench.errors import BadInput

__all__ = ["app", "main"]

app = typer.Typer(
    name="fedbench",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare personalized federated learning methods, with numbers that reproduce bit for bit.",
    epilog="Begin with [bold]fedbench run[/]: it needs no download and takes a few minutes.",
)
for group in (run, tune, experiments, report, verify, partition, plugins, housekeeping, cluster):
    app.add_typer(group.commands)


def _version(value: bool) -> None:
    if value:
        out.print(f"fedbench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: bad input is one sentence and exit status 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except BadInput as error:
        err.print(f"fedbench: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
    except PermissionError as error:
        if error.filename is None:
            raise
        words = f"fedbench: {error.filename}: permission denied; ask its owner, or choose another folder"
        err.print(words, markup=False, soft_wrap=True)
        sys.exit(2)
