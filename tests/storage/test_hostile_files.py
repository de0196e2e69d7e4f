"""Files that hang, never end, or are made to break a reader: each is left out with a sentence, in little time."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError
from small_results import ROW, TEST

from fedbench import cli, storage
from fedbench.cli.config import read_config
from fedbench.errors import BadInput
from fedbench.experiments.schema import load
from fedbench.reporting import report
from fedbench.reporting.collection import collect
from fedbench.runs.settings_file import read_settings
from fedbench.storage import Failure, Spec, shown
from fedbench.storage.disk import LARGEST, read_bytes

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the time limit is an alarm")
SECONDS = 10


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """A reader that waits is interrupted, and its test fails."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


SPEC = Spec(
    method="fedavg",
    params={"local.lr": 0.005},
    dataset="digits",
    network="mlp-digits",
    partition="classes:per_client=2",
    clients=2,
    seed=1,
    visits=4,
    evaluate_every=2,
)
DEEP = 100_000


def good() -> dict[str, Any]:
    return copy.deepcopy(
        {
            "format": 2,
            "spec": SPEC.model_dump(mode="json"),
            "title": "FedAvg",
            "code": "0" * 16,
            "partition": "0",
            "best": {**ROW, "test": TEST},
            "earlier": [],
            "unseen": None,
            "history": [{**ROW, "seconds": 1.0}],
            "provenance": {"software": {"torch": "2.0"}},
        }
    )


def text(change: Callable[[dict[str, Any]], object] = lambda result: None) -> str:
    """A result with a change and a digest that fits."""
    result = good()
    change(result)
    result["digest"] = storage.digest(result)
    return json.dumps(result)


def replaced(part: str, value: str) -> str:
    """A result with the text `value` in the place of one: what no honest writer could make, so its digest is empty."""
    result = {**good(), "digest": ""}
    result["best"]["round"] = "HERE" if part == "round" else result["best"]["round"]
    result["provenance"] = "HERE" if part == "provenance" else {}
    result["spec"]["seed"] = "HERE" if part == "seed" else 1
    return json.dumps(result).replace('"HERE"', value)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def linked_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def content(made: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(made if isinstance(made, bytes) else made.encode())


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)  # of zeros that take no room


FILES: dict[str, Callable[[Path], object]] = {
    "pipe": a_pipe,
    "folder": lambda path: path.mkdir(),
    "link to a device that never ends": linked_to("/dev/urandom"),
    "link to a device of zeros": linked_to("/dev/zero"),
    "link to a terminal": linked_to("/dev/tty"),
    "link to itself": linked_to("result.json"),
    "link to nothing": linked_to("/no/such/file"),
    "too large": too_large,
    "not UTF-8": content(b'{"title": "\xff\xfe"}'),
    "brackets": content("[" * DEEP),
    "tables": content('{"a":' * DEEP + "1" + "}" * DEEP),
    "deep provenance": content(replaced("provenance", "[" * DEEP + "]" * DEEP)),
    "somewhat deep provenance": content(replaced("provenance", '{"a":' * 100 + "1" + "}" * 100)),
    "integer of 5000 digits": content(replaced("round", "9" * 5000)),
    "integer of 5000 digits for a seed": content(replaced("seed", "9" * 5000)),
    "integer of 5000 digits in provenance": content(replaced("provenance", '{"a": ' + "9" * 5000 + "}")),
    "counts beyond 53 bits": content(text(lambda r: r["best"]["test"].update(correct=[1, 2**60], total=[2, 2**60]))),
    "escape sequence in the title": content(text(lambda r: r.update(title="\x1b[2J\x1b]0;owned\x07FedAvg"))),
    "lines in the title": content(text(lambda r: r.update(title="Fed\n| Avg |\n"))),
    "long title": content(text(lambda r: r.update(title="x" * 100_000))),
    "formula for a title": content(text(lambda r: r.update(title="=HYPERLINK(A1)"))),
    "text that turns round": content(text(lambda r: r.update(title="Fed\u202egvA"))),
    "escape sequence in a hyperparameter": content(text(lambda r: r["spec"]["params"].update(note="\x1b[31m"))),
    "escape sequence in the network": content(text(lambda r: r["spec"].update(network="\x1b[31m"))),
    "formula for a partition": content(text(lambda r: r["spec"].update(partition="=1+1"))),
    "escape sequence in the provenance": content(text(lambda r: r.update(provenance={"commit": "\x1b[31m"}))),
    "no time of its end": content(text(lambda r: r["provenance"].update(finished=None))),
    "cut from a list": content(text(lambda r: r["provenance"].update(cut_from=[1]))),
    "a best row that is not in the history": content(text(lambda r: r["best"].update(val_accuracy=0.9))),
    "a best row that validation did not choose": content(
        text(lambda r: r["history"].append({**ROW, "round": 2, "visits": 6, "val_accuracy": 0.6, "seconds": 2.0}))
    ),
    "an earlier row that was not better": content(text(lambda r: r["earlier"].append({**ROW, "test": TEST}))),
    "a history that goes back": content(
        text(lambda r: r["history"].append({**ROW, "round": 0, "visits": 0, "val_accuracy": 0.1, "seconds": 2.0}))
    ),
    "numbers that are none": content(text(lambda r: r["best"]["test"].update(correct=[float("nan"), 1]))),
}


