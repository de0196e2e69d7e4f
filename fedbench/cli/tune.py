"""`fedbench tune`: search hyperparameters with equal effort for every method."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

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
from fedbench.cli.run import assignments

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n"
    "fedbench tune --methods per-fedavg,pfedme --dataset cifar10 --clients 50 --trials 16 --visits 200..1600\n\n"
    "fedbench tune --methods fedavg --search fedavg.local.lr=0.1,0.03,0.01,0.003 --trials 4 --visits 100..400\n\n"
    "fedbench run --methods fedavg --settings tuned.toml"
)
def tune(
    methods: Methods = "all",
    dataset: Dataset = "digits",
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Trials of each method on the first rung.")] = 16,
    visits: Annotated[
        str, typer.Option(help="LOW..HIGH: all trials get LOW visits, the better half twice as many, and so on.")
    ] = "100..800",
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD.FIELD=VALUES",
            help="Search this of a method, a,b,c or low..high, and nothing else of it that is not named so. Default:"
            " what `fedbench list methods NAME` shows.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="METHOD.FIELD=VALUE", help="A hyperparameter that stays fixed.")
    ] = None,
    clients: Clients = None,
    partition: Partition = None,
    network: Network = None,
    evaluate_every: Annotated[
        int, typer.Option(min=1, help="Visits between two evaluations on the validation rows.")
    ] = 50,
    jobs: Jobs = None,
    jobs_per_gpu: JobsPerGpu = 1,
    scheduler: Scheduler = None,
    device: Device = "auto",
    data_root: DataRoot = None,
    results: Annotated[
        Path,
        typer.Option(parser=path, metavar="PATH", help="Trials are kept in RESULTS/tuning, apart from all tables."),
    ] = Path("results"),
    to: Annotated[Path, typer.Option("--out", parser=path, metavar="PATH", help="The settings file to write.")] = Path(
        "tuned.toml"
    ),
) -> None:
    """Tune methods with equal effort: the same number of trials and visits for each, by validation alone.

    Successive halving, on seeds that comparisons do not use (1001, 1002, ...); a method's defaults stay in until the
    end, for settings that lead early may lead nowhere. Stop with Ctrl-C whenever you like; the same command goes on
    where it stopped.
    """
    from fedbench import api

    api.announce(methods, dataset, out, scheduler)
    lost: api.Untuned | None = None
    try:
        found = api.tune(
            methods,
            dataset,
            trials=trials,
            visits=visits,
            search=assignments("--search", search or [], "fedavg.local.lr=0.1,0.01"),
            settings=assignments("--set", set_ or [], "fedavg.local.steps=20"),
            clients=clients,
            partition=partition,
            network=network,
            evaluate_every=evaluate_every,
            jobs=jobs,
            jobs_per_gpu=jobs_per_gpu,
            scheduler=scheduler,
            device=device,
            data_root=data_root,
            results=results,
            out=to,
            console=out,
        )
    except api.Stopped:
        err.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    except api.Untuned as error:
        if not error.found:
            raise
        found, lost = error.found, error
    from fedbench.cli.listing import tuned_table

    out.print(tuned_table(found))
    for each in found:
        for name, end in each.edges.items():
            value = each.settings[name]
            way = "smaller" if end == "least" else "larger"
            hint = f"--search {each.method}.{name}=... with {way} values"
            text = f"warning: {each.method}.{name}={value} is the {end} value tried: search further, {hint}"
            err.print(text, markup=False, soft_wrap=True)
    command = shlex.join(["fedbench", "run", "--settings", str(to)])
    out.print(f"settings: {to}, for `{command}`", markup=False, soft_wrap=True)
    if lost is not None:
        raise lost
