"""From a folder of results to a folder of tables, figures and one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from fedbench.errors import BadInput
from fedbench.reporting import boards as build
from fedbench.reporting.boards import Board, Line, Metric
from fedbench.reporting.runs import Cell, Collection, Run, collect, make_cell, processes
from fedbench.reporting.statistics import EXPLANATION
from fedbench.reporting.tables import Table, as_csv, latex, latex_document, markdown

if TYPE_CHECKING:
    from fedbench.campaign import Plan
    from fedbench.experiment import Draw
    from fedbench.reporting.figures import Picture

FIGURES: tuple[Draw, ...] = ("visits", "megabytes", "seconds", "front", "clients", "unseen")
FORMS = {"md": markdown, "csv": as_csv, "tex": latex}


@dataclass(frozen=True)
class Report:
    """A report that was written into the folder `out`."""

    out: Path
    title: str
    tables: Sequence[Table]  # the main ones first
    pictures: Sequence[Picture]
    runs: Sequence[Run]
    warnings: Sequence[str]  # files that were left out, cells that were refused
    gaps: Sequence[str] = field(default=())  # of an experiment: runs that failed
    stopped: bool = False  # by Ctrl-C, before all runs were done

    @property
    def page(self) -> Path:
        """The page that holds everything."""
        return self.out / "index.html"

    @property
    def status(self) -> int:
        """The exit status: 130 where it was stopped, 1 where something was left out or failed, else 0."""
        return 130 if self.stopped else 1 if self.warnings or self.gaps else 0


def report(
    results: str | Path = "results",
    out: str | Path = "reports",
    *,
    reference: str | None = None,
    figures: int = 3,
    partitions: bool = False,
    data_root: Path | None = None,
) -> Report:
    """Tables, statistics and figures of whatever is in `results`, in the folder `out`; begin with out/index.html.

    `reference` is the method that others are compared with, by default the best one of each setting. Figures are
    drawn for the `figures` settings that have most runs. `partitions` adds pictures of who holds which classes; they
    need the data sets, in `data_root`, and torch. Raises BadInput where there is nothing to report on.
    """
    collection = collect(Path(results))
    made = build.boards(collection.runs, collection.failures)
    if not made:
        others = [*(f"left out: {text}" for text in collection.left_out)]
        others += [f"failed: {failure.spec.method}: {failure.message}" for failure in collection.failures]
        raise BadInput("; ".join([f"there are no results in {results}: make some with `fedbench run`", *others]))
    if reference is not None and not any(build.pick_reference(board, reference) for board in made):
        known = {line.name for board in made for line in board.lines}
        from fedbench.errors import unknown_name

        raise unknown_name("reference method in these results", reference, known)
    tables = build.grids(made)
    for board in made:
        tables += _board_tables(board, reference)
    pictures = _draw(made[:figures], FIGURES, "client mean", processes(len(collection.runs)))
    notes = []
    if len(made) > figures:
        notes.append(f"figures are drawn for the {figures} settings with most runs, of {len(made)}")
    if partitions:
        from fedbench.reporting.partitions import pictures as partition_pictures

        drawn, missing = partition_pictures(made[:figures], data_root)
        pictures += drawn
        notes += missing
    return _write("Results", "", Path(out), made, tables, pictures, collection, notes)


def experiment_report(
    plan: Plan, results: Path, out: Path, *, data_root: Path | None = None, stopped: bool = False
) -> Report:
    """The report of an experiment's runs, beside published values, in `out`/NAME."""
    from fedbench.reporting.partitions import pictures as partition_pictures

    experiment = plan.experiment
    metric: Metric = "pooled" if experiment.metric == "pooled" else "client mean"
    wanted = {job.spec.identity for job in plan.all_jobs}
    everything = collect(results) if results.exists() else Collection((), (), ())
    mine = Collection(
        tuple(run for run in everything.runs if run.spec.identity in wanted),
        tuple(text for text in everything.left_out),
        tuple(failure for failure in everything.failures if failure.spec.identity in wanted),
    )
    errors = {failure.spec.identity: failure.message for failure in mine.failures} | plan.failed
    by_identity = {run.spec.identity: run for run in mine.runs}
    made = []
    for column in experiment.chosen(plan.preset):
        lines = []
        for method in experiment.method_names:
            jobs = plan.jobs.get((column.name, method), ())
            ids = [job.spec.identity for job in jobs]
            cell = make_cell([by_identity[i] for i in ids if i in by_identity], len(ids))
            if not cell.runs and not cell.differences:
                failed = [errors[i] for i in ids if i in errors]
                gap = plan.gaps.get((column.name, method)) or (f"failed: {failed[0]}" if failed else "not run")
                cell = Cell((), len(ids), gap)
            lines.append(Line(method, plan.titles[method], cell))
        made.append(Board(column.name, column.label, lines, experiment.published.get(column.name, {})))
    tables: list[Table] = []
    if "grid" in experiment.tables:
        order: tuple[Metric, Metric] = (metric, "client mean" if metric == "pooled" else "pooled")
        tables += build.grids(made, order, quoted=metric if experiment.published else None)
    for board in (board for board in made if board.runs):
        if "communication" in experiment.tables:
            tables.append(build.communication(board, metric, experiment.target))
        if "measures" in experiment.tables:
            tables.append(build.measures(board))
        if "differences" in experiment.tables:
            tables += _differences(board, experiment.reference)
    pictures = _draw(made, experiment.figures, metric, processes(len(everything.runs)))
    drawn, missing = partition_pictures(made, data_root)
    notes = [f"preset {plan.preset}; {len(mine.runs)} of {len(wanted)} runs are done", *missing]
    gaps = [f"{identity}: {errors[identity]}" for identity in sorted(wanted & errors.keys() - by_identity.keys())]
    gaps += [why for why in dict.fromkeys(plan.gaps.values()) if why.startswith("cannot be run")]
    report = _write(
        experiment.title,
        f"{experiment.caption} Source: {experiment.paper}.",
        out / experiment.name,
        made,
        tables,
        pictures + drawn,
        mine,
        notes,
    )
    return Report(report.out, report.title, report.tables, report.pictures, report.runs, report.warnings, gaps, stopped)