def lay(root: Path, make: Callable[[Path], object], name: str = "result.json") -> Path:
    path = root / "digits" / "fedavg" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    return path


def an_honest_one(root: Path) -> Path:
    return storage.write(root, storage.Result.model_validate_json(text()))


def one_sentence(error: BaseException | str) -> bool:
    said = str(error)
    return len(said) < 700 and all(c.isprintable() for c in said)


@pytest.mark.parametrize("kind", list(FILES))
def test_a_hostile_file_is_refused_in_a_sentence_and_others_are_used(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "results"
    path = lay(root, FILES[kind])
    an_honest_one(root)
    with pytest.raises(BadInput) as refusal:
        storage.read(path)
    assert one_sentence(refusal.value)
    found = collect(root)
    assert [run.title for run in found.runs] == ["FedAvg"]
    assert [line for line in found.left_out if not one_sentence(line)] == []
    assert len(found.left_out) == 1
    assert storage.heads(path.parent)  # the index goes round it as well


def test_a_report_over_all_of_them_is_made(tmp_path: Path) -> None:
    root = tmp_path / "results"
    for number, make in enumerate(FILES.values()):
        lay(root, make, f"{number}.json")
    an_honest_one(root)
    made = report(root, tmp_path / "out", figures=0)
    assert made.status == 1
    assert len(made.warnings) == len(FILES)
    assert len(made.runs) == 1


@pytest.mark.parametrize("kind", list(FILES))
def test_a_hostile_record_of_a_failure_is_left_out(kind: str, tmp_path: Path) -> None:
    an_honest_one(tmp_path)
    path = tmp_path / storage.WORK / "0123456789abcdef.error"
    path.parent.mkdir()
    FILES[kind](path)
    found = collect(tmp_path)
    assert found.failures == ()
    assert [one_sentence(line) for line in found.left_out] == [True]


def test_a_failure_is_told_in_one_printable_line() -> None:
    failure = Failure(spec=SPEC, details="Traceback\n" + "\x1b[2J" + "x" * 100_000)
    assert one_sentence(failure.message)


def test_a_result_in_the_place_of_another_run_is_left_out(tmp_path: Path) -> None:
    """Under another method, another data set or another identity; a file by itself may be called what it likes."""
    honest = an_honest_one(tmp_path)
    for place in ("digits/pfedhn", "mnist/fedavg", "digits/fedavg"):
        twin = tmp_path / place / (honest.name if place != "digits/fedavg" else "0123456789abcdef.json")
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(honest.read_bytes())
        assert storage.read(twin).spec == SPEC
        with pytest.raises(BadInput, match=f"holds the run that belongs to digits/fedavg/{honest.name}"):
            storage.read_in_place(twin)
    found = collect(tmp_path)
    assert len(found.runs) == 1
    assert len(found.left_out) == 3


def test_the_title_of_a_built_in_method_is_that_of_its_code(tmp_path: Path) -> None:
    path = storage.result_path(tmp_path, SPEC)
    path.parent.mkdir(parents=True)
    path.write_text(text(lambda result: result.update(title="Best of all")))
    assert [run.title for run in collect(tmp_path).runs] == ["FedAvg"]


@pytest.mark.parametrize("method", [{"title": "x" * 200}, {"title": "two\nlines"}])
def test_a_title_is_one_printable_line(method: dict[str, str]) -> None:
    line = shown(method["title"])
    assert one_sentence(line)
    assert len(line) <= 100
    assert shown(line) == line
    with pytest.raises(ValidationError):
        storage.Result.model_validate({**good(), **method, "digest": ""})


# ---------------------------------------------------------------- experiments

GOOD_EXPERIMENT = """\
title = "A table"
paper = "none"
caption = "what is shown"
metric = "pooled"
tables = ["grid"]
methods = ["fedavg"]
presets.smoke = {visits = 4, seeds = 1, evaluate_every = 2}

[[columns]]
name = "digits"
label = "digits"
dataset = "digits"
clients = 5
"""

EXPERIMENTS: dict[str, Callable[[Path], object]] = {
    **{kind: FILES[kind] for kind in ("pipe", "folder", "link to a device that never ends", "not UTF-8")},
    "too large": lambda path: path.write_text(GOOD_EXPERIMENT + "# " + "x" * 2**20),
    "brackets": content("a = " + "[" * DEEP),
    "tables": content("a = " + "{a = " * 5000 + "1" + "}" * 5000),
    "integer of 5000 digits": content("a = " + "9" * 5000),
    "lines in the title": content(GOOD_EXPERIMENT.replace('"A table"', '"A\\ntable"')),
    "escape sequence in the title": content(GOOD_EXPERIMENT.replace('"A table"', '"\\u001b[2J"')),
    "long title": content(GOOD_EXPERIMENT.replace('"A table"', f'"{"x" * 100_000}"')),
    "long label": content(GOOD_EXPERIMENT.replace('label = "digits"', f'label = "{"x" * 101}"')),
    "escape sequence in the caption": content(GOOD_EXPERIMENT.replace('"what is shown"', '"\\u001b[2J"')),
}


def test_an_honest_experiment_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD_EXPERIMENT)
    assert load(str(tmp_path / "mine.toml")).title == "A table"


