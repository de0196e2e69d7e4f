"""The command line. It reads options, calls the library, and prints; what a notebook would want is elsewhere.

torch, pandas and all that import them are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedbench import __version__
from fedbench.errors import BadInput, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedbench.reporting import Report
    from fedbench.runs.job import Job, Outcome

app = typer.Typer(
    name="fedbench",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Compare personalized federated learning methods, with numbers that reproduce bit for bit.",
    epilog="Begin with [bold]fedbench run[/]: it needs no download and takes a few minutes.",
)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)  # a log file is not 80 columns wide
err = Console(stderr=True, highlight=False)

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with NAME.npz data files. Else $FEDBENCH_DATA, else your cache folder.")
]


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


@app.command(
    epilog="Examples:\n\n"
    "fedbench run --methods pfedhn,fedavg --dataset cifar10\n\n"
    "fedbench run --methods ./my_method.py,fedavg --preset smoke\n\n"
    "fedbench run --dataset cifar10 --clients 50 --seeds 42,27 --set pfedhn.hypernetwork.lr=0.02 --dry-run"
)
def run(
    methods: Annotated[
        str,
        typer.Option(
            help="Names and files, with commas between them; `all` is every method in `fedbench list methods`."
        ),
    ] = "all",
    dataset: Annotated[str, typer.Option(help="A name (see `fedbench list datasets`) or a file.")] = "digits",
    clients: Annotated[int | None, typer.Option(min=1, help="Number of clients. Default: the data set's.")] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="Who holds what: classes, dirichlet, group, iid, with settings as in classes:per_client=2,spare=0."
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="The clients' network: lenet, lenet-8, mlp-digits, ... Default: the data set's."),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="How long: smoke (20 visits, 1 seed), laptop (1000 visits, 3 seeds: the order of methods shows),"
            " paper (5000 visits, 3 seeds: the effort of the pFedHN paper)."
        ),
    ] = "laptop",
    visits: Annotated[
        int | None, typer.Option(min=1, help="Client visits of each run, instead of the preset's.")
    ] = None,
    evaluate_every: Annotated[
        int, typer.Option(min=1, help="Visits between two evaluations, of which validation chooses the best.")
    ] = 50,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Store the personal models of the chosen round beside each result.")
    ] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Keep final states, so that a run with more visits goes on from them.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(help="A count (3) or a list (42,27,13; one seed is `42,`), instead of the preset's.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="A hyperparameter; see `fedbench list methods NAME`."),
    ] = None,
    novel_clients: Annotated[
        int, typer.Option(min=0, help="Clients held out of training, that join when it is over.")
    ] = 0,
    adapt_visits: Annotated[
        int | None, typer.Option(min=0, help="Visits to each client that was held out. Default: 20.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. Default: one a core, at most one a run.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_root: DataRoot = None,
    results: Annotated[
        Path, typer.Option(help="Folder of the results; what is there already is not run again.")
    ] = Path("results"),
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between two checkpoints of a run.")] = 120.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and how long they would take; run none.")
    ] = False,
) -> None:
    """Train methods on one data set at equal effort and compare them.

    The unit of effort is the client visit: one client trains K local steps and answers. Stop with Ctrl-C whenever you
    like; the same command goes on where it stopped.
    """
    from joblib import cpu_count  # those that this process may use

    from fedbench import plugins
    from fedbench.errors import unknown_name
    from fedbench.runs.comparison import Comparison, check_possible
    from fedbench.runs.pool import split_done
    from fedbench.runs.presets import PRESETS
    from fedbench.storage.spec import seed_list

    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    chosen = PRESETS[preset]
    names = (
        plugins.names("method") if methods.lower() == "all" else [m.strip() for m in methods.split(",") if m.strip()]
    )
    length = visits or chosen.visits
    plan = Comparison(
        methods=names,
        seeds=_seeds(seeds) if seeds is not None else seed_list(chosen.seeds),
        dataset=dataset,
        clients=clients,
        partition=partition,
        network=network,
        visits=length,
        evaluate_every=evaluate_every,
        keep_models=keep_models,
        keep_state=keep_state,
        novel_clients=novel_clients,
        adapt_visits=adapt_visits,
        settings=_settings(set_ or []),
        device=device,
        data_root=data_root,
        results=results,
        checkpoint_every=checkpoint_every,
    ).jobs()
    check_possible(split_done(plan)[1])
    processes = min(jobs or cpu_count(), len(plan))
    if dry_run:
        from fedbench.runs.estimate import show_plan

        show_plan(plan, processes, out)
        return
    _execute(plan, processes, results)


def _execute(plan: Sequence[Job], processes: int, results: Path) -> None:
    """Run what is missing of `plan`, print the table, and exit with 1 where a run failed, 130 where it was stopped."""
    from fedbench.runs import pool
    from fedbench.runs.comparison import check_writable
    from fedbench.runs.display import Display

    done, todo = pool.split_done(plan)
    if todo:
        check_writable(results)
    if done:
        out.print(f"{len(done)} of {len(plan)} runs are done already, in {results}", markup=False)
    with Display(todo, out) as display:
        outcomes = pool.run(todo, processes, display.progress, display.outcome)
    from fedbench.reporting.terminal import comparison_table  # with pandas, which the runs need not wait for

    out.print(comparison_table(plan))
    out.print(f"results: {results.resolve() / plan[0].spec.dataset}", markup=False, soft_wrap=True)
    failed = [outcome for outcome in outcomes if outcome.ending == "failed"]
    for outcome in failed:
        _report_failure(outcome)
    if failed:
        raise typer.Exit(1)
    if any(outcome.ending == "stopped" for outcome in outcomes):
        err.print("stopped; the same command goes on from here")
        raise typer.Exit(130)


def _report_failure(outcome: Outcome) -> None:
    spec = outcome.job.spec
    err.print(f"failed: {spec.method}, seed {spec.seed}: {outcome.message}", markup=False)
    if outcome.details:
        err.print(outcome.details.rstrip(), markup=False, soft_wrap=True)


def _seeds(text: str) -> list[int]:
    from fedbench.storage.spec import seed_list

    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"--seeds {text}: give a count such as 3, or a list such as 42,27,13") from None
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers) or ("," not in text and numbers[0] == 0):
        raise BadInput(f"--seeds {text}: give a count of at least 1, or a list of different numbers of at least 0")
    return numbers if "," in text else seed_list(numbers[0])


def _settings(texts: list[str]) -> dict[str, str]:
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise BadInput(f"--set {text}: write METHOD.FIELD=VALUE, e.g. pfedhn.hypernetwork.lr=0.02")
        method, _, field = key.strip().partition(".")
        key = f"{canonical(method)}.{field}" if not method.endswith(".py") else key.strip()
        if key in settings:
            raise BadInput(f"--set {text}: {key} is set twice")
        settings[key] = value.strip()
    return settings


list_app = typer.Typer(no_args_is_help=True, help="Show methods and data sets.")
app.add_typer(list_app, name="list")


@list_app.command("methods")
def list_methods(name: Annotated[str | None, typer.Argument(help="One method, by name or file.")] = None) -> None:
    """Names, titles and papers of all methods, or everything about one of them."""
    from fedbench.cli.listing import method_details, methods_table

    out.print(methods_table() if name is None else method_details(name))


@list_app.command("datasets")
def list_datasets(name: Annotated[str | None, typer.Argument(help="One data set, by name or file.")] = None) -> None:
    """Names, sources and defaults of all data sets, or everything about one of them."""
    from fedbench.cli.listing import dataset_details, datasets_table

    out.print(datasets_table() if name is None else dataset_details(name))


@app.command()
def partition(
    dataset: Annotated[str, typer.Option(help="A name or a file.")] = "digits",
    clients: Annotated[int | None, typer.Option(min=1, help="Number of clients. Default: the data set's.")] = None,
    partition: Annotated[str | None, typer.Option(help="As in `fedbench run`.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 42,
    data_root: DataRoot = None,
    picture: Annotated[Path | None, typer.Option(help="Save the client-by-class picture there (.png or .pdf).")] = None,
) -> None:
    """Show who holds which part of a data set."""
    from fedbench import plugins
    from fedbench.partitions import picture as draw
    from fedbench.partitions import summary
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.prepare import load_data, make_partition

    spec = (
        job := Comparison(
            methods=plugins.names("method")[:1],
            seeds=[seed],
            dataset=dataset,
            clients=clients,
            partition=partition,
            data_root=data_root,
        ).jobs()[0]
    ).spec
    made = make_partition(job.dataset, job.data_root, spec.partition, spec.clients, seed)
    data = load_data(job.dataset, job.data_root)
    out.print(f"{spec.dataset}, {spec.partition}, {spec.clients} clients, seed {seed}")
    out.print(summary(made, data), markup=False)
    if picture is not None:
        draw(made, data, picture)
        out.print(f"picture: {picture}")


@app.command()
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


@app.command()
def verify(
    result: Annotated[Path, typer.Argument(help="A result file.")],
    method: Annotated[str | None, typer.Option(help="The method's file, where it is not found by name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The data set's file, where it is not found by name.")] = None,
    data_root: DataRoot = None,
) -> None:
    """Run a stored result again: are the numbers equal, bit for bit, or where do they first differ?"""
    from fedbench.runs.verify import verify as run_again

    verdict = run_again(result, method=method, dataset=dataset, data_folder=data_root)
    out.print(str(verdict), markup=False, soft_wrap=True)
    if not verdict.equal:
        raise typer.Exit(1)


new_app = typer.Typer(no_args_is_help=True, help="Write files to start from.")
app.add_typer(new_app, name="new")


@new_app.command("method")
def new_method(
    name: Annotated[str, typer.Argument(help="Its name, e.g. my-method.")],
    folder: Annotated[Path, typer.Option(help="Where to write the file and its test.")] = Path(),
) -> None:
    """Write a commented method that passes `fedbench check` as it stands, and a test file for it."""
    from fedbench.plugins.new import new_method as write

    for path in write(name, folder):
        out.print(f"written: {path}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Folder of the results.")] = Path("results"),
    to: Annotated[Path, typer.Option("--out", help="Folder of the report: see its index.html.")] = Path("reports"),
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
    from fedbench.reporting import report as make

    _show(make(results, to, reference=reference, figures=figures, partitions=partitions, data_root=data_root))


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="An experiment (see `fedbench list experiments`) or a .toml file.")],
    preset: Annotated[str, typer.Option(help="How long: smoke, laptop or paper.")] = "laptop",
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time. Default: one a core.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_root: DataRoot = None,
    results: Annotated[Path, typer.Option(help="Folder of the results; none is made again.")] = Path("results"),
    to: Annotated[Path, typer.Option("--out", help="The report goes to OUT/NAME.")] = Path("reports"),
    run: Annotated[bool, typer.Option("--run/--no-run", help="Run what is missing, or only render.")] = True,
) -> None:
    """Run what is missing of an experiment and render it beside its published values; go on where it stopped."""
    from fedbench.runs.plan import reproduce as make

    _show(
        make(
            name,
            preset=preset,
            jobs=jobs,
            device=device,
            data_root=data_root,
            results=results,
            out=to,
            run=run,
            console=out,
        )
    )


def _show(made: Report) -> None:
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


@list_app.command("experiments")
def list_experiments(
    name: Annotated[str | None, typer.Argument(help="One experiment, by name or .toml file.")] = None,
    preset: Annotated[str, typer.Option(help="smoke, laptop or paper.")] = "laptop",
    data_root: DataRoot = None,
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
) -> None:
    """Tables and figures that can be reproduced, how many of their runs are done, and the time for the others."""
    from fedbench.runs.plan import experiments_table

    out.print(experiments_table(name, preset, data_root=data_root, results=results))


def main() -> None:
    """Entry point: bad input is one sentence and exit status 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except BadInput as error:
        err.print(f"fedbench: {error}", markup=False, soft_wrap=True)
        sys.exit(2)
