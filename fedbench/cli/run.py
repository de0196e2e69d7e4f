"""`fedbench run`: train methods on one data set and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli import completion
from fedbench.cli.config import IN_FILE, check_replaceable, read_config, written
from fedbench.cli.console import (
    Clients,
    DataRoot,
    Dataset,
    Device,
    Jobs,
    JobsPerGpu,
    Methods,
    Network,
    Partition,
    Scheduler,
    err,
    out,
    path,
)
from fedbench.errors import BadInput, canonical
from fedbench.runs.console import fitting

if TYPE_CHECKING:
    from fedbench.api import Scores

commands = typer.Typer()
WANTED = ("method", "client mean", "unseen", "seeds")  # what a narrow terminal shows, the first one in any case


@commands.command(
    epilog="Examples:\n\n"
    "fedbench run --methods pfedhn,fedavg --dataset cifar10\n\n"
    "fedbench run --methods ./my_method.py,fedavg --preset smoke\n\n"
    "fedbench run --dataset cifar10 --clients 50 --seeds 42,27 --set pfedhn.hypernetwork.lr=0.02 --dry-run"
)
def run(
    context: typer.Context,
    methods: Methods = "all",
    dataset: Dataset = "digits",
    clients: Clients = None,
    partition: Partition = None,
    network: Network = None,
    preset: Annotated[
        str,
        typer.Option(
            help="How long: smoke (20 visits, 1 seed), laptop (1000 visits, 3 seeds: the order of methods shows),"
            " paper (5000 visits, 3 seeds: the effort of the pFedHN paper).",
            autocompletion=completion.presets,
        ),
    ] = "laptop",
    visits: Annotated[
        int | None, typer.Option(min=1, help="Client visits of each run, instead of the preset's.")
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option(min=1, help="Visits between two evaluations, the best of which counts. Default: 50."),
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Store the personal models of the chosen round beside each result.")
    ] = False,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Keep final states, so that a run with more visits goes on from them.")
    ] = False,
    seeds: Annotated[str | None, typer.Option(help="A list such as 42,27,13, instead of the preset's.")] = None,
    seed_count: Annotated[
        int | None, typer.Option(min=1, max=1000, help="So many seeds: 42, 27, 13, then 0, 1, 2, ...")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="A hyperparameter; see `fedbench list methods NAME`."),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            parser=path,
            metavar="PATH",
            help="Hyperparameters that `fedbench tune` wrote; --set goes before.",
        ),
    ] = None,
    novel_clients: Annotated[
        int, typer.Option(min=0, help="Clients held out of training, that join when it is over.")
    ] = 0,
    adapt_visits: Annotated[
        int | None, typer.Option(min=0, help="Visits to each client that was held out. Default: 20.")
    ] = None,
    jobs: Jobs = None,
    jobs_per_gpu: JobsPerGpu = 1,
    scheduler: Scheduler = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    results: Annotated[
        Path,
        typer.Option(
            parser=path, metavar="PATH", help="Folder of the results; what is there already is not run again."
        ),
    ] = Path("results"),
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between two checkpoints of a run.")] = 120.0,
    config: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="PATH",
            help="A TOML file of these options, e.g. methods = [...]; what is given beside it goes before.",
            callback=read_config,
            is_eager=True,
        ),
    ] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="PATH",
            help="Write these options, with every default spelt out, as a file for --config.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and how long they would take; run none.")
    ] = False,
) -> None:
    """Train methods on one data set at equal effort and compare them.

    The unit of effort is the client visit: one client trains K local steps and answers. Stop with Ctrl-C whenever you
    like; the same command goes on where it stopped.
    """
    from fedbench import api

    api.announce(methods, dataset, out, scheduler)
    from fedbench.runs.comparison import Comparison  # with torch

    in_file = context.meta.get(IN_FILE, {})
    if seeds is not None and seed_count is not None:
        beside = [name for name in ("seeds", "seed_count") if _is_typed(context, name)]
        if len(beside) != 1:
            raise BadInput("--seeds and --seed-count were both given: give the list or the count")
        seeds, seed_count = (seeds, None) if beside == ["seeds"] else (None, seed_count)  # it goes before a file's
    comparison = Comparison(
        methods=methods,
        seeds=seed_count if seeds is None else _seeds(seeds),
        dataset=dataset,
        clients=clients,
        partition=partition,
        network=network,
        preset=preset,
        visits=visits,
        evaluate_every=evaluate_every,
        keep_models=keep_models,
        keep_state=keep_state,
        novel_clients=novel_clients,
        adapt_visits=adapt_visits,
        settings=_settings(in_file.get("set_", []), set_ or []),
        settings_file=settings_file,
        device=device,
        data_root=data_root,
        results=results,
        checkpoint_every=checkpoint_every,
        remote=scheduler is not None,
    )
    if write_config is not None:
        check_replaceable(context, write_config)
        _write(write_config, written(comparison, jobs, jobs_per_gpu, scheduler))
    if dry_run:
        api.dry_run(comparison, jobs, out, jobs_per_gpu=jobs_per_gpu, scheduler=scheduler)
        return
    try:
        scores = api.compare(comparison, jobs, out, jobs_per_gpu=jobs_per_gpu, scheduler=scheduler)
    except api.Stopped as stopped:
        _show(stopped.scores)
        err.print(str(stopped).replace("call", "command"))
        raise typer.Exit(130) from None
    _show(scores)
    if scores.failures:
        raise typer.Exit(1)


def _write(file: Path, text: str) -> None:
    try:
        file.expanduser().write_text(text, encoding="utf-8")
    except (OSError, UnicodeError) as error:  # a name of a folder need be no text
        reason = error.strerror if isinstance(error, OSError) else "it would hold a path that is no text"
        raise BadInput(f"--write-config {file} cannot be written: {reason}") from None
    out.print(f"options: {file}", markup=False, soft_wrap=True)


def _show(scores: Scores) -> None:
    """Print the table, where the results are, and what failed."""
    job = scores.jobs[0]
    out.print(fitting(scores.table, out, WANTED))
    out.print(f"results: {job.results / job.spec.dataset}", markup=False, soft_wrap=True)
    for outcome in scores.failures:
        spec = outcome.job.spec
        err.print(f"failed: {spec.method}, seed {spec.seed}: {outcome.message}", markup=False)
        if outcome.details:
            err.print(outcome.details.rstrip(), markup=False, soft_wrap=True)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise BadInput(f"--seeds {text}: give a list such as 42,27,13; a count is --seed-count 3") from None


def _is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line itself, and not in a file of options."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _settings(in_file: list[str], given: list[str]) -> dict[str, str]:
    """The settings of a file of options and those given beside it, which go before: also what they say of all."""
    example = "pfedhn.hypernetwork.lr=0.02"
    there, here = assignments("--set", in_file, example), assignments("--set", given, example)
    return {key: value for key, value in there.items() if f"all.{key.partition('.')[2]}" not in here} | here


def assignments(option: str, texts: list[str], example: str) -> dict[str, str]:
    """METHOD.FIELD -> VALUE of an option that may be given several times. Raises BadInput for another form."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise BadInput(f"{option} {text}: write METHOD.FIELD=VALUE, e.g. {example}")
        if ".py." in key:
            raise BadInput(f"{option} {text}: say the method's name in place of its file, e.g. {example}")
        method, _, field = key.strip().partition(".")
        key = f"{canonical(method)}.{field}"
        if key in found:
            raise BadInput(f"{option} {text}: {key} is set twice")
        found[key] = value.strip()
    return found