@pytest.mark.parametrize("kind", list(EXPERIMENTS))
def test_a_hostile_experiment_file_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    EXPERIMENTS[kind](path)
    with pytest.raises(BadInput) as refusal:
        load(str(path))
    assert one_sentence(refusal.value)


TOML = ("pipe", "folder", "link to a device that never ends", "not UTF-8", "too large", "brackets", "tables")


@pytest.mark.parametrize("kind", [*TOML, "integer of 5000 digits"])
def test_every_reader_of_toml_refuses_a_hostile_file_in_a_sentence(kind: str, tmp_path: Path) -> None:
    """Of options and of settings as of experiments."""
    path = tmp_path / "mine.toml"
    EXPERIMENTS[kind](path)
    context = typer.Context(typer.main.get_command(cli.app))
    for read in (lambda: read_settings(path), lambda: read_config(context, path)):
        with pytest.raises(BadInput) as refusal:
            read()
        assert one_sentence(refusal.value)


def test_a_file_that_grows_while_it_is_read_is_not_read_without_end(tmp_path: Path) -> None:
    """As those of /proc, whose size is 0: the limit is on what comes."""
    endless = Path("/proc/self/maps") if sys.platform.startswith("linux") else tmp_path / "some"
    if not sys.platform.startswith("linux"):
        endless.write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match="too much"):
        read_bytes(endless, 10)
