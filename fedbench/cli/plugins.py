"""`fedbench list`, `check` and `new`: the plug-ins that there are, are they correct, and files to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.cli import completion
from fedbench.cli.console import DataRoot, err, out, path

commands = typer.Typer()
list_app = typer.Typer(no_args_is_help=True, help="Show methods, data sets, partitions, networks and experiments.")
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


@list_app.command("partitions")
def list_partitions(name: Annotated[str | None, typer.Argument(help="One partition, by name or file.")] = None) -> None:
    """Ways to spread the samples over clients, with their settings, or everything about one of them."""
    from fedbench.cli.listing import partition_details, partitions_table

    out.print(partitions_table() if name is None else partition_details(name))


@list_app.command("networks")
def list_networks(name: Annotated[str | None, typer.Argument(help="One network, by name or file.")] = None) -> None:
    """The networks that clients may have, or the layers of one of them."""
    from fedbench.cli.listing import network_details, networks_table

    out.print(networks_table() if name is None else network_details(name))


@commands.command()
def check(
    names: Annotated[list[str], typer.Argument(metavar="NAME_OR_FILE...", help="Plug-ins of any kind.")],
    data_root: DataRoot = None,
) -> None:
    """Does a method, a data set, a partition or a network keep its contract? One line a check, in under a minute.

    Which of them a file is, is seen from what it defines. A partition may have settings, `./mine.py:skew=2`. Exit
    status 1: a check failed.
    """
    from fedbench import plugins
    from fedbench.check import kinds
    from fedbench.plugins.texts import cut

    signs = {"holds": "[green]ok[/]  ", "fails": "[red]FAIL[/]", "declared": "[yellow]dev.[/]"}
    found = [(kind, text, plugins.find(kind, cut(text)[0])) for text in names for kind in kinds.kinds_of(text)]
    failed = 0
    for kind, text, plugin in found:
        out.print(plugin.name, style="bold", markup=False, end="")
        out.print(f", a {kinds.WORDS[kind]}")
        others: dict[str, int] = {}  # failures that have the reason of one that was told
        for result in kinds.each_check(kind, text, data_root):
            failed += result.status == "fails"
            if result.follows:
                others[result.follows] = others.get(result.follows, 0) + 1
                continue
            out.print(f"  {signs[result.status]} {result.sentence}: ", end="")
            if result.status == "fails":
                where = f" ({result.place})" if result.place else ""
                out.print(f"expected {result.expected}; seen: {result.seen}{where}", markup=False, soft_wrap=True)
            else:
                out.print(result.seen, markup=False, style="dim")
        for sentence, count in others.items():
            out.print(
                f"  [red]FAIL[/] and {count} other{'s' if count > 1 else ''}, as far as can be told because of: ",
                end="",
            )
            out.print(sentence, markup=False)
    if failed:
        err.print(f"{failed} checks failed")
        if any(kind == "method" for kind, _, _ in found):
            err.print(
                "(methods are tried with 3 local steps, batches of 8 and cohorts of 2, where they allow it; a sentence "
                "that a method breaks knowingly stands with the reason in its class attribute `deviations`)",
                style="dim",
                soft_wrap=True,
            )
        raise typer.Exit(1)


Name = Annotated[str, typer.Argument(help="Its name, e.g. my-method: letters, digits and dashes.")]
Folder = Annotated[Path, typer.Option(parser=path, metavar="PATH", help="Where to write the file and its test.")]


@new_app.command("method")
def new_method(name: Name, folder: Folder = Path()) -> None:
    """Write a commented method that passes `fedbench check` as it stands, and a test file for it."""
    _new("method", name, folder)


@new_app.command("dataset")
def new_dataset(name: Name, folder: Folder = Path()) -> None:
    """Write a commented data set that passes `fedbench check` as it stands, and a test file for it."""
    _new("dataset", name, folder)


@new_app.command("partition")
def new_partition(name: Name, folder: Folder = Path()) -> None:
    """Write a commented partition that passes `fedbench check` as it stands, and a test file for it."""
    _new("partition", name, folder)


@new_app.command("network")
def new_network(name: Name, folder: Folder = Path()) -> None:
    """Write a commented network that passes `fedbench check` as it stands, and a test file for it."""
    _new("network", name, folder)


def _new(kind: str, name: str, folder: Path) -> None:
    from fedbench.plugins.new import new

    for written in new(kind, name, folder):
        out.print(f"written: {written}", markup=False, soft_wrap=True)


commands.add_typer(list_app, name="list")
commands.add_typer(new_app, name="new")
