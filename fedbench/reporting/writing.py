"""A report as files: the page, its Markdown, and a file for each table and figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedbench.errors import BadInput
from fedbench.reporting.collection import Collection
from fedbench.reporting.run import Run
from fedbench.reporting.settings import SettingResults
from fedbench.reporting.statistics import Metric, explanation
from fedbench.reporting.summary import NOTHING, answer
from fedbench.reporting.tables import Table, as_csv, latex, latex_document, markdown, prose, terminal
from fedbench.runs.console import rendered
from fedbench.storage.gap import Missing

if TYPE_CHECKING:
    from fedbench.reporting.figures import Picture

FORMS = {"md": markdown, "csv": as_csv, "tex": latex}


class Claim(Protocol):
    """A claim of the paper, tested against the results; shown at the top of the page."""

    @property
    def text(self) -> str:
        """The claim, in one sentence."""

    @property
    def verdict(self) -> str:
        """What became of it, in a word or two: "holds", "does not hold", "undecided", "not tested"."""

    @property
    def evidence(self) -> str:
        """The numbers behind the verdict, in one sentence."""

    @property
    def source(self) -> str:
        """Where the claim is made, and how sure that is."""


@dataclass(frozen=True, repr=False)
class Report:
    """A report that was written into the folder `out`. It prints as its first table and where the page is."""

    out: Path
    title: str
    tables: Sequence[Table]  # the main ones first
    pictures: Sequence[Picture]
    runs: Sequence[Run]
    warnings: Sequence[str]  # files that were left out, cells that were refused
    gaps: Sequence[str] = ()  # runs that failed, cannot be made, or were made by other code
    notes: Sequence[str] = ()  # what a reader has to know
    uncut: Sequence[str] = ()  # why, of results that do not tell what a shorter run would have been
    stopped: bool = False  # by Ctrl-C, before all runs were done

    def __repr__(self) -> str:
        left_out = [f"warning: {text}" for text in [*self.warnings, *self.gaps]]
        return "\n".join([*(rendered(terminal(table)) for table in self.tables[:1]), *left_out, f"report: {self.page}"])

    @property
    def page(self) -> Path:
        """The page that holds everything."""
        return self.out / "index.html"

    @property
    def status(self) -> int:
        """The exit status: 130 where it was stopped, 1 where something was left out or failed, else 0."""
        return 130 if self.stopped else 1 if self.warnings or self.gaps else 0


def write(
    title: str,
    caption: str,
    out: Path,
    made: Sequence[SettingResults],
    metric: Metric,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    collection: Collection,
    notes: Sequence[str],
    gaps: Sequence[str],
    claims: Sequence[Claim] = (),
) -> Report:
    """Write the report into the folder `out`, and remove what an earlier one left there.

    `made` are its settings and `collection` is what was read for them, `gaps` are runs that are not there. Raises
    BadInput where the folder cannot be written to.
    """
    from fedbench.reporting.page import page

    refused = [
        f"{row.title}, {setting.label}: {row.cell.gap}"
        for setting in made
        for row in setting.rows
        if row.cell.gap and row.cell.gap.kind is Missing.REFUSED
    ]
    warnings = [*(f"left out: {text}" for text in collection.left_out), *refused]
    # a setting of one method compares nothing, and its answer stands below those that do
    filled = sorted((setting for setting in made if setting.runs), key=lambda setting: len(setting.filled) < 2)
    answers = [(setting.label, answer(setting, metric)) for setting in filled] or [("", NOTHING)] * bool(made)
    parts = [f"# {prose(title)}", prose(caption)]
    parts += [f"**{prose(label)}.** {prose(text)}" if label else text for label, text in answers]
    parts += [f"* **{c.verdict}**: {prose(f'{c.text} {c.evidence} ({c.source})')}" for c in claims]
    parts += [f"* {prose(note)}" for note in [*warnings, *gaps, *notes]]
    parts += [markdown(table) for table in tables]
    parts += ["## How it was computed", explanation(bool(claims))]
    files: dict[str, str | bytes] = {
        **{f"tables/{table.name}.{suffix}": form(table) for table in tables for suffix, form in FORMS.items()},
        "tables/all.tex": latex_document(table.name for table in tables),
        **{f"figures/{p.name}.{suffix}": content for p in pictures for suffix, content in p.files.items()},
        "report.md": "\n\n".join(part for part in parts if part) + "\n",
        "index.html": page(
            title, caption, out, filled, answers, claims, tables, pictures, collection, [*warnings, *gaps], notes
        ),
    }
    try:
        _replace(out, files)
    except OSError as error:
        raise BadInput(f"the report cannot be written to {out}: {error.strerror}; choose another folder") from None
    return Report(out, title, tables, pictures, collection.runs, warnings, gaps, notes)


def _replace(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files` below `out`, and remove the tables and figures that the report before had and this one has not."""
    listing = out / "tables" / "files.txt"
    before = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name in before:
        if name not in files and re.fullmatch(r"(tables|figures)/[A-Za-z0-9_-]+\.(md|csv|tex|png|pdf|svg)", name):
            (out / name).unlink(missing_ok=True)
    listing.write_text("".join(f"{name}\n" for name in files))
