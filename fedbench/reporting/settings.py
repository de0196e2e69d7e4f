"""The results of one setting: a row for each method, which is a cell of runs or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedbench.errors import canonical
from fedbench.experiments.parts import Published
from fedbench.reporting.cells import Cell, Setting, make_cell, variant_names, variant_title, variants
from fedbench.reporting.run import Run, title_in_code
from fedbench.storage import Failure
from fedbench.storage.gap import Gap, Missing

PACKAGES = ("fedbench", "torch", "numpy")  # whose versions can change a run's bits


@dataclass(frozen=True)
class MethodRow:
    """One method in one setting; `name` chooses its colour, `title` is the row's alone (see `told_apart`)."""

    name: str
    title: str
    cell: Cell
    note: str = ""  # how its hyperparameters were chosen, as in "tuned, 16 trials, 9,600 visits"
    unsaid: str = ""  # what holds for all rows of the method whose title does not say otherwise


def told_apart(settings: Sequence[Sequence[MethodRow]]) -> list[list[MethodRow]]:
    """The rows of all settings, the method's name behind every title that several have, as a subclass of FedAvg has."""
    names: dict[str, set[str]] = {}
    for row in (row for rows in settings for row in rows):
        names.setdefault(row.title, set()).add(row.name)
    made = [
        [replace(row, title=f"{row.title} [{row.name}]") if len(names[row.title]) > 1 else row for row in rows]
        for rows in settings
    ]
    # a title may look like what another one has become
    return told_apart(made) if any(len(each) > 1 for each in names.values()) else [_numbered(rows) for rows in made]


def _numbered(rows: Sequence[MethodRow]) -> list[MethodRow]:
    """`rows` with a number behind a title that stands above already: a row that vanished would be a wrong table."""
    made: list[MethodRow] = []
    for row in rows:
        titles = (row.title, *(f"{row.title} ({n})" for n in range(2, len(rows) + 1)))
        made.append(replace(row, title=next(title for title in titles if title not in {each.title for each in made})))
    return made


@dataclass(frozen=True)
class SettingResults:
    """All results of one setting, a row for each method. `name` is the stem of its files."""

    name: str
    label: str
    rows: Sequence[MethodRow]
    published: Mapping[str, Published] = field(default_factory=dict)  # by the method's name

    @property
    def cells(self) -> dict[str, Cell]:
        """The cells by the titles of their rows."""
        return {row.title: row.cell for row in self.rows}

    @property
    def filled(self) -> list[MethodRow]:
        """The rows that have runs."""
        return [row for row in self.rows if row.cell.runs]

    @property
    def runs(self) -> list[Run]:
        """The runs of all cells."""
        return [run for row in self.rows for run in row.cell.runs]

    @property
    def has_unseen(self) -> bool:
        """Whether some run had clients that were held out of training."""
        return any(run.unseen for run in self.runs)

    @property
    def seeds(self) -> list[int]:
        """How many seeds the cells have, without repetition, in order."""
        return sorted({len(row.cell.runs) for row in self.filled})

    def anchor(self, row: MethodRow) -> str:
        """Where the page lists the runs of a row."""
        return f"runs-{self.name}-{list(self.rows).index(row) + 1}"

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know before believing a comparison: one seed, machines, sources, lost runs."""
        found = []
        if self.seeds == [1]:
            found.append("1 seed: descriptive only, for another seed may order the methods otherwise")
        elif self.seeds and self.seeds[0] != self.seeds[-1]:
            found.append(f"the cells have {self.seeds[0]} to {self.seeds[-1]} seeds")
        made_with = {f"versions of {name}": {run.version(name) for run in self.runs} for name in PACKAGES}
        made_with["kinds of device"] = {run.spec.device for run in self.runs}
        made_with["samples"] = {run.samples for run in self.runs if run.samples}
        made_with["code of the data set"] = {run.dataset_code for run in self.runs if run.dataset_code}
        dealt: dict[int, set[str]] = {}
        for run in self.runs:
            dealt.setdefault(run.spec.seed, set()).add(run.partition)
        found += [
            f"with seed {seed} clients do not hold the same rows in all runs, although their partition is called alike"
            for seed, checksums in dealt.items()
            if len(checksums) > 1
        ]
        for what, values in made_with.items():
            if len(values) > 1:
                found.append(f"runs were made with different {what}: {', '.join(sorted(values))}")
        if changed := sum(run.uncommitted for run in self.runs):
            found.append(f"{changed} of {len(self.runs)} runs were made from sources with uncommitted changes (‡)")
        found += [
            f"{row.title}, seed {run.spec.seed}: training diverged; the score is of visit {run.best_visits}"
            for row in self.rows
            for run in row.cell.runs
            if run.diverged
        ]
        return found

    @property
    def unlike_times(self) -> str:
        """Why the run times of this setting must not be compared; empty where nothing speaks against it."""
        found = []
        for what, values in (
            ("machines", {run.machine for run in self.runs}),
            ("commits", {run.commit for run in self.runs}),
        ):
            if len(values) > 1:
                found.append(f"on {len(values)} {what}" if what == "machines" else f"from {len(values)} {what}")
        if beside := sum(run.beside for run in self.runs):
            found.append(f"beside other runs on the same machine ({beside} of {len(self.runs)})")
        return f"seconds were taken {' and '.join(found)}: no measure of speed" if found else ""

    @property
    def notes(self) -> list[str]:
        """The warnings with the setting's name, what titles leave out, and how hyperparameters were chosen."""
        found = [f"{self.label}: {warning}" for warning in self.warnings]
        found += list(dict.fromkeys(row.unsaid for row in self.rows if row.unsaid))
        chosen: dict[str, list[str]] = {}
        for row in self.rows:
            if row.note:
                chosen.setdefault(row.note, []).append(row.title)
        return found + [f"hyperparameters of {', '.join(titles)}: {note}" for note, titles in chosen.items()]


