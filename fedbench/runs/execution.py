"""A plan carried out: where its runs are made, what is said before them, and their progress meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from fedbench.errors import BadInput
from fedbench.plugins.finding import GIVEN
from fedbench.runs.arguments import check
from fedbench.runs.comparison import check_writable
from fedbench.runs.display import Display, duration
from fedbench.runs.estimate import beginnings, stored_rates, together, visits_left
from fedbench.runs.job import Job, Outcome
from fedbench.runs.workers import Workers


def workers_for(plan: Sequence[Job], jobs: int | None, jobs_per_gpu: int, scheduler: str | None) -> Workers:
    """Where runs like those of `plan` are made.

    Raises BadInput for numbers that are none, and for a plug-in that only this process knows where others are needed.
    """
    check(jobs=jobs, jobs_per_gpu=jobs_per_gpu)
    given = {GIVEN[text].cls.__name__ for job in plan for text in (job.method, job.dataset) if text in GIVEN}
    if given and scheduler is not None:
        raise BadInput(
            f"{min(given)} was defined in a notebook or script, and no other machine has it: write it to a file"
        )
    if given and jobs not in (None, 1):
        raise BadInput(
            f"{min(given)} was defined in a notebook or script, which the processes of jobs={jobs} cannot import: use"
            " jobs=1, or write it to a file (in a notebook, by %%writefile my_method.py) and give the file's name"
        )
    return Workers(jobs=1 if given else jobs, jobs_per_gpu=jobs_per_gpu, scheduler=scheduler)


def execute(done: Sequence[Job], todo: Sequence[Job], workers: Workers, console: Console) -> list[Outcome]:
    """Run what is `todo` of a plan whose other jobs are `done`, with progress on `console`."""
    if todo:
        check_writable(todo[0].results, todo)
    at_once, rates = workers.at_once(todo), stored_rates(todo)
    for sentence in [_planned([*done, *todo], todo, at_once, rates), *beginnings(done, todo)]:
        console.print(sentence, markup=False, soft_wrap=True)
    with Display(todo, console, at_once, rates) as display:
        return workers.run(todo, display.progress, display.outcome, warner(console))


def warner(console: Console) -> Callable[[str], None]:
    """What prints a warning on `console`."""
    return lambda text: console.print(f"warning: {text}", markup=False, soft_wrap=True)


def _planned(plan: Sequence[Job], todo: Sequence[Job], processes: int, rates: Mapping[str, float]) -> str:
    """How many runs there are and how long they take, as far as that is known from runs like them."""
    done = f"{len(plan) - len(todo)} of {len(plan)} runs are done already, in {plan[0].results}"
    if not todo:
        return done
    runs = f"{len(todo)} runs" if len(todo) > 1 else "1 run"
    if len(todo) < len(plan):
        runs = f"{done}; {len(todo)} to go"
    told = [job for job in todo if job.spec.identity in rates]
    time = "time known once they have begun"
    if told:
        known = [rates[job.spec.identity] * visits_left(job) for job in told]
        mean = sum(known) / len(known)
        time = f"about {duration(together(known + [mean] * (len(todo) - len(told)), processes))}"
    return f"{runs}, {processes} at a time, {time}"
