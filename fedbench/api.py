"""What a notebook, a script and the command line call: each function puts the rooms together for one purpose.

torch, pandas and the rooms that import them are imported inside the functions: `import fedbench` is light, and a
report needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.errors import BadInput, canonical
from fedbench.runs.arguments import check, checked
from fedbench.runs.console import new_console, rendered
from fedbench.storage.given import check_folder, given_path

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from fedbench.dataset import Dataset
    from fedbench.method import Method
    from fedbench.reporting import Report
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.job import Job, Outcome
    from fedbench.runs.tuning import Tuned


@dataclass(frozen=True, repr=False)
class Scores:
    """What came of a comparison. It prints as a table, one row a method; `frame` has one row a run."""

    jobs: Sequence[Job]
    outcomes: Sequence[Outcome]  # of the runs that were not stored before

    @property
    def frame(self) -> pd.DataFrame:
        """One row a finished run, with the columns of `load_results`: accuracies are 0 .. 1, traffic is in bytes."""
        from fedbench.runs.state import look
        from fedbench.storage.frame import frame

        found = [(look(job), job) for job in self.jobs]
        return frame(each.read(job) for each, job in found if each.state == "done")

    @property
    def failures(self) -> list[Outcome]:
        """The runs that failed, each with its message and details."""
        return [outcome for outcome in self.outcomes if outcome.ending == "failed"]

    @property
    def table(self) -> Table:
        """The table for a rich console."""
        from fedbench.reporting.terminal import comparison_table

        return comparison_table(self.jobs)

    def __str__(self) -> str:
        return rendered(self.table) if self.jobs else "no runs"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        from rich.text import Text

        if not self.jobs:
            return escape(str(self))
        table = self.table

        def plain(cell: object) -> str:  # the table is rich's, in which a [ of a title is written as \[
            return escape(Text.from_markup(str(cell)).plain)

        columns = [[plain(cell) for cell in column.cells] for column in table.columns]
        head = "".join(f"<th>{plain(column.header)}</th>" for column in table.columns)
        rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in zip(*columns, strict=True))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        words = f"<b>{plain(table.title)}</b><br>{plain(table.caption)}"
        return f"<table><caption>{words}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Stopped(KeyboardInterrupt):
    """A comparison was stopped by Ctrl-C or a signal; `scores` are those of the runs that are done.

    The same call goes on where it stopped.
    """

    def __init__(self, scores: Scores) -> None:
        super().__init__("stopped; the same call goes on from here")
        self.scores = scores


class Untuned(BadInput):
    """Some methods could not be tuned, as the message says; `found` are the choices for the others."""

    def __init__(self, message: str, found: Sequence[Tuned]) -> None:
        super().__init__(message)
        self.found = found


def run(
    methods: str | Path | type[Method] | Sequence[str | Path | type[Method]] = "all",
    dataset: str | Path | type[Dataset] = "digits",
    *,
    seeds: int | Sequence[int] | None = None,
    preset: str = "laptop",
    visits: int | None = None,
    evaluate_every: int | None = None,
    clients: int | None = None,
    partition: str | None = None,
    network: str | None = None,
    settings: Mapping[str, object] | None = None,
    settings_file: str | Path | None = None,
    novel_clients: int = 0,
    adapt_visits: int | None = None,
    keep_models: bool = False,
    keep_state: bool = False,
    jobs: int | None = None,
    jobs_per_gpu: int = 1,
    scheduler: str | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    results: str | Path = "results",
    checkpoint_every: float = 120.0,
    console: Console | None = None,
) -> Scores:
    """Train `methods` on one data set at equal effort and compare them; what is stored in `results` is not run again.

    `methods` are names, files or classes; `seeds` is a count or a list; `settings` are hyperparameters by
    "METHOD.FIELD"; `jobs` is the number of runs at a time, by default one a core, of which `jobs_per_gpu` may share a
    GPU. `scheduler` is the address of a Dask scheduler, or the file that it wrote: its workers make the runs. None
    stands for the data set's or the preset's own choice. Classes that were defined in a notebook or script are run one
    at a time, in this process. A run that fails is a gap in the table and in `failures`, and does not disturb the
    others. Raises BadInput for what cannot be run, before anything runs, and Stopped after Ctrl-C.
    """
    console = console or new_console()
    announce(methods, dataset, console, scheduler)
    from fedbench.runs.comparison import Comparison

    return compare(
        Comparison(
            methods=methods,
            dataset=dataset,
            seeds=seeds,
            preset=preset,
            visits=visits,
            evaluate_every=evaluate_every,
            clients=clients,
            partition=partition,
            network=network,
            settings=settings or {},
            settings_file=None if settings_file is None else given_path(settings_file, "settings_file"),
            novel_clients=novel_clients,
            adapt_visits=adapt_visits,
            keep_models=keep_models,
            keep_state=keep_state,
            device=device,
            data_root=None if data_root is None else given_path(data_root, "data_root"),
            results=given_path(results, "results"),
            checkpoint_every=checkpoint_every,
            remote=scheduler is not None,
        ),
        jobs,
        console,
        jobs_per_gpu=jobs_per_gpu,
        scheduler=scheduler,
    )


def announce(methods: object, dataset: object, console: Console, scheduler: str | None = None) -> None:
    """Say at once what is about to happen: torch alone takes a second to import.

    Raises BadInput where there is no such scheduler, before anything is planned.
    """
    named = methods if isinstance(methods, str | type) else list(methods) if isinstance(methods, Sequence) else methods
    words = [getattr(each, "__name__", str(each)) for each in (named if isinstance(named, list) else [named])]
    console.print(f"planning: {', '.join(words)} on {getattr(dataset, '__name__', dataset)}", markup=False)
    _reach(scheduler)


def _reach(scheduler: str | None) -> None:
    """Raise BadInput where there is no such scheduler."""
    check(scheduler=scheduler)
    if scheduler is not None:
        from fedbench.runs.scheduler import count_workers

        count_workers(scheduler)


def compare(
    comparison: Comparison,
    jobs: int | None = None,
    console: Console | None = None,
    *,
    jobs_per_gpu: int = 1,
    scheduler: str | None = None,
) -> Scores:
    """Run what is missing of `comparison`, `jobs` runs at a time. Arguments and errors are as in `run`."""
    from fedbench.runs.comparison import check_possible
    from fedbench.runs.execution import execute, workers_for
    from fedbench.runs.pool import split_done

    console = console or new_console()
    plan = comparison.jobs()
    _tell_settings(comparison, plan, console)
    done, todo = split_done(plan)
    check_possible(todo)
    workers = workers_for(todo, jobs, jobs_per_gpu, scheduler)
    scores = Scores(plan, execute(done, todo, workers, console))
    if any(outcome.ending == "stopped" for outcome in scores.outcomes):
        raise Stopped(scores)
    return scores


def dry_run(
    comparison: Comparison,
    jobs: int | None = None,
    console: Console | None = None,
    *,
    jobs_per_gpu: int = 1,
    scheduler: str | None = None,
) -> None:
    """Print the runs of `comparison` and how long they would take; run none."""
    from fedbench.runs.estimate import show_plan
    from fedbench.runs.execution import workers_for

    console = console or new_console()
    plan = comparison.jobs()
    _tell_settings(comparison, plan, console)
    workers = workers_for(plan, jobs, jobs_per_gpu, scheduler)
    show_plan(plan, workers.at_once(plan), console)


def _tell_settings(comparison: Comparison, plan: Sequence[Job], console: Console) -> None:
    """Where the hyperparameters are those of a settings file: how they were found, and what speaks against it."""
    if comparison.settings_file is None:
        return
    from fedbench.runs.settings_file import elsewhere

    for warning in [*comparison.warnings, elsewhere(comparison.settings_file, plan[0].spec)]:
        if warning:
            console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    for method, words in comparison.efforts.items():
        console.print(f"{method}: {words}", markup=False)


def tune(
    methods: str | Path | type[Any] | Sequence[str | Path | type[Any]] = "all",
    dataset: str | Path | type[Any] = "digits",
    *,
    trials: int = 16,
    visits: int | str = "100..800",
    search: Mapping[str, str | Sequence[object]] | None = None,
    settings: Mapping[str, object] | None = None,
    clients: int | None = None,
    partition: str | None = None,
    network: str | None = None,
    evaluate_every: int = 50,
    jobs: int | None = None,
    jobs_per_gpu: int = 1,
    scheduler: str | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    results: str | Path = "results",
    out: str | Path = "tuned.toml",
    console: Console | None = None,
) -> Sequence[Tuned]:
    """Search the hyperparameters of `methods` on validation, with the same trials and visits for each.

    Successive halving: `trials` are trained for the first of `visits` ("LOW..HIGH", doubling), the better half of the
    settings for twice as many, and so on until two are left; the defaults are never dropped. What is searched stands
    with each hyperparameter; `search` replaces it for a method, "METHOD.FIELD" -> "a,b,c" or "low..high". Trials are
    stored in `results`/tuning and not run again; their seeds are 1001, 1002, ..., which comparisons do not use. The
    choice is written to `out`, a file for `run(settings_file=...)`. Raises BadInput for a search that cannot be,
    Untuned, when the others are tuned and written, for methods whose trials all failed, and Stopped after Ctrl-C.
    """
    from fedbench.runs.comparison import Comparison, check_possible, check_writable
    from fedbench.runs.display import Display
    from fedbench.runs.execution import warner, workers_for
    from fedbench.runs.settings_file import replaceable
    from fedbench.runs.tuning import Rungs, Tuning
    from fedbench.storage import TRIALS

    console = console or new_console()
    check(scheduler=scheduler)
    trials, search = checked("trials", trials), checked("search", search)
    if evaluate_every is None:  # which stands for a preset's choice elsewhere
        raise BadInput("evaluate_every=None cannot be: give a whole number of at least 1")
    comparison = Comparison(
        methods=methods,
        dataset=dataset,
        clients=clients,
        partition=partition,
        network=network,
        evaluate_every=evaluate_every,
        settings=settings or {},
        device=device,
        data_root=None if data_root is None else given_path(data_root, "data_root"),
        results=given_path(results, "results"),
        remote=scheduler is not None,
    )
    check_writable(comparison.results / TRIALS)
    out = given_path(out, "out")
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"the settings cannot be written to {out}: give a file in a folder that there is")
    replaced = replaceable(out)
    rungs = Rungs.of(trials, str(visits), evaluate_every)
    values = {k: v if isinstance(v, str) else ",".join(map(str, v)) for k, v in (search or {}).items()}
    workers = workers_for(comparison.jobs(), jobs, jobs_per_gpu, scheduler)
    searched = Tuning(comparison=comparison, rungs=rungs, search=values)
    check_possible([searched.job(each, each.trials(1)[0], 0) for each in searched.searches()])

    def make(rung: int, todo: Sequence[Job]) -> Sequence[Outcome]:
        count = rungs.trials[rung]
        size = f"{count} trial{'' if count == 1 else 's'} a method, {rungs.visits[rung]} visits"
        console.print(f"rung {rung + 1} of {len(rungs.visits)}: {size}; {len(todo)} runs to do", markup=False)
        with Display(todo, console, workers.at_once(todo)) as display:
            return workers.run(todo, display.progress, display.outcome, warner(console)) if todo else []

    ended = searched.run(make)
    if ended is None:
        raise Stopped(Scores([], []))
    found, lost = ended
    try:
        if found:
            if gone := ", ".join(sorted(replaced - {each.method for each in found})):
                warner(console)(
                    f"{out} had settings of {gone}, which go: tune all in one search to have them in one file"
                )
            searched.write(out, found)
    except OSError as error:
        raise BadInput(f"the settings cannot be written to {out}: {error.strerror}; choose another --out") from None
    if lost:
        raise Untuned("; ".join(lost), found)
    return found


def report(
    results: str | Path = "results",
    out: str | Path = "reports",
    *,
    at: Sequence[int] = (),
    reference: str | None = None,
    targets: Sequence[float] = (),
    figures: int = 3,
    partitions: bool = False,
    tuned: Mapping[str, str] | None = None,
    settings_file: str | Path | None = None,
    data_root: str | Path | None = None,
) -> Report:
    """Tables, statistics and figures of what is in `results`, in the folder `out`; begin with out/index.html.

    The arguments and errors are those of `fedbench.reporting.report`.
    """
    from fedbench.reporting import report as make

    check(reference=reference, partitions=partitions, tuned=tuned)
    return make(
        given_path(results, "results"),
        given_path(out, "out"),
        at=checked("at", at),
        reference=reference,
        targets=checked("targets", targets),
        figures=checked("figures", figures),
        partitions=partitions,
        tuned=tuned,
        settings_file=None if settings_file is None else given_path(settings_file, "settings_file"),
        data_root=None if data_root is None else given_path(data_root, "data_root"),
    )


def reproduce(
    name: str | Path,
    *,
    preset: str = "laptop",
    jobs: int | None = None,
    data_root: str | Path | None = None,
    results: str | Path = "results",
    out: str | Path = "reports",
    jobs_per_gpu: int = 1,
    scheduler: str | None = None,
    device: str = "auto",
    run: bool = True,
    console: Console | None = None,
) -> Report:
    """Run what is missing of the experiment `name` and render it, beside published values, into `out`/NAME.

    Runs that are stored are not repeated and interrupted ones go on; with `run` = False nothing is run. `jobs` is the
    number of runs at a time, by default one a core. A run that fails leaves a gap with its message and does not disturb
    the others; after Ctrl-C the report is of what is done, and says `stopped`. Raises BadInput where no run is possible
    at all.
    """
    console = console or new_console()
    name = str(name) if isinstance(name, Path) else name
    check(experiment=name, preset=preset, jobs=jobs, jobs_per_gpu=jobs_per_gpu, scheduler=scheduler)
    check(device=device, run=run)
    if run:
        console.print(f"planning: {name}, preset {preset}", markup=False)
        _reach(scheduler)
    from fedbench.experiments.schema import load
    from fedbench.reporting.claims import answers
    from fedbench.reporting.compose import experiment_report
    from fedbench.reporting.paper import parts
    from fedbench.runs.execution import execute, workers_for
    from fedbench.runs.plan import efforts, plan, plugin_mistakes
    from fedbench.runs.pool import split_done

    root = None if data_root is None else given_path(data_root, "data_root")
    results, out = given_path(results, "results"), given_path(out, "out")
    check_folder(out, "the report")  # not after hours of runs
    experiment = load(name, plugin_mistakes)
    made = plan(
        experiment,
        canonical(preset),
        data_root=root,
        results=results,
        device=device,
        check_data=run,
        remote=scheduler is not None,
    )
    everything = made.all_jobs
    if not everything and experiment.columns:
        raise BadInput(f"no run of {name} is possible: {'; '.join(map(str, dict.fromkeys(made.gaps.values())))}")
    stopped = False
    if run and everything:
        console.print(made.experiment.title, markup=False)
        done, todo = split_done(everything)
        outcomes = execute(done, todo, workers_for(todo, jobs, jobs_per_gpu, scheduler), console)
        made.failed.update({o.job.spec.identity: o.message for o in outcomes if o.ending == "failed"})
        stopped = any(outcome.ending == "stopped" for outcome in outcomes)
    extra = parts(made, data_root=root, download=run)
    return experiment_report(
        made,
        results,
        out,
        claims=answers(made, extra),
        extra_tables=extra.tables,
        extra_pictures=extra.pictures,
        tuned=efforts(experiment),
        data_root=root,
        stopped=stopped,
        download=run,
    )