def by_setting(
    runs: Sequence[Run],
    failures: Sequence[Failure] = (),
    tuned: Mapping[str, str] | None = None,
    uncut: Sequence[Failure] = (),
) -> list[SettingResults]:
    """The results of each setting, the setting with most runs first, and those beside it that differ in visits alone.

    A method all of whose runs in a setting failed, or could not be cut, is a gap there. `tuned` says how a method's
    hyperparameters were chosen.
    """
    groups: dict[Setting, list[Run]] = {}
    for run in runs:
        groups.setdefault(Setting.of(run.spec), []).append(run)
    failed_here: dict[Setting, list[tuple[Missing, Failure]]] = {}
    for kind, each in ((Missing.FAILED, failures), (Missing.NOT_CUT, uncut)):
        for failure in each:
            failed_here.setdefault(Setting.of(failure.spec), []).append((kind, failure))
    split = {
        (setting, method): variants([run for run in members if run.spec.method == method])
        for setting, members in groups.items()
        for method in {run.spec.method for run in members}
    }
    differing = {
        method: variant_names([each for (_, other), each in split.items() if other == method]) for _, method in split
    }
    unsaid = {method: _unsaid(method, names) for method, names in differing.items()}
    titles = {failure.spec.method: failure.title for failure in uncut} | {run.spec.method: run.title for run in runs}
    made: list[tuple[str, str]] = []
    all_rows: list[list[MethodRow]] = []
    names: set[str] = set()
    for setting in _in_order({setting: len(members) for setting, members in groups.items()}):
        members = groups[setting]
        here = failed_here.get(setting, [])
        failed = {failure.spec.method: Gap(kind, failure.message) for kind, failure in here}
        tried: dict[str, set[int]] = {}  # method -> seeds, with those that failed
        for spec in [run.spec for run in members] + [failure.spec for _, failure in here]:
            tried.setdefault(spec.method, set()).add(spec.seed)
        expected = max(map(len, tried.values()))
        rows = []
        for method in sorted(tried):
            note = (tuned or {}).get(method, "")
            if (setting, method) not in split:
                cell = Cell((), expected, failed[method])
                rows.append(MethodRow(method, titles.get(method) or title_in_code(method) or method, cell, note))
                continue
            for group in split[setting, method]:
                title = variant_title(group, differing[method])
                rows.append(MethodRow(method, title, make_cell(group, expected), note, unsaid[method]))
        stem = f"{setting.dataset}-{setting.clients}-clients-{setting.visits}-visits"
        name = next(n for i in range(len(groups) + 1) if (n := f"{stem}-{i + 1}" if i else stem) not in names)
        names.add(name)
        made.append((name, setting.label(groups)))
        all_rows.append(rows)
    return [SettingResults(*words, rows) for words, rows in zip(made, told_apart(all_rows), strict=True)]


def _unsaid(method: str, names: Mapping[str, str | None]) -> str:
    values = ", ".join(f"{name}={value}" for name, value in names.items() if value is not None)
    return f"{method}: {values}, where the name of a row says nothing else" if values else ""


def _in_order(runs: Mapping[Setting, int]) -> list[Setting]:
    """The settings by their number of `runs`; those that differ in visits alone stand together, the longest first."""
    most: dict[Setting, int] = {}
    for setting, count in runs.items():
        alike = setting._replace(visits=0)
        most[alike] = max(count, most.get(alike, 0))

    def place(setting: Setting) -> tuple[int, Setting, int]:
        alike = setting._replace(visits=0)
        return -most[alike], alike, -setting.visits

    return sorted(runs, key=place)


def pick_reference(setting: SettingResults, wanted: str | None) -> str | None:
    """The title of the row to compare with: that of the method `wanted`, else the best client mean."""
    if wanted is not None:
        names = (wanted, canonical(wanted))
        return next((row.title for row in setting.filled if row.name in names or row.title == wanted), None)
    if len(setting.filled) < 2:
        return None
    means = {
        row.title: sum(run.seen.client_mean for run in row.cell.runs) / len(row.cell.runs) for row in setting.filled
    }
    return max(means, key=lambda title: means[title])
