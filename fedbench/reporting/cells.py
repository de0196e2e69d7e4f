"""Runs sorted into settings, which are tables, and into cells, which may be averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from fedbench.reporting.run import Run
from fedbench.storage.gap import Gap, Missing
from fedbench.storage.spec import SEEDS, Spec

ABSENT = "absent"  # said of a setting that some runs do not have
RECORDED_LATER = ("data set's code", "data set's samples")  # facts that older results do not tell


class Setting(NamedTuple):
    """What runs must have in common to stand in one table."""

    dataset: str
    clients: int
    novel_clients: int
    visits: int
    network: str
    partition: str
    adapt_visits: int
    evaluate_every: int
    dtype: str

    @staticmethod
    def of(spec: Spec) -> Setting:
        """The setting of a run."""
        return Setting(*(getattr(spec, name) for name in Setting._fields))

    def label(self, others: Iterable[Setting]) -> str:
        """A name that says in what it differs from `others`: everything that is not the same in all of them."""
        trained = self.clients - self.novel_clients
        text = f"{self.dataset}, {trained} client{'' if trained == 1 else 's'}"
        text += f" + {self.novel_clients} unseen" if self.novel_clients else ""
        text += f", {self.visits} visits"
        return ", ".join([text, *self.differences(others)])

    def differences(self, others: Iterable[Setting]) -> list[str]:
        """What is not the same in all of `others`, beside data set, clients and visits."""
        return list(self._differences(list(others)))

    def _differences(self, others: Sequence[Setting]) -> Iterator[str]:
        def differs(name: str) -> bool:
            return len({getattr(other, name) for other in others}) > 1

        if differs("partition"):
            yield short_partition(self.partition, [other.partition for other in others])
        if differs("network") and len({(other.dataset, other.network) for other in others}) > len(
            {other.dataset for other in others}
        ):
            yield f"network {self.network}"
        if self.novel_clients and differs("adapt_visits"):
            yield f"{self.adapt_visits} visits to adapt"
        if differs("evaluate_every"):
            yield f"evaluated every {self.evaluate_every} visits"
        if differs("dtype"):
            yield self.dtype


def short_partition(text: str, others: Sequence[str]) -> str:
    """The kind of a partition, its first setting, and those in which it differs from others of its kind."""
    kind, _, rest = text.partition(":")
    settings = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    same_kind = [
        dict(part.partition("=")[::2] for part in other.partition(":")[2].split(",") if part)
        for other in others
        if other.partition(":")[0] == kind
    ]
    shown = [
        f"{name}={value}"
        for place, (name, value) in enumerate(settings.items())
        if place == 0 or any(other.get(name) != value for other in same_kind)
    ]
    return f"{kind} ({', '.join(shown)})" if shown else kind


@dataclass(frozen=True, eq=False)
class Cell:
    """The runs of one method in one setting, one a seed, that differ in nothing else; or why there are none."""

    runs: tuple[Run, ...] = ()
    expected: int = 0  # seeds
    gap: Gap | None = None  # why the cell is empty

    @property
    def by_seed(self) -> dict[int, Run]:
        """The runs by their seeds."""
        return {run.spec.seed: run for run in self.runs}


def seed_order(seed: int) -> tuple[int, int]:
    """The package's own seeds first, in their order."""
    return (SEEDS.index(seed), 0) if seed in SEEDS else (len(SEEDS), seed)


def make_cell(runs: Iterable[Run], expected: int) -> Cell:
    """The cell of `runs`, refused where they differ in more than the seed or were made by different code."""
    runs = tuple(sorted(runs, key=lambda run: seed_order(run.spec.seed)))
    if found := differences(runs):
        reason = f"the runs differ in more than the seed: {'; '.join(found)}"
        return Cell((), expected, Gap(Missing.REFUSED, reason))
    return Cell(runs, expected, None if runs else Gap(Missing.NOT_RUN))


def differences(runs: Sequence[Run]) -> list[str]:
    """What, beside the seed, is not the same in all `runs`: a sentence for each thing that differs."""
    things = [_facts(run) for run in runs]
    found = []
    for name in sorted({name for facts in things for name in facts}):
        seeds: dict[str, list[str]] = {}
        for run, facts in zip(runs, things, strict=True):
            if name in facts or name not in RECORDED_LATER:
                seeds.setdefault(str(facts.get(name, ABSENT)), []).append(str(run.spec.seed))
        if len(seeds) > 1:
            found.append(f"{name}: " + "; ".join(f"{v} (seed {', '.join(s)})" for v, s in seeds.items()))
    return found


def _facts(run: Run) -> dict[str, object]:
    """What a run was made with, by name. A hyperparameter may be called as anything else is, but has no blank."""
    spec = run.spec.model_dump(exclude={"params", "seed"})
    params = {f"hyperparameter {name}" if name in spec else name: value for name, value in run.spec.params.items()}
    facts = {**spec, **params, "fedbench version": run.version("fedbench"), "method's code": run.code}
    facts |= {f"code of {name}": code for name, code in run.codes.items()}
    known = dict(zip(RECORDED_LATER, (run.dataset_code, run.samples), strict=True))
    return facts | {name: value for name, value in known.items() if value}


def _is_hash(name: str) -> bool:
    """Whether a fact is a hash of sources or samples, which is no name for a row."""
    return name in ("method's code", *RECORDED_LATER) or name.startswith("code of ")


def variants(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of one method in one setting, cut into rows of a table.

    Runs that differ in their settings are rows of their own where each two of the rows have a seed in common: then
    they were made to be compared. Where they have none, they look like one row of mixed settings, and stay together,
    to be refused.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.spec.model_copy(update={"seed": 0}).identity, []).append(run)
    seeds = [{run.spec.seed for run in group} for group in groups.values()]
    if all(a & b for a, b in combinations(seeds, 2)):
        return list(groups.values())
    return [list(runs)]


def variant_names(settings: Sequence[Sequence[Sequence[Run]]]) -> dict[str, str | None]:
    """What makes the rows of one method differ in some of the `settings`, each of which has a group of runs a row.

    These names tell rows apart in all settings, so that a row is called alike wherever it stands. Where several things
    differ, as in ablations, each comes with the value that more than half of the rows that differ have, or None.
    """
    names: dict[str, None] = {}
    rows: list[dict[str, object]] = []
    for groups in settings:
        facts = [_facts(group[0]) for group in groups]
        rows += facts if len(facts) > 1 else []
        for name in dict.fromkeys(name for each in facts for name in each):
            if not _is_hash(name) and len({str(each.get(name, ABSENT)) for each in facts}) > 1:
                names[name] = None
    if len(names) < 2:  # both rows are better told by their values
        return dict(names)
    found: dict[str, str | None] = {}
    for name in names:
        ((value, count),) = Counter(str(row.get(name, ABSENT)) for row in rows).most_common(1)
        found[name] = value if 2 * count > len(rows) else None
    return found


def variant_title(group: Sequence[Run], names: Mapping[str, str | None]) -> str:
    """The title of a row: the method's, with what makes it differ from its other rows. None of it for a refused one.

    `names` have the values that are not said.
    """
    if not names or len({run.spec.model_copy(update={"seed": 0}).identity for run in group}) > 1:
        return group[0].title
    facts = _facts(group[0])
    values = {name: str(facts.get(name, ABSENT)) for name in names}
    said = [f"{name}={value}" for name, value in values.items() if value != names[name]]
    return f"{group[0].title} ({', '.join(said)})" if said else group[0].title
