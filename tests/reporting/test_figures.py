"""Figures: what is drawn, how it looks, the same bytes every time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_results import Maker, put

from fedbench import storage
from fedbench.reporting import report
from fedbench.reporting.collection import collect
from fedbench.reporting.figures import LOOK, canvas, draw, styles
from fedbench.reporting.figures.canvas import NAME, contrast, short_names
from fedbench.reporting.figures.curves import curve, fold_place
from fedbench.reporting.figures.labels import spread
from fedbench.reporting.figures.ranks import ranks
from fedbench.reporting.figures.tradeoffs import on_front
from fedbench.reporting.run import read
from fedbench.reporting.settings import by_setting
from fedbench.reporting.tables import sends_alike


def test_styles_are_fixed_and_never_shared() -> None:
    names = ["pfedhn", "fedavg", "my-method", "your-method", "its-method"]
    found = styles(names)
    assert found["pfedhn"] == styles(["pfedhn"])["pfedhn"]
    assert len(set(found.values())) == len(names)
    assert len({style.color for style in found.values()}) == len(names)


def test_labels_do_not_touch_and_stay_inside() -> None:
    places = spread([1.0, 1.0, 1.0, 5.0, 9.9], 1.0, 0.0, 10.0)
    assert all(b - a >= 1 - 1e-9 for a, b in zip(sorted(places), sorted(places)[1:], strict=False))
    assert min(places) >= 0
    assert max(places) <= 10
    assert places[3] == 5.0
    crowded = spread([0.5] * 20, 1.0, 0.0, 10.0)
    assert min(crowded) == pytest.approx(0)
    assert max(crowded) == pytest.approx(10)


def test_front() -> None:
    points = {"cheap": (0.0, 50.0), "good": (5.0, 90.0), "dear": (9.0, 90.0), "worse": (6.0, 80.0)}
    assert on_front(points) == ["cheap", "good"]


def test_curves_are_means_over_seeds(results: Path) -> None:
    line = by_setting(collect(results).runs)[0].rows[0]
    grid, mean, sd = curve(line, "visits", "accuracy")
    assert grid.tolist() == list(range(0, 1001, 50))
    values = [run.history["accuracy"] for run in line.cell.runs]
    assert mean == pytest.approx(np.mean(values, axis=0))
    assert sd == pytest.approx(np.std(values, axis=0, ddof=1))


def test_time_curves_end_where_each_run_ends_and_interpolate_nothing(results: Path) -> None:
    """Seconds differ from seed to seed: three lines of measured points, and no mean."""
    setting = by_setting(collect(results).runs)[0]
    slower = []
    for row in setting.rows:
        runs = [
            replace(run, history={**run.history, "seconds": run.history["seconds"] * (1 + i)})
            for i, run in enumerate(row.cell.runs)
        ]
        slower.append(replace(row, cell=replace(row.cell, runs=tuple(runs))))
    setting = replace(setting, rows=slower)
    picture = draw(setting, "seconds", "client mean")
    assert picture is not None
    rows = list(csv.DictReader(io.StringIO(picture.files["csv"].decode())))
    for row in setting.rows:
        for run in row.cell.runs:
            mine = [r for r in rows if r["method"] == row.title and int(r["seed"]) == run.spec.seed]
            assert [float(r["seconds"]) for r in mine] == pytest.approx(run.history["seconds"].tolist())
            assert [float(r["accuracy"]) for r in mine] == pytest.approx(run.history["client_mean"].tolist())
    assert "each to its own end" in picture.caption


def test_the_test_curve_is_that_of_every_smaller_budget(tmp_path: Path, make: Maker) -> None:
    """At each evaluation the accuracy that a run of just so many visits would report."""
    result = make("fedavg")
    put(tmp_path, result)
    history = read(storage.result_path(tmp_path, result.spec)).history
    expected = [100 * result.at(row.visits).best.client_mean for row in result.history if row.visits]
    assert history["test_client_mean"][1:].tolist() == pytest.approx(expected)
    picture = draw(by_setting(collect(tmp_path).runs)[0], "test", "client mean")
    assert picture is not None
    assert "at the round that validation had chosen by then" in picture.caption


def test_older_results_have_no_test_curve(tmp_path: Path, make: Maker) -> None:
    put(tmp_path, make("fedavg", modern=False), make("local", modern=False))
    setting = by_setting(collect(tmp_path).runs)[0]
    assert draw(setting, "test") is None
    assert draw(setting, "visits") is not None


def test_a_report_draws_the_front_only_where_methods_send_differently(tmp_path: Path, make: Maker) -> None:
    """fedper sends 400000 bytes each way where fedavg sends 484728, 1.21 times as much; local sends nothing."""
    put(tmp_path / "a", make("fedavg"), make("fedper"), make("local"))
    assert sends_alike(by_setting(collect(tmp_path / "a").runs)[0])
    light = make("light")

    def lighter(rows: Iterable[Any]) -> list[Any]:
        return [row.model_copy(update={"bytes_down": row.bytes_down // 4}) for row in rows]

    (best,) = lighter([light.best])
    rows = {"history": lighter(light.history), "best": best, "earlier": lighter(light.earlier or [])}
    light = light.model_copy(update=rows)
    put(
        tmp_path / "b",
        make("fedavg"),
        light.model_copy(update={"digest": storage.digest(light.model_dump(mode="json"))}),
    )
    assert not sends_alike(by_setting(collect(tmp_path / "b").runs)[0])
    drawn = [
        any("front" in picture.name for picture in report(tmp_path / name, tmp_path / "out").pictures) for name in "ab"
    ]
    assert drawn == [False, True]


def test_an_axis_is_folded_where_methods_differ_in_its_upper_part_only() -> None:
    """Curves end at 88, 90 and 92 after a start at 10; the lower quartile of their later halves is 88: below 85 the
    axis is folded. Where methods differ over the whole axis, it is left alone."""
    rise = np.concatenate([[10.0, 50], np.full(8, 90.0)])
    assert fold_place([rise, rise - 2, rise + 2]) == 85
    assert fold_place([np.linspace(10, 90, 20), np.linspace(10, 30, 20)]) is None


def test_letters_have_contrast_and_size() -> None:
    own = [style.ink for style in styles(["pfedhn", "lg-fedavg", "pfedme", "fedavg-ft", "scaffold", "mine"]).values()]
    assert min(map(contrast, own)) >= 4.5
    assert contrast("#000000") == pytest.approx(21)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01), "the lightest grey that WCAG lets pass"
    assert min(LOOK["font.size"], LOOK["xtick.labelsize"], LOOK["ytick.labelsize"]) >= 7


@pytest.mark.parametrize("kind", ["visits", "test", "seconds", "clients", "gain", "balance", "unseen"])
def test_figures_are_a_column_wide_and_nothing_is_cut_off(
    kind: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn, with all names, lies within the picture, which is 3.25 inches wide."""
    setting = by_setting(collect(results).runs)[0]
    extents: list[tuple[float, ...]] = []
    original = canvas._printed

    def printed(figure: Any, form: str, stamp: Any) -> bytes:
        content = original(figure, form, stamp)
        if form == "png":
            figure.draw_without_rendering()
            extents.append((*figure.get_size_inches(), *figure.get_tightbbox().extents))
        return content

    monkeypatch.setattr(canvas, "_printed", printed)
    assert draw(setting, kind, "client mean") is not None
    ((width, height, left, bottom, right, top),) = extents
    assert width == pytest.approx(3.25)
    assert min(left, bottom) > -0.02
    assert (right < width + 0.02, top < height + 0.02) == (True, True)


