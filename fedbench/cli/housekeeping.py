"""`fedbench status`, `show` and `clean`: what a results folder holds, and what may go from it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fedbench import storage
from fedbench.cli.console import Results, err, out, path
from fedbench.errors import BadInput, unknown_name
from fedbench.storage.command import command

if TYPE_CHECKING:
    from fedbench.storage import Result

commands = typer.Typer()


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold", justify="right" if head in ("runs", "MB", "files") else "left")
    return table


@commands.command()
def status(
    results: Annotated[Path, typer.Argument(parser=path, metavar="RESULTS", help="Folder of the results.")] = Path(
        "results"
    ),
) -> None:
    """What is done, running, failed and missing in a results folder, whoever runs it."""
    from fedbench.runs.display import duration, percent
    from fedbench.runs.status import status as look

    found = look(results)
    table = _table("data set", "method", "runs")
    for (dataset, method), count in sorted(found.done.items()):
        table.add_row(dataset, method, str(count))
    done = sum(found.done.values())
    out.print(f"{done} run{' is' if done == 1 else 's are'} done in {results}", markup=False, soft_wrap=True)
    if (results / storage.TRIALS).is_dir():
        out.print(
            f"trials of `fedbench tune`: fedbench status {results / storage.TRIALS}", markup=False, soft_wrap=True
        )
    if found.done:
        out.print(table)
    for run in found.running:
        left = "time left unknown" if run.seconds_left is None else f"{duration(run.seconds_left)} left"
        facts = f"{run.visits}/{run.total} visits, validation {percent(run.best)}, {left}"
        since = f"for {duration(max(0.0, time.time() - run.since))}"
        out.print(f"running {since}: {run.name}: {facts} ({run.where})", markup=False, soft_wrap=True)
    for failed in found.failed:
        out.print(f"failed: {failed.name}: {failed.message} ({failed.identity})", markup=False, soft_wrap=True)
    for file in found.damaged:
        out.print(f"damaged: {file}", markup=False, soft_wrap=True)
    if found.missing:
        count = len(found.missing)
        runs = "1 planned run is missing" if count == 1 else f"{count} planned runs are missing"
        out.print(f"{runs}; the same command goes on with what it planned (`fedbench clean plans` forgets it)")
    if (found.running or found.missing) and found.seconds_left is not None:
        out.print(f"about {duration(found.seconds_left)} left")


@commands.command()
def show(
    result: Annotated[str, typer.Argument(help="A result file, or the identity of a result or its beginning.")],
    results: Results = Path("results"),
) -> None:
    """One run: the command that makes it, what it is, its scores, and where its numbers come from."""
    failures = list((results / storage.WORK).glob(f"{result}*.error")) if re.fullmatch("[0-9a-f]{4,16}", result) else []
    if len(failures) == 1 and not any(results.glob(f"*/*/{result}*.json")):
        failed = storage.read_failure(failures[0])
        out.print(f"failed: {failed.spec.method}, {failed.spec.dataset}, seed {failed.spec.seed}", markup=False)
        out.print(failed.details.rstrip(), markup=False, soft_wrap=True)
        return
    path = storage.find_result(result, results)
    stored = storage.read(path)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(stored):
        table.add_row(name, value)
    out.print(f"{stored.title}, {stored.spec.dataset}, seed {stored.spec.seed}: {path}", markup=False, soft_wrap=True)
    out.print(table, markup=False)
    out.print(f"\n{_command(stored)}", markup=False, soft_wrap=True)
    for kind, name in _of_files(stored):
        out.print(f"# the {kind} {name} is a plug-in: give its file in place of the name", markup=False, soft_wrap=True)


def _facts(stored: Result) -> list[tuple[str, str]]:
    best, last, spec = stored.best, stored.last, stored.spec
    facts = [
        ("client mean", f"{100 * best.client_mean:.2f}% at {best.visits} visits, the best on validation"),
        ("pooled", f"{100 * best.accuracy:.2f}%"),
    ]
    if stored.unseen:
        facts.append(("unseen clients", f"{100 * stored.unseen.best.client_mean:.2f}%, client mean"))
    facts += [
        ("traffic", f"{(last.bytes_down + last.bytes_up + last.bytes_welcome) / 1e6:,.3g} MB in {last.visits} visits"),
        ("time", f"{last.seconds:.0f} s"),
        ("diverged", "yes" if stored.diverged else "no"),
        ("identity", spec.identity),
    ]
    facts += [(name, _value(value)) for name, value in spec.model_dump(exclude={"params"}).items()]
    facts += [(f"  {name}", _value(value)) for name, value in spec.params.items()]
    facts += [("code", stored.code), ("data set's code", stored.dataset_code or "-"), ("digest", stored.digest)]
    facts += [(f"models of {spec.clients - spec.novel_clients} clients", stored.models.file)] if stored.models else []
    return facts + [(name, _value(value)) for name, value in stored.provenance.items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def _command(stored: Result) -> str:
    """The command that makes a result; its plug-ins are named, and a result does not tell the files of any."""
    from fedbench import plugins

    spec = stored.spec
    try:
        usual: dict[str, Any] = dict(plugins.configure(plugins.find_method(spec.method), {}))
    except BadInput:  # of a file, which the result does not tell
        usual = {}
    changed = {name: value for name, value in spec.params.items() if name not in usual or usual[name] != value}
    return command(spec, [spec.seed], changed, keep_models=stored.models is not None)


def _of_files(stored: Result) -> Iterator[tuple[str, str]]:
    """The kinds and names of the plug-ins of a result that are not found by name."""
    from fedbench import plugins
    from fedbench.plugins.finding import WORDS
    from fedbench.runs.verify import plugins_of

    for kind, names in plugins_of(stored.spec).items():
        for name in names:
            try:
                plugins.find(kind, name)
            except BadInput:
                yield WORDS[kind], name


@commands.command()
def clean(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[errors|plans|checkpoints|states|rubbish]...", help="Only these. Default: all."),
    ] = None,
    results: Results = Path("results"),
    methods: Annotated[
        str | None, typer.Option(help="Files of methods that are still in use, with commas between them.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> None:
    """Remove errors of runs, abandoned plans, kept states, checkpoints of old code; says first what and how much.

    Results are never touched, nor anything of a run that is going on. A method that is a file is not known by name:
    say with --methods that it is still in use, or its checkpoints count as those of other code.
    """
    from fedbench.runs.housekeeping import KINDS, leftovers, remove

    for kind in what or ():
        if kind not in KINDS:
            raise unknown_name("kind of leftover", kind, KINDS)
    files = [file.strip() for file in (methods or "").split(",") if file.strip()]
    found = [each for each in leftovers(results, files) if not what or each.kind in what]
    if not found:
        out.print(f"there is nothing to remove in {results}", markup=False, soft_wrap=True)
        return
    for kind in KINDS:
        mine = [each for each in found if each.kind == kind]
        if mine:
            megabytes = sum(each.size for each in mine) / 1e6
            out.print(f"{kind}: {_files(mine)}, {megabytes:,.3g} MB")
            for each in mine[:10]:
                out.print(f"  {each.path.name}: {each.why}", markup=False, soft_wrap=True)
            if len(mine) > 10:
                out.print(f"  and {len(mine) - 10} more")
    if not yes and not typer.confirm("Remove them?", default=False):
        err.print("nothing was removed")
        raise typer.Exit(1)
    left = remove(found)
    for each in left:
        err.print(f"{each.path} could not be removed", markup=False, soft_wrap=True)
    out.print(f"removed: {_files(found[: len(found) - len(left)])}")
    if left:
        raise typer.Exit(1)


def _files(found: Sequence[object]) -> str:
    return f"{len(found)} file{'' if len(found) == 1 else 's'}"
