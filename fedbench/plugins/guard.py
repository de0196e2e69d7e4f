"""Whatever a plug-in does wrong becomes one sentence: what failed, why, and at which line of its author's files.

Every attribute of a plug-in is read and every call of one is made, from its import to the dealing of rows, inside
`guarded`. What fails while a method trains is the failure of a run, whose error `trace` shows with the frames of the
plug-in alone.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import fedbench
from fedbench.errors import BadInput

PREFIX = "fedbench_plugin_"  # of the names under which plug-in files are imported
LONGEST = 300  # characters of an error's own text that are shown


@contextlib.contextmanager
def guarded(culprit: str, failed: str, remedy: str = "correct it there") -> Iterator[None]:
    """Raise BadInput, "`culprit` `failed`: why, where; `remedy`", for whatever is raised inside but Ctrl-C.

    SystemExit and other exceptions that `except Exception` misses are caught as well. A BadInput goes through.
    """
    try:
        yield
    except (BadInput, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise BadInput(f"{culprit} {failed}: {said(error)}{place(error)}; {remedy}") from None


def said(error: BaseException) -> str:
    """Type and text of an error in one printable line, e.g. `ValueError: no such file`."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code if error.code is not None else ''})"
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        text = "(its text cannot be made)"
    text = re.sub(PREFIX + r"\w{12}\.", "", f"{type(error).__name__}: {text}".removesuffix(": "))
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def trace(error: BaseException) -> str:
    """The lines of a plug-in's files that led to `error`, the innermost last, and the error; like a Python traceback.

    What happened inside of this package and of other libraries is left out; where nothing else happened it is shown.
    """
    frames = _frames(error) or list(traceback.extract_tb(error.__traceback__))[-3:]
    return "".join(traceback.format_list(traceback.StackSummary.from_list(frames))) + said(error)


def shown(path: str | Path) -> str:
    """`path` as it is shown: from the current folder on, where it is inside of it."""
    with contextlib.suppress(ValueError, OSError):
        return str(Path(path).relative_to(Path.cwd()))
    return str(path)


def line_of(cls: type, name: str) -> str:
    """Where a class gives `name` its annotation, value or body, ` (mine.py, line 12)`; empty where that is unknown."""
    with contextlib.suppress(Exception):
        file = inspect.getsourcefile(sys.modules[cls.__module__])
        assert file is not None
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[cls.__module__]))):
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                for item in node.body:
                    targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
                    function = isinstance(item, ast.FunctionDef) and item.name == name
                    if function or any(isinstance(target, ast.Name) and target.id == name for target in targets):
                        return f" ({shown(file)}, line {item.lineno})"
    return ""


def place(error: BaseException) -> str:
    """` (mine.py, line 3, in load)`, the author's innermost frame, and the outermost where that is elsewhere."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({shown(error.filename)}, line {error.lineno})"
    frames = _frames(error)
    if not frames:
        return ""
    places = [f"{shown(f.filename)}, line {f.lineno}, in {f.name}" for f in (frames[-1], frames[0])]
    inner, outer = places
    return f" ({inner})" if len(frames) == 1 or inner == outer else f" ({inner}, called from {outer})"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if _is_authors(frame.filename)]


@cache
def _is_authors(file: str) -> bool:
    """Whether `file` is part of a plug-in, and not of this package, of a library or of Python."""
    package = Path(fedbench.__file__).resolve().parent
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    if path.is_relative_to(package):
        return path.is_relative_to(package / "methods") or path.is_relative_to(package / "datasets")
    for installed in ("site-packages", "dist-packages"):
        if installed in path.parts:
            first = path.parts[path.parts.index(installed) + 1]
            groups = ("fedbench.methods", "fedbench.datasets", "fedbench.partitions", "fedbench.networks")
            points = [point for group in groups for point in entry_points(group=group)]
            return first.removesuffix(".py") in {point.module.partition(".")[0] for point in points}
    return not path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())
