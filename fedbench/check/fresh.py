"""The method in fresh processes, where nothing of what happened in this one is known.

One process answers the recorded calls of client functions and no others, last ones first, then goes on from a
checkpoint; a second one does so with the server functions, then makes the whole run. Each has a `PYTHONHASHSEED` of its
own. A body handed over in a global, a cache that remembers the server's state, an order that is that of a set: all
that shows there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedbench.check.process import changed, opened, process_state
from fedbench.check.processes import HASHES, start
from fedbench.check.sentence import Broken
from fedbench.check.subject import Subject, numbers, one_round, run
from fedbench.check.watched import CLIENT, SERVER, Call, packed
from fedbench.plugins import Plugin
from fedbench.plugins.files import load_file
from fedbench.runs import checkpoint

PARTS = {"clients": (CLIENT, HASHES[0]), "server": (SERVER, HASHES[1])}  # what is called, and the PYTHONHASHSEED
CALLS = 60  # so many calls of each function are repeated
PATIENCE = 300  # seconds


def address(cls: type[Any]) -> dict[str, str] | None:
    """Where a fresh process finds the class; None where it cannot, as in a function or a notebook."""
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        return None
    if file is None or "<locals>" in cls.__qualname__ or cls.__module__ == "__main__" or not Path(file).is_file():
        return None
    return {"module": cls.__module__, "file": str(Path(file).resolve()), "qualname": cls.__qualname__}


def find(where: dict[str, str]) -> Any:
    """The class at an `address`: by import where its module can be imported, else by its file."""
    module = None
    try:
        spec = importlib.util.find_spec(where["module"])
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin and Path(spec.origin).resolve() == Path(where["file"]):
        module = importlib.import_module(where["module"])
    found: Any = module or load_file(Path(where["file"]))
    for name in where["qualname"].split("."):
        found = getattr(found, name)
    return found


@dataclass
class Elsewhere:
    """The two processes, under way."""

    folder: tempfile.TemporaryDirectory[str]
    processes: dict[str, subprocess.Popen[bytes]]
    asked: dict[str, list[Call]]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, part: str) -> dict[str, Any]:
        """What the process `part` found: `left`, `opened`, `results` and `numbers`. Raises Broken where it failed."""
        if part not in self.answers:
            self.answers[part] = self._wait(part)
        answer = self.answers[part]
        if "error" in answer:
            raise Broken(f"in a fresh process: {answer['error']}", answer["function"])
        return answer

    def __del__(self) -> None:
        for process in self.processes.values():  # nobody will ask any more
            if process.poll() is None:
                process.kill()
                process.communicate()

    def _wait(self, part: str) -> dict[str, Any]:
        process, path = self.processes[part], Path(self.folder.name) / part
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"error": f"it was not done after {PATIENCE} seconds", "function": ""}
        if process.returncode != 0 or not path.with_suffix(".answer").exists():
            return {"error": output.decode(errors="replace").strip()[-300:], "function": ""}
        answer: dict[str, Any] = torch.load(path.with_suffix(".answer"), weights_only=True)
        return answer


def elsewhere(subject: Subject) -> Elsewhere | None:
    """The two processes, started when they are first asked for; None where the method cannot be found there."""
    found: Elsewhere | None = subject.once("elsewhere", lambda: _start(subject))
    return found


def _start(subject: Subject) -> Elsewhere | None:
    where = address(subject.plugin.cls)
    if where is None:
        return None
    folder = tempfile.TemporaryDirectory(prefix="fedbench-check-")
    engine = subject.engine()
    progress = engine.start()
    for _ in range(engine.rounds // 2):
        one_round(engine, progress)
    checkpoint.save(Path(folder.name) / "checkpoint", progress, {})
    processes, asked = {}, {}
    for part, (functions, seed) in PARTS.items():
        calls = [call for name in functions for call in subject.watched().results(name)[-CALLS:]]
        asked[part] = calls[::-1]
        path = Path(folder.name) / part
        request = {**where, "name": subject.plugin.name, "part": part}
        torch.save({**request, "calls": [[call.name, list(call.arguments)] for call in asked[part]]}, path)
        processes[part] = start(["-m", "fedbench.check.fresh", str(path)], seed)
    return Elsewhere(folder, processes, asked)


def _answer(path: Path) -> None:
    """What a fresh process does."""
    request = torch.load(path, weights_only=True)
    before = process_state()
    with opened(Path(request["file"]).parent) as found:
        cls = find(request)
    left = changed(before, process_state())
    torch.set_num_threads(1)
    subject = Subject(Plugin(request["name"], cls, request["name"], ""))
    function = ""
    try:
        method = subject.engine().method
        results = []
        for function, arguments in request["calls"]:
            results.append(packed(Call(function, tuple(arguments), None).again(method)))
        function, engine, progress = "", subject.engine(), None
        if request["part"] == "clients":
            progress, refusal = checkpoint.load(path.with_name("checkpoint"), {}, torch.device("cpu"))
            if progress is None:
                raise RuntimeError(f"the checkpoint cannot be loaded: {refusal}")
        answer = {"left": left, "opened": found, "results": results, "numbers": numbers(run(engine, progress))}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}", "function": function}
    torch.save(answer, path.with_suffix(".answer"))


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