def _board_tables(board: Board, reference: str | None) -> list[Table]:
    return [build.measures(board), *_differences(board, reference)]


def _differences(board: Board, reference: str | None) -> list[Table]:
    sides = [build.difference_table(board, reference)]
    if board.has_unseen:
        sides.append(build.difference_table(board, reference, "unseen"))
    return [table for table in sides if table is not None]


def _draw(made: Sequence[Board], kinds: Sequence[Draw], metric: Metric, spread: int) -> list[Picture]:
    """All pictures, drawn by `spread` processes."""
    if not kinds or not made:
        return []
    from fedbench.reporting.figures import draw  # matplotlib takes a while

    drawn = Parallel(spread)(delayed(draw)(board, kind, metric) for board in made for kind in kinds)
    return [picture for picture in drawn if picture]


def _write(
    title: str,
    caption: str,
    out: Path,
    made: Sequence[Board],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    collection: Collection,
    notes: Sequence[str],
) -> Report:
    from fedbench.reporting.page import page

    refused = [
        f"{line.title}, {board.label}: {line.cell.gap}: {'; '.join(line.cell.differences)}"
        for board in made
        for line in board.lines
        if line.cell.differences
    ]
    warnings = [*(f"left out: {text}" for text in collection.left_out), *refused]
    try:
        for table in tables:
            for suffix, form in FORMS.items():
                _put(out / "tables" / f"{table.name}.{suffix}", form(table))
        document = latex_document(table.name for table in tables)
        _put(out / "tables" / "all.tex", document)
        for picture in pictures:
            for suffix, content in picture.files.items():
                _put(out / "figures" / f"{picture.name}.{suffix}", content)
        parts = [f"# {title}", caption, EXPLANATION, *(f"* {note}" for note in [*warnings, *notes])]
        parts += [markdown(table) for table in tables]
        _put(out / "report.md", "\n\n".join(part for part in parts if part))
        html = page(title, caption, made, tables, pictures, collection, warnings, notes)
        _put(out / "index.html", html)
    except OSError as error:
        raise BadInput(f"the report cannot be written to {out}: {error.strerror}; choose another folder") from None
    return Report(out, title, tables, pictures, collection.runs, warnings)


def _put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
