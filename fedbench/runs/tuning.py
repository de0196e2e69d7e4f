"""Tuning with equal effort: every method gets the same number of trials and the same visits, and validation decides.

Successive halving: all trials are trained for the first number of visits, the better half of the settings for twice as
many, and so on, until two are left. The method's defaults are never among those that are dropped: settings that lead
early may lead nowhere, and no choice shall be worse on validation than what one has without tuning. A method with fewer
settings than trials has each under several seeds. A trial goes on from its state of the rung before; a method that
depends on the length of the run is run anew, and so is a trial whose state is gone. Trials are ordinary runs, in a
folder of their own, with seeds that comparisons do not use.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband", JMLR 2018, describe successive halving and its use; that
the defaults stay is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import fedbench
from fedbench import storage
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.plugins.finding import Plugin
from fedbench.plugins.settings import configure, hyperparameters
from fedbench.plugins.space import Dimension, Point, at_the_edge, changed, points
from fedbench.runs.comparison import Comparison
from fedbench.runs.estimate import passes_through
from fedbench.runs.job import Job, Outcome, leaves_a_state
from fedbench.runs.settings_file import write_settings
from fedbench.runs.state import look, state_path
from fedbench.storage import Result

FIRST_SEED = 1001  # and those behind it: comparisons take 42, 27, 13, 0, 1, 2, ...


@dataclass(frozen=True)
class Rungs:
    """How many trials are trained for how many visits."""

    visits: tuple[int, ...]
    trials: tuple[int, ...]

    @staticmethod
    def of(trials: int, text: str, evaluate_every: int) -> Rungs:
        """The rungs for a number of trials and `LOW..HIGH` visits, which double from rung to rung.

        Raises BadInput for visits that do not double, that are off the grid of evaluations, and for trials that cannot
        be halved so often.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:\.\.\s*(\d{1,9})\s*)?", text)
        if not found or not 1 <= int(found[1]) <= int(found[2] or found[1]):
            raise BadInput(f"--visits {text}: write LOW..HIGH, e.g. 200..1600, or one number")
        low, high = int(found[1]), int(found[2] or found[1])
        visits = [low]
        while visits[-1] < high:
            visits.append(2 * visits[-1])
        if visits[-1] != high:
            near = f"{low}..{visits[-1]}"
            raise BadInput(
                f"--visits {text}: they double from rung to rung, and {low} does not reach {high}: try {near}"
            )
        if low % evaluate_every:
            first = max(1, round(low / evaluate_every)) * evaluate_every
            raise BadInput(f"--visits {text}: validation is read every {evaluate_every} visits: begin with {first}")
        halvings = 2 ** (len(visits) - 1)
        if trials < 1 or trials % halvings:
            least = max(1, round(trials / halvings)) * halvings
            raise BadInput(
                f"--trials {trials}: {len(visits)} rungs halve them {len(visits) - 1} times: take {least}, or another "
                f"multiple of {halvings}"
            )
        return Rungs(tuple(visits), tuple(max(min(trials, 2), trials // 2**i) for i in range(len(visits))))


@dataclass(frozen=True)
class Trial:
    """One setting of a method under one seed."""

    point: int  # its place among the method's points
    seed: int


@dataclass
class Search:
    """The search of one method: its points, and which of them are left on the present rung."""

    plugin: Plugin
    space: Mapping[str, Dimension]
    fixed: Point  # hyperparameters with a value of the user's own
    points: Sequence[Point]
    default: int | None  # the place of the method's defaults among the points, if they are there
    left: list[int]
    visits: int = 0  # spent so far
    anew: bool = False  # whether some runs did not go on from those of the rung before
    trained: dict[Trial, Result | None] = field(default_factory=dict)  # on the last rung; None: no result
    failed: set[Trial] = field(default_factory=set)  # on any rung, diverged ones among them
    scores: dict[int, list[float]] = field(default_factory=dict)  # of the last rung, by point

    def trials(self, count: int) -> list[Trial]:
        """`count` trials of the points that are left: as many seeds for each as go round, one more for the first."""
        each, more = divmod(count, len(self.left))
        return [
            Trial(point, FIRST_SEED + i) for place, point in enumerate(self.left) for i in range(each + (place < more))
        ]

    def survivors(self) -> list[int]:
        """The points of the next rung: the better half, two at least, the defaults among them, and none that failed."""
        ranked = self.ranked()
        sound = [point for point in ranked if np.isfinite(self.scores[point]).all()]
        kept = sound[: max(2, -(-len(ranked) // 2))]
        if self.default in sound and self.default not in kept:
            kept[-1] = self.default
        return sorted(kept)

    def ranked(self) -> list[int]:
        """The points of the last rung by their `score`, the best first; the earlier one of equals."""
        return sorted(self.scores, key=lambda point: (-self.score(point), point))

    def score(self, point: int) -> float:
        """Mean validation accuracy, 0 .. 1, of a point on the last rung, under the seeds that all its points had.

        A seed deals the classes, which moves accuracy more than most settings do.
        """
        common = min(map(len, self.scores.values()))  # every point has the first seeds
        return float(np.mean(self.scores[point][:common]))


@dataclass(frozen=True)
class Tuned:
    """What the search of one method came to."""

    method: str
    settings: Point  # the chosen point
    fixed: Point  # what the user had set for all trials
    score: float  # mean validation accuracy on the last rung, 0 .. 1
    points: int  # settings that were tried
    trials: int
    visits: int  # spent on all trials together
    anew: bool  # some runs did not go on from those of the rung before: their visits are counted again
    code: str
    failed: int  # trials that failed or diverged
    edges: Mapping[str, str]  # chosen values at the edge of their grid: "least" or "greatest"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A search over methods on one setting, with equal effort."""

    comparison: Comparison  # of the methods; its seeds and visits are not used
    rungs: Rungs
    search: Mapping[str, str] = field(default_factory=dict)  # "METHOD.FIELD" -> values or range

    def run(self, make: Callable[[int, Sequence[Job]], Sequence[Outcome]]) -> tuple[list[Tuned], list[str]] | None:
        """Search; what is stored is not run again. None where it was stopped.

        `make` is given each rung and the runs that it lacks, and makes them. The answer is what was found, and a
        sentence for each method of which all trials failed; the others do not wait for it. Raises BadInput for a search
        that cannot be.
        """
        searches, lost = self.searches(), list[str]()
        for rung, (visits, count) in enumerate(zip(self.rungs.visits, self.rungs.trials, strict=True)):
            planned = [
                (search, trial, self.job(search, trial, rung)) for search in searches for trial in search.trials(count)
            ]
            todo = [job for _, _, job in planned if look(job).state != "done"]
            outcomes = make(rung, todo)
            if any(outcome.ending == "stopped" for outcome in outcomes):
                return None
            errors = {outcome.job.spec.identity: outcome.message for outcome in outcomes if outcome.ending == "failed"}
            trained = {search.plugin.name: search.trained for search in searches}
            for search in searches:
                search.scores, search.trained = {}, {}
            for search, trial, job in planned:
                before, result = trained[search.plugin.name], _result(job)
                score = _score(result)
                if score == float("-inf"):
                    search.failed.add(trial)
                search.scores.setdefault(trial.point, []).append(score)
                search.trained[trial] = result
                goes_on = trial in before and self._goes_on(job, rung) and _began_with(result, before[trial])
                search.visits += visits - (self.rungs.visits[rung - 1] if goes_on else 0)
                search.anew = search.anew or (trial in before and not goes_on)
            for search in searches:
                search.left = search.survivors()
                if not search.left:
                    name, what = search.plugin.name, f"all {count} trials"
                    if any(score > float("-inf") for scores in search.scores.values() for score in scores):
                        what = "of every setting some trials"
                    said = [
                        errors[job.spec.identity] for s, _, job in planned if s is search if job.spec.identity in errors
                    ]
                    why = f"search smaller rates, --search {name}.FIELD=..."
                    lost.append(f"{what} of {name} failed or diverged at {visits} visits: {(said or [why])[0]}")
            searches = [search for search in searches if search.left]
            self._tidy(searches, [job for _, _, job in planned], rung)
            if not searches:
                break
        return [self._tuned(search) for search in searches], lost

    def write(self, path: Path, found: Sequence[Tuned]) -> None:
        """Write the settings file. Raises OSError."""
        spec = self.job(self.searches()[0], Trial(0, FIRST_SEED), 0).spec
        facts = {
            "dataset": spec.dataset,
            "clients": spec.clients,
            "partition": spec.partition,
            "network": spec.network,
            "evaluate_every": spec.evaluate_every,
            "visits": list(self.rungs.visits),
            "trials": list(self.rungs.trials),
            "seeds": [FIRST_SEED + i for i in range(max(-(-self.rungs.trials[0] // each.points) for each in found))],
            "fedbench": fedbench.__version__,
        }
        methods = {
            each.method: {
                "settings": {**each.fixed, **each.settings},
                "validation": round(each.score, 6),
                "points": each.points,
                "trials": each.trials,
                "visits": each.visits,
                "anew": each.anew,
                "failed": each.failed,
                "code": each.code,
                "where": str(self.comparison.results / storage.TRIALS / spec.dataset / each.method),
            }
            for each in found
        }
        write_settings(path, facts, methods)

    def searches(self) -> list[Search]:
        """Every method's points. Raises BadInput for a search that cannot be."""
        found = self.comparison.found()
        changes: dict[str, dict[str, str]] = {plugin.name: {} for plugin in found}
        for key, text in self.search.items():
            method, _, name = key.partition(".")
            if canonical(method) not in changes:
                raise unknown_name("method in this search", method, changes)
            if name in changes[canonical(method)]:
                raise BadInput(f"{canonical(method)}.{name} is to be searched twice, in two spellings: remove one")
            changes[canonical(method)][name] = text
        params, made = self.comparison.params(found), []
        for plugin in found:
            fixed = {name: params[plugin.name][name] for name in self._set(plugin)}
            if both := sorted(fixed.keys() & changes[plugin.name].keys()):
                name = f"{plugin.name}.{both[0]}"
                raise BadInput(f"{name} is to stay fixed and to be searched: leave out --set {name} or --search {name}")
            space = {n: each for n, each in changed(plugin, changes[plugin.name]).items() if n not in fixed}
            tried = points(plugin, space, self.rungs.trials[0], FIRST_SEED)
            default = {name: value for name, value in configure(plugin, {}).items() if name in space}
            place = tried.index(default) if default in tried else None
            made.append(Search(plugin, space, fixed, tried, place, list(range(len(tried)))))
        return made

    def _goes_on(self, job: Job, rung: int) -> bool:
        """Whether the run `job` of a rung can go on from where the rung before ended."""
        return leaves_a_state(job) and passes_through(job, self.rungs.visits[rung - 1])

    def _set(self, plugin: Plugin) -> list[str]:
        """The hyperparameters of a method that the comparison's settings name."""
        named = {
            (canonical(method), name) for method, _, name in (key.partition(".") for key in self.comparison.settings)
        }
        known = [parameter.name for parameter in hyperparameters(plugin.cls)]
        return [name for name in known if {(plugin.name, name), ("all", name)} & named]

    def job(self, search: Search, trial: Trial, rung: int) -> Job:
        """The run of a trial on a rung."""
        settings = {**search.fixed, **search.points[trial.point]}
        return replace(
            self.comparison,
            methods=[search.plugin.where],
            seeds=[trial.seed],
            visits=self.rungs.visits[rung],
            settings={f"{search.plugin.name}.{name}": str(value) for name, value in settings.items()},
            results=self.comparison.results / storage.TRIALS,
            keep_state=rung + 1 < len(self.rungs.visits),
        ).jobs()[0]

    def _tidy(self, searches: Sequence[Search], done: Sequence[Job], rung: int) -> None:
        """Remove the states that no trial of the next rung goes on from."""
        wanted: set[Path] = set()
        if rung + 1 < len(self.rungs.visits):
            wanted = {
                state_path(self.job(search, trial, rung + 1), self.rungs.visits[rung])
                for search in searches
                for trial in search.trials(self.rungs.trials[rung + 1])
            }
        for job in done:
            for visits in self.rungs.visits[: rung + 1]:
                if (path := state_path(job, visits)) not in wanted:
                    path.unlink(missing_ok=True)

    def _tuned(self, search: Search) -> Tuned:
        best = next(point for point in search.ranked() if point in search.left)  # a seed may have failed the first
        return Tuned(
            method=search.plugin.name,
            settings=search.points[best],
            fixed=search.fixed,
            score=search.score(best),
            points=len(search.points),
            trials=self.rungs.trials[0],
            visits=search.visits,
            anew=search.anew,
            code=search.plugin.code,
            failed=len(search.failed),
            edges=at_the_edge(search.space, search.points[best]),
        )


def _result(job: Job) -> Result | None:
    """What a trial came to, or None where it failed."""
    found = look(job)
    return found.read(job) if found.state == "done" else None


def _score(result: Result | None) -> float:
    """The best validation accuracy of a trial, pooled; minus infinity where it failed or diverged."""
    return float("-inf") if result is None or result.diverged else result.best.val_accuracy


def _began_with(result: Result | None, shorter: Result | None) -> bool:
    """Whether a run went on from a shorter one, and did not make its visits again.

    Its history then begins with the shorter one's, seconds included. A run that failed is taken to have gone on.
    """
    return result is None or shorter is None or result.history[: len(shorter.history)] == shorter.history
