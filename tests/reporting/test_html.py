"""The page in a real browser: headless Chromium, driven over WebDriver's plain HTTP."""

from __future__ import annotations

import json
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
        self.call("/url", {"url": page.as_uri()})

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


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)])
def test_nothing_is_wrong_at_desktop_and_phone_width(browser: Browser, page: Path, width: int, height: int) -> None:
    browser.open(page, width, height)
    assert browser.log() == []
    assert browser.run("return document.title") == "fedbench: Results"
    assert browser.run("return document.documentElement.scrollWidth") <= width
    cut_off = """
        return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll"))
            .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.run(cut_off) == []
    shut = "return [...document.images].filter(i => { i.loading = 'eager'; return false; }).length"
    browser.run(shut)
    time.sleep(0.5)
    assert browser.run("return [...document.images].length") == 6
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
