"""A report as a whole: what it says first, what it needs, how large it may grow."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from small_results import Maker, put

from fedbench import storage
from fedbench.reporting import Report, report
from fedbench.reporting import figures as figures_package
from fedbench.reporting import tables as forms
from fedbench.reporting.collection import Collection
from fedbench.reporting.figures import Picture
from fedbench.reporting.run import run_of
from fedbench.reporting.settings import by_setting
from fedbench.reporting.tables import (
    Column,
    Entry,
    Table,
    targets,
)
from fedbench.reporting.writing import write


def test_importing_the_rooms_modules_gives_modules() -> None:
    import fedbench.reporting
    import fedbench.reporting.compose as module

    assert isinstance(module, ModuleType)
    exported = {name for name in fedbench.reporting.__all__ if not name[0].isupper()}
    for package in (fedbench.reporting, figures_package, forms):
        files = {path.stem for path in Path(str(package.__file__)).parent.glob("*.py")}
        names = {name for name in package.__all__ if not isinstance(getattr(package, name), ModuleType)}
        assert not files & names, "a function would shadow a module"
    with pytest.raises(ModuleNotFoundError):
        __import__("fedbench.reporting.report")
    assert {"report", "experiment_report", "gather"} <= exported


class Page(HTMLParser):
    """The ids of a page, and the files that it offers."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.files: list[str] = []
        text = page.read_text()
        self.feed(text)
        packed = re.search(r'const packed = "([^"]*)"', text)
        self.texts = json.loads(gzip.decompress(base64.b64decode(packed[1]))) if packed else {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        if "download" in found and not str(found["href"]).startswith("data:"):
            self.files.append(str(found["href"]))


def test_the_page_offers_each_file_as_it_is_also_where_a_table_is_called_like_a_figure(tmp_path: Path) -> None:
    """As those of `table2` and `linear-theory` are."""
    table = Table("same", "T", "C", [Column("a")], [("row", [Entry(1.0)])])
    picture = Picture("same", "P", "C", {"png": b"png", "pdf": b"pdf", "csv": b"x,y\n1,2\n"})
    made = write("R", "", tmp_path / "out", [], "pooled", [table], [picture], Collection((), (), ()), [], [])
    page = Page(made.page)
    assert len(page.files) == 4
    assert page.texts == {path: (made.out / path).read_text() for path in page.files}
    assert len(set(page.ids)) == len(page.ids)


def test_the_page_of_results_offers_each_file_as_it_is(results: Path, tmp_path: Path) -> None:
    page = Page(report(results, tmp_path / "out", figures=0).page)
    assert len(page.files) > 10
    assert page.texts == {path: (tmp_path / "out" / path).read_text() for path in page.files}
    assert len(set(page.ids)) == len(page.ids)


def test_a_left_over_run_takes_neither_the_figures_nor_the_first_answer(tmp_path: Path, make: Maker) -> None:
    """As one longer run does not, though the longest of settings that differ in visits alone stands first in tables."""
    put(tmp_path / "r", *(make(method, seed) for method in ("fedavg", "local") for seed in (42, 27)))
    put(tmp_path / "r", make("pfedhn", visits=2000))
    made = report(tmp_path / "r", tmp_path / "out", figures=1)
    assert [column.label.split(", ")[2] for column in made.tables[0].columns] == ["2000 visits", "1000 visits"]
    names = [picture.name for picture in made.pictures if "ranks" not in picture.name]
    assert names
    assert all(name.startswith("digits-20-clients-1000-visits") for name in names)
    assert "figures are drawn for the setting with most runs, of 2" in made.notes
    answers = [line for line in (made.out / "report.md").read_text().splitlines() if line.startswith("**digits")]
    assert "1000 visits" in answers[0]
    assert "Only pFedHN has results" in answers[1]


def test_the_same_report_twice_has_the_same_bytes(results: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        report(results, tmp_path / name / "out", figures=1)
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("a", "b"))
    assert one == two
    assert len(one) > 20


def test_the_answer_is_the_first_thing_said(tmp_path: Path, make: Maker) -> None:
    """Three seeds, a lead of 10, 20 and 30 points: mean 20, standard error 5.7735, t(2, .975) = 4.3027: ± 24.84, so
    that no difference is shown. With leads of 19, 20 and 21 points: ± 2.484."""

    def answer_of(leads: tuple[int, int, int]) -> str:
        root = tmp_path / str(leads)
        for seed, lead in zip((42, 27, 13), leads, strict=True):
            for method, correct in (("fedavg", 50), ("fedper", 50 + lead)):
                result = make(method, seed, correct=[0])
                test = storage.TestScores(correct=[correct], total=[100], loss=[0.5])
                result = result.model_copy(update={"best": result.best.model_copy(update={"test": test})})
                put(root, result.model_copy(update={"digest": storage.digest(result.model_dump(mode="json"))}))
        made = report(root, tmp_path / "out", figures=0)
        assert made.title == "FedAvg and FedPer on digits, 1 client, 1000 visits, classes (per_client=2)"
        return (made.out / "report.md").read_text().splitlines()[2]

    assert answer_of((19, 20, 21)) == (
        "**digits, 1 client, 1000 visits.** FedPer is best: 70.00 ± 1.00 % (client mean), "
        "20.00 points [17.52, 22.48] above FedAvg; 3 seeds, 1,000 visits a run."
    )
    assert "No difference could be shown: FedPer is highest" in answer_of((10, 20, 30))


def test_with_one_seed_no_p_and_nothing_significant_is_printed(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("fedavg"), make("local"), make("fedper"))
    made = report(tmp_path / "r", tmp_path / "out", figures=0)
    text = (made.out / "report.md").read_text()
    assert "1 seed: descriptive only" in text
    assert "†" not in text
    table = next(table for table in made.tables if table.name.endswith("differences"))
    for _, row in table.rows:
        assert row[0].low is None
        assert [row[1].value, row[5].value] == [None, None]


def test_claims_and_extra_parts_have_their_places(mine: Path, tmp_path: Path) -> None:
    from fedbench.experiments.schema import load
    from fedbench.reporting import experiment_report
    from fedbench.runs.plan import plan

    made = plan(load(str(mine)), "smoke", results=tmp_path / "r", device="cpu")
    claim = SimpleNamespace(text="A beats B.", verdict="holds", evidence="By 3 points.", source="Section 5.")
    table = Table("special", "A special table", "C.", [Column("x")], [("row", [Entry(1.0)])])
    picture = Picture("special-figure", "A special figure", "C.", {"png": b"png", "pdf": b"pdf"})
    found = experiment_report(
        made,
        tmp_path / "r",
        tmp_path / "out",
        claims=[claim],
        extra_tables=[table],
        extra_pictures=[picture],
        download=False,
    )
    page = found.page.read_text()
    assert page.index("A beats B.") < page.index("<table>")
    assert "A special figure" in page
    assert (found.out / "tables" / "special.tex").is_file()
    assert "* **holds**: A beats B. By 3 points. (Section 5.)" in (found.out / "report.md").read_text()


def test_the_report_imports_no_torch(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from fedbench.reporting import report; report(sys.argv[1], sys.argv[2], figures=1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(results), str(tmp_path / "out")], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_five_thousand_results(many: Callable[[Path, int], None], tmp_path: Path) -> None:
    """In 20 s and 1 GB. What is measured is the processor's time, which other programs do not lengthen much; the wall
    clock shows less, as reading is spread over processes."""
    many(tmp_path / "results", 5000)
    code = """
import re, resource, sys
from pathlib import Path
from fedbench.reporting import report
if __name__ == "__main__":
    made = report(sys.argv[1], sys.argv[2])
    own, children = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # the peak that rusage tells of a process is at least that of the process that started it: here a large one
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(len(made.runs), own.ru_utime + own.ru_stime, max(int(peak[1]), children.ru_maxrss) / 1e6)
"""
    script = tmp_path / "measure.py"
    script.write_text(code)
    arguments = [sys.executable, str(script), str(tmp_path / "results"), str(tmp_path / "out")]
    printed: Any = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    runs, seconds, gigabytes = int(printed[0]), float(printed[1]), float(printed[2])
    assert runs == 5000
    assert seconds < 20
    assert gigabytes < 1
    assert (tmp_path / "out" / "index.html").stat().st_size < 10e6


def a_report(tmp_path: Path, make: Maker, rows: dict[str, dict[int, int]]) -> Report:
    """Of methods whose one client has so many of 100 test rows right, by seed."""
    for method, by_seed in rows.items():
        for seed, correct in by_seed.items():
            result = make(method, seed, correct=[0])
            test = storage.TestScores(correct=[correct], total=[100], loss=[0.5])
            result = result.model_copy(update={"best": result.best.model_copy(update={"test": test})})
            put(tmp_path / "r", result.model_copy(update={"digest": storage.digest(result.model_dump(mode="json"))}))
    return report(tmp_path / "r", tmp_path / "out", figures=0)


def test_a_lost_run_does_not_make_the_worse_method_the_best(tmp_path: Path, make: Maker) -> None:
    """pFedHN is about 10 points better under each seed that both have, and has one bad seed that FedAvg has not."""
    rows = {"fedavg": {42: 77, 27: 78, 13: 80}, "pfedhn": {42: 87, 27: 89, 13: 90, 0: 40}}
    made = a_report(tmp_path, make, rows)
    answer = (made.out / "report.md").read_text().splitlines()[2]
    assert "pFedHN is best: 76.50 ± 24.37 %" in answer
    assert "above FedAvg; 3 seeds in common" in answer
    ranked = dict(made.tables[0].rows)
    assert [title for title, row in ranked.items() if row[0].best] == ["pFedHN"], "of those with most seeds"


def test_seeds_of_their_own_do_not_make_the_worse_method_the_best(tmp_path: Path, make: Maker) -> None:
    """As before, with as many seeds each: the bad seed of the one is not among those of the other."""
    rows = {"fedavg": {42: 77, 27: 78, 13: 80}, "pfedhn": {42: 87, 27: 89, 0: 40}}
    made = a_report(tmp_path, make, rows)
    answer = (made.out / "report.md").read_text().splitlines()[2]
    assert "FedAvg is highest over its own seeds with 78.33 ± 1.53 %" in answer
    assert "but pFedHN has more over the seeds in common" in answer
    assert "†" in dict(made.tables[0].rows)["pFedHN"][0].marks, "it was not shown to be below the bold one"


def test_the_best_is_not_said_to_be_better_than_what_it_was_not_shown_to_beat(tmp_path: Path, make: Maker) -> None:
    rows = {"pfedhn": {42: 88, 27: 89, 13: 91}, "fedper": {42: 84, 27: 86, 13: 87}, "local": {42: 90, 27: 60, 13: 89}}
    answer = (a_report(tmp_path, make, rows).out / "report.md").read_text().splitlines()[2]
    assert "pFedHN is highest: 89.33 ± 1.53 %" in answer
    assert "No difference to Local could be shown, though lower on the average." in answer


def test_what_looks_like_markup_is_text(tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r#1", make(title="<b>A_b</b>", network="lenet-8*25,lenet*25"), make("local"))
    made = report(tmp_path / "r#1", tmp_path / "out", figures=0)
    text = (made.out / "report.md").read_text()
    assert "<b>" not in text
    assert "lenet-8*25" not in text
    assert r"lenet-8\*25,lenet\*25" in text
    page = made.page.read_text()
    assert 'href="../r%231/digits/local/' in page
    assert 'href="../r#1' not in page


def test_no_table_of_efforts_where_no_round_accuracy_is_reached(tmp_path: Path, make: Maker) -> None:
    result = make("local")
    low = [row.model_copy(update={"val_accuracy": 0.03, "val_client_mean": 0.03}) for row in result.history]
    best = result.best.model_copy(update={"val_accuracy": 0.03, "val_client_mean": 0.03, "visits": 0, "round": 0})
    bad = result.model_copy(update={"history": low, "best": best, "earlier": []})
    setting = by_setting([run_of(bad, tmp_path)])[0]
    assert targets(setting, "pooled") is None
    assert targets(setting, "pooled", [2.0]) is not None
