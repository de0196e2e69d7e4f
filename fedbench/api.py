"""What a notebook, a script and the command line call: each function puts the rooms together for one purpose.

torch, pandas and the rooms that import them are imported inside the functions: `import fedbench` is light, and a
report needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedbench.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from fedbench.reporting import Report
    from fedbench.runs.comparison import Comparison
    from fedbench.runs.job import Job, Outcome


@dataclass(frozen=True)
class Scores:
    """What came of a comparison. It prints as a table, one row a method; `frame` has one row a run."""

    jobs: Sequence[Job]
    outcomes: Sequence[Outcome]  # of the runs that were not stored before

    @property
    def frame(self) -> pd.DataFrame:
        """One row a finished run: method, seed, accuracies in percent, megabytes, seconds, and the result's path."""
        from fedbench.reporting.terminal import frame

        return frame(self.jobs)

    @property
    def table(self) -> Table:
        """The table for a rich console."""
        from fedbench.reporting.terminal import comparison_table

        return comparison_table(self.jobs)

    @property
    def failures(self) -> list[Outcome]:
        """The runs that failed, each with its message and details."""
        return [outcome for outcome in self.outcomes if outcome.ending == "failed"]

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=120, color_system=None)
        with console.capture() as captured:
            console.print(self.table)
        return captured.get().rstrip()

    __repr__ = __str__


class Stopped(KeyboardInterrupt):
    """A comparison was stopped by Ctrl-C or a signal; `scores` are those of the runs that are done.

    The same call goes on where it stopped.
    """

    def __init__(self, scores: Scores) -> None:
        super().__init__("stopped; the same call goes on from here")
        self.scores = scores


def run(
    methods: str | Sequence[str] = "all",
    dataset: str = "digits",
    *,
    seeds: int | Sequence[int] | None = None,
    preset: str = "laptop",
    visits: int | None = None,
    evaluate_every: int | None = None,
    clients: int | None = None,
    partition: str | None = None,
    network: str | None = None,
    settings: Mapping[str, object] | None = None,
    novel_clients: int = 0,
    adapt_visits: int | None = None,
    keep_models: bool = False,
    keep_state: bool = False,
    jobs: int | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    results: str | Path = "results",
    checkpoint_every: float = 120.0,
    console: Console | None = None,
) -> Scores:
    """Train `methods` on one data set at equal effort and compare them; what is stored in `results` is not run again.

    `methods` are names or files; `seeds` is a count or a list; `settings` are hyperparameters by
    "METHOD.FIELD"; `jobs` is the number of runs at a time, by default one a core. None stands for the data set's or the
    preset's own choice. A run that fails is a gap in the table and in `failures`, and does not disturb the others.
    Raises BadInput for what cannot be run, before anything runs, and Stopped after Ctrl-C.
    """
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
            novel_clients=novel_clients,
            adapt_visits=adapt_visits,
            keep_models=keep_models,
            keep_state=keep_state,
            device=device,
            data_root=None if data_root is None else Path(data_root),
            results=Path(results),
            checkpoint_every=checkpoint_every,
        ),
        jobs,
        console,
    )


def compare(comparison: Comparison, jobs: int | None = None, console: Console | None = None) -> Scores:
    """Run what is missing of `comparison`, `jobs` runs at a time. Raises BadInput and Stopped as `run` does."""
    from rich.console import Console

    console = console or Console(highlight=False)
    plan = comparison.jobs()
    outcomes = _execute(plan, jobs, console, f"{{}} of {len(plan)} runs are done already, in {comparison.results}")
    scores = Scores(plan, outcomes)
    if any(outcome.ending == "stopped" for outcome in outcomes):
        raise Stopped(scores)
    return scores


def dry_run(comparison: Comparison, jobs: int | None = None, console: Console | None = None) -> None:
    """Print the runs of `comparison` and how long they would take; run none."""
    from rich.console import Console

    from fedbench.runs.comparison import check_possible
    from fedbench.runs.estimate import show_plan
    from fedbench.runs.pool import split_done

    plan = comparison.jobs()
    check_possible(split_done(plan)[1])
    show_plan(plan, _processes(jobs, len(plan)), console or Console(highlight=False))


def _processes(jobs: int | None, runs: int) -> int:
    """How many runs go on at a time: as many as were asked for, or as there are cores, and at most one a run."""
    from joblib import cpu_count  # those that this process may use

    return min(jobs or int(cpu_count()), max(1, runs))


def _execute(
    plan: Sequence[Job], jobs: int | None, console: Console, done_words: str, check: bool = True
) -> list[Outcome]:
    """Run what is missing of `plan` and show progress; `done_words` say how many runs were stored before.

    `check` first makes the partitions and networks of what is missing, so that nothing runs where one is impossible.
    """
    from fedbench.runs import pool
    from fedbench.runs.comparison import check_possible, check_writable
    from fedbench.runs.display import Display

    done, todo = pool.split_done(plan)
    if check:
        check_possible(todo)
    if todo:
        check_writable(todo[0].results)
    console.print(done_words.format(len(done)), markup=False)
    with Display(todo, console) as display:
        return pool.run(todo, _processes(jobs, len(todo)), display.progress, display.outcome)


def report(
    results: str | Path = "results",
    out: str | Path = "reports",
    **options: Any,
) -> Report:
    """Tables, statistics and figures of what is in `results`, in the folder `out`: see `fedbench.reporting.report`."""
    from fedbench.reporting import report as make

    return make(results, out, **options)


def reproduce(
    name: str,
    *,
    preset: str = "laptop",
    jobs: int | None = None,
    data_root: str | Path | None = None,
    results: str | Path = "results",
    out: str | Path = "reports",
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
    from rich.console import Console

    from fedbench.experiments.schema import load
    from fedbench.reporting.compose import experiment_report
    from fedbench.runs.plan import plan

    root, results = None if data_root is None else Path(data_root), Path(results)
    made = plan(load(name), preset, data_root=root, results=results, device=device, check_data=run)
    everything = made.all_jobs
    if not everything:
        raise BadInput(f"no run of {name} is possible: {'; '.join(dict.fromkeys(made.gaps.values()))}")
    stopped = False
    if run:
        words = f"{made.experiment.title}: {{}} of {len(everything)} runs are done already"
        outcomes = _execute(everything, jobs, console or Console(highlight=False), words, check=False)
        made.failed.update({o.job.spec.identity: o.message for o in outcomes if o.ending == "failed"})
        stopped = any(outcome.ending == "stopped" for outcome in outcomes)
    return experiment_report(made, results, Path(out), data_root=root, stopped=stopped, download=run)