def test_ranks_are_drawn_from_three_settings_on(tmp_path: Path, make: Maker) -> None:
    """Cuts of one run are no settings of their own."""
    methods = ("fedavg", "local", "fedper")
    put(tmp_path, *(make(method, clients=clients) for method in methods for clients in (10, 20, 30)))
    found = by_setting(collect(tmp_path).runs)
    picture = ranks(found, "client mean")
    assert picture is not None
    assert ranks(found[:2], "client mean") is None
    assert ranks(by_setting(collect(tmp_path, at=[250, 500, 1000]).runs), "client mean") is not None
    one = [
        setting
        for setting in by_setting(collect(tmp_path, at=[250, 500, 1000]).runs)
        if ", 10 clients" in setting.label
    ]
    assert len(one) == 3
    assert ranks(one, "client mean") is None


@pytest.mark.parametrize("title", [r"A $\foo$ B", "a$b$_", "[x] 50%", "* starred"])
def test_titles_are_text_in_figures(title: str, tmp_path: Path, make: Maker) -> None:
    put(tmp_path / "r", make("own", title=title, novel=4), make("local", novel=4))
    made = report(tmp_path / "r", tmp_path / "out", figures=1)
    assert len(made.pictures) == 7


def test_figures_are_files_of_both_kinds_and_the_same_each_time(results: Path, tmp_path: Path) -> None:
    made = report(results, tmp_path / "out", figures=1)
    kinds = [picture.name.removeprefix("digits-24-clients-1000-visits-") for picture in made.pictures]
    assert kinds == [
        "curves-visits",
        "curves-test-visits",
        "curves-seconds",
        "clients",
        "gain",
        "balance",
        "unseen",
    ]
    for picture in made.pictures:
        assert (made.out / "figures" / f"{picture.name}.png").read_bytes().startswith(b"\x89PNG")
        assert (made.out / "figures" / f"{picture.name}.pdf").read_bytes().startswith(b"%PDF")
    again = draw(by_setting(collect(results).runs)[0], "clients", "client mean")
    assert again is not None
    assert again.files == made.pictures[3].files


