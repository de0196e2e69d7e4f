"""`fedbench list`, `check` and `new`: the plug-ins that there are, are they correct, and files to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli import completion
from fedbench.cli.console import err, out

commands = typer.Typer()
list_app = typer.Typer(no_args_is_help=True, help="Show methods, data sets and experiments.")
new_app = typer.Typer(no_args_is_help=True, help="Write files to start from.")


@list_app.command("methods")
def list_methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, by name or file.", autocompletion=completion.methods)
    ] = None,
) -> None:
    """Names, titles and papers of all methods, or everything about one of them."""
    from fedbench.cli.listing import method_details, methods_table

    out.print(methods_table() if name is None else method_details(name))


@list_app.command("datasets")
def list_datasets(
    name: Annotated[
        str | None, typer.Argument(help="One data set, by name or file.", autocompletion=completion.datasets)
    ] = None,
) -> None:
    """Names, sources and defaults of all data sets, or everything about one of them."""
    from fedbench.cli.listing import dataset_details, datasets_table

    out.print(datasets_table() if name is None else dataset_details(name))


@commands.command()
def check(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD_OR_FILE...", help="Names or files.")],
) -> None:
    """Is it a correct federated method? One line a check, on a small synthetic federation, in under a minute."""
    from fedbench import plugins
    from fedbench.check import each_check

    signs = {"holds": "[green]ok[/]  ", "fails": "[red]FAIL[/]", "declared": "[yellow]dev.[/]"}
    failed = 0
    for text in methods:
        out.print(f"[bold]{plugins.find_method(text).name}[/]")
        for result in each_check(plugins.find_method(text)):
            out.print(f"  {signs[result.status]} {result.sentence}: ", end="")
            if result.status == "fails":
                failed += 1
                out.print(f"expected {result.expected}; seen: {result.seen}", markup=False)
            else:
                out.print(result.seen, markup=False, style="dim")
    if failed:
        err.print(f"{failed} checks failed")
        raise typer.Exit(1)


@new_app.command("method")
def new_method(
    name: Annotated[str, typer.Argument(help="Its name, e.g. my-method.")],
    folder: Annotated[Path, typer.Option(help="Where to write the file and its test.")] = Path(),
) -> None:
    """Write a commented method that passes `fedbench check` as it stands, and a test file for it."""
    from fedbench.plugins.new import new_method as write

    for path in write(name, folder):
        out.print(f"written: {path}")


commands.add_typer(list_app, name="list")
commands.add_typer(new_app, name="new")
