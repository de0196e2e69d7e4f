"""The page in a real browser: headless Chromium, driven over WebDriver's plain HTTP."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedbench import storage
from fedbench.reporting import report

pytestmark = pytest.mark.slow
NASTY = "<script>document.title='broken'</script> & \"x\"_$%"


class Browser:
    """A WebDriver session."""

    def __init__(self, port: int, chromium: str, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options = {"binary": chromium, "args": [*arguments, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.call("", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/{made['sessionId']}"

    def call(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script: str, *arguments: object) -> Any:
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def open(self, page: Path, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self.call("/goog/cdp/execute", command)
        self.call("/url", {"url": "about:blank"})  # else what answers next may still be the page as it was before
        self.call("/url", {"url": page.as_uri()})
        for _ in range(300):
            if self.run("return [location.href, document.readyState]") == [page.as_uri(), "complete"]:
                return
            time.sleep(0.1)
        raise AssertionError(f"{page} was not loaded within half a minute")

    def log(self) -> list[str]:
        return [entry["message"] for entry in self.call("/se/log", {"type": "browser"})]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        session = Browser(port, chromium, tmp_path_factory.mktemp("profile"))
        yield session
        session.call("", method="DELETE")
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def page(some: Callable[[Path], Path], make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    results = some(folder / "results")
    for seed in (42, 27, 13):
        storage.write(results, make("own", seed, title=NASTY, novel=4, params={"note": NASTY}))
    failed = make("own", 7, novel=4, params={"note": NASTY}).spec
    storage.write_failure(results, failed, f"{'x' * 400}\nRuntimeError: {NASTY}\n")
    (results / "digits" / "own" / "foreign.json").write_text("{}")
    return report(results, folder / "out", figures=1).page.resolve()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (360, 740)])
def test_nothing_is_wrong_at_desktop_and_phone_width(browser: Browser, page: Path, width: int, height: int) -> None:
    browser.open(page, width, height)
    assert browser.log() == []
    assert browser.run("return document.title").startswith("fedbench: 6 methods on digits")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    cut_off = """
        return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll"))
            .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.run(cut_off) == []
    shut = "return [...document.images].filter(i => { i.loading = 'eager'; return false; }).length"
    browser.run(shut)
    time.sleep(0.5)
    assert browser.run("return [...document.images].length") == 4
    assert browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 600)")
    assert browser.run("return performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:'))") == []


def test_text_from_outside_is_shown_and_not_run(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    assert browser.run("return document.scripts.length") == 1
    text = browser.run(
        "for (const d of document.querySelectorAll('details')) d.open = true; return document.body.innerText"
    )
    assert text.count(NASTY) > 3
    assert f"RuntimeError: {NASTY}" in text
    assert "foreign.json is not a fedbench result" in text
    assert "Departures" in text
    assert "<script>" not in page.read_text().split("</head>")[1].split("<script>\n")[0]


def test_the_answer_and_the_main_table_are_on_the_first_screen(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    above = "return document.querySelector(arguments[0]).getBoundingClientRect()[arguments[1]]"
    assert browser.run(above, "h1", "top") < browser.run(above, ".answer", "top") < browser.run(above, "table", "top")
    assert browser.run(above, "table", "bottom") < 900
    browser.open(page, 390, 844)
    assert browser.run(above, ".answer", "bottom") < 844


def test_every_number_leads_to_runs_and_every_run_to_its_file(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    links = "return [...document.querySelectorAll('td > a[href^=\"#\"]')].map(a => a.hash.slice(1))"
    assert len(named := set(browser.run(links))) == 6
    assert all(browser.run("return document.getElementById(arguments[0]).tagName", name) == "TBODY" for name in named)
    files = browser.run("return [...document.querySelectorAll('a.file')].map(a => a.getAttribute('href'))")
    assert len(files) == 18
    assert all((page.parent / name).resolve().is_file() for name in files)
    commands = browser.run(
        "return [...document.querySelectorAll('tr.group pre:first-of-type')].map(p => p.textContent)"
    )
    assert any("--methods pfedhn " in command and "--seeds 42,27,13" in command for command in commands)


def test_curves_show_values_and_methods_can_be_hidden(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    hover = """
        const point = document.querySelector('figure svg g[id*="-points"] use');
        point.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));
        return [point.querySelector('title').textContent, document.querySelector('.readout').textContent]"""
    title, readout = browser.run(hover)
    assert title == readout
    assert " % ± " in title
    assert title.endswith("at 0 client visits")
    hide = """
        const figure = document.querySelector('figure');
        figure.querySelector('.series input').click();
        return [...figure.querySelectorAll('[id*="-series-0-"]')].map(e => e.style.display)"""
    hidden = browser.run(hide)
    assert len(hidden) >= 4
    assert set(hidden) == {"none"}
    assert browser.log() == []


def test_tables_and_figures_can_be_taken(browser: Browser, page: Path) -> None:
    """What the buttons give is what the files hold; a figure has its PDF in the page."""
    browser.open(page, 1280, 900)
    paths = browser.run("return [...document.querySelectorAll('.take a')].map(a => a.getAttribute('href'))")
    paths = [path for path in paths if not path.startswith("data:")]
    assert {Path(path).suffix for path in paths} == {".csv", ".tex", ".md"}
    for path in paths:
        script = "const done = arguments[1]; take(arguments[0]).then(done)"
        text = browser.call("/execute/async", {"script": script, "args": [path]})
        assert text == (page.parent / path).read_text()
    assert browser.run("return document.querySelectorAll('.take button').length") >= 15
    papers = "return [...document.querySelectorAll('figure a[download$=\".pdf\"]')].map(a => a.href.slice(0, 28))"
    assert set(browser.run(papers)) == {"data:application/pdf;base64,"}


def test_print_and_dark(browser: Browser, page: Path) -> None:
    """Printed, no box scrolls, so that nothing is clipped; in the dark, the page is dark and letters are light."""
    browser.open(page, 1280, 900)
    media = "/goog/cdp/execute"
    try:
        browser.call(media, {"cmd": "Emulation.setEmulatedMedia", "params": {"media": "print"}})
        boxes = "return [...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)"
        assert set(browser.run(boxes)) == {"visible"}
        assert browser.run("return getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
        dark = {"media": "", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.call(media, {"cmd": "Emulation.setEmulatedMedia", "params": dark})
        colors = browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
        paper, ink = (sum(map(int, re.findall(r"\d+", color))) for color in colors)
        assert paper < 100 < 600 < ink
    finally:
        browser.call(media, {"cmd": "Emulation.setEmulatedMedia", "params": {"media": "", "features": []}})


def test_a_click_sorts_and_a_second_one_turns_it_round(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    click = """
        const table = document.querySelectorAll("table")[arguments[0]];
        const head = table.tHead.rows[0].cells[arguments[1]];
        head.querySelector("button").click();
        return [head.getAttribute("aria-sort"), [...table.tBodies[0].rows].map(r => r.cells[arguments[1]].dataset.key
            ?? r.cells[arguments[1]].textContent)]"""
    order, keys = browser.run(click, 0, 1)
    assert order == "descending"
    assert [float(key) for key in keys] == sorted((float(key) for key in keys), reverse=True)
    assert len(set(keys)) == 6
    order, turned = browser.run(click, 0, 1)
    assert (order, turned) == ("ascending", keys[::-1])
    _, names = browser.run(click, 0, 0)
    assert names == sorted(names, key=str.lower, reverse=True)
    assert browser.log() == []