def test_long_names_leave_room_for_what_is_drawn(tmp_path: Path, make: Maker, recwarn: pytest.WarningsRecorder) -> None:
    """Of a name of 90 letters figures show the beginning and the end; the layout still finds its place."""
    long = f"A very long name {'x' * 60} (rate={'{}'})"
    for rate in (1, 2):
        put(tmp_path, *(make(f"own-{rate}", seed, title=long.format(rate), novel=4) for seed in (42, 27)))
    put(tmp_path, *(make("local", seed, novel=4) for seed in (42, 27)))
    setting = by_setting(collect(tmp_path).runs)[0]
    for kind in ("visits", "clients", "gain", "unseen"):
        assert draw(setting, kind, "client mean") is not None  # type: ignore[arg-type]
    assert not [warning for warning in recwarn if "constrained_layout" in str(warning.message)]
    names = short_names([long.format(rate) for rate in (1, 2)])
    assert len(set(names.values())) == 2
    assert all(len(name) <= NAME for name in names.values())


VARIANTS = [f"pFedHN{kind} (local.lr={a}, hypernetwork.lr={b})" for kind in ("", "-PC") for a in (1, 2) for b in (3, 4)]


@given(st.lists(st.sampled_from([*VARIANTS, *(f"{'x' * 15}{i}{'y' * 15}" for i in range(3)), "Local"]), unique=True))
def test_no_two_names_of_a_figure_are_alike(titles: list[str]) -> None:
    names = short_names(titles)
    assert list(names) == titles, "in the order of the titles"
    assert len(set(names.values())) == len(titles)


def test_names_that_differ_in_the_middle_keep_it() -> None:
    names = short_names(VARIANTS[:4])
    assert names[VARIANTS[0]] == "pFedHN (l.lr=1, h.lr=3)"
    assert short_names(VARIANTS[:1])[VARIANTS[0]] == "pFedHN (local\u2026rnetwork.lr=3)"
