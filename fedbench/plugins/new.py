"""`fedbench new KIND NAME`: a commented plug-in to start from, which passes its checks as it stands.

The texts are in `templates`: one file a kind, and the test that is written beside it.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import keyword
import re
import sys
from pathlib import Path

from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.plugins.finding import NAME, RESERVED, WORDS, known

TEMPLATES = Path(__file__).with_name("templates")


def new(kind: str, name: str, folder: Path = Path()) -> tuple[Path, Path]:
    """Write `folder/NAME.py`, a plug-in of `kind` ("method", "dataset", ...), and `folder/test_NAME.py`; their paths.

    Raises BadInput for a name that is not letters, digits, `-` and `_`, that a plug-in or a module of Python has, or
    whose files are there already. Where one file cannot be written, neither is left.
    """
    if kind not in WORDS:
        raise unknown_name("kind of plug-in", kind, WORDS)
    plain = canonical(name)
    if not re.fullmatch(NAME, plain) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plain):
        use = f"use up to 60 letters, digits and single dashes, e.g. my-{kind}"
        raise BadInput(f"{name!r} is no name for a {WORDS[kind]}: {use}")
    if known(kind, plain) or plain in RESERVED:
        raise BadInput(f"there is a {WORDS[kind]} called {plain!r} already: choose another name")
    module = plain.replace("-", "_")
    if _hides(module, folder):
        raise BadInput(
            f"a file {module}.py would hide Python's module {module!r}: choose another name, e.g. my-{plain}"
        )
    text = (TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8")
    words = [word.capitalize() for word in plain.split("-")]
    values = {
        "NAME": plain,
        "MODULE": module,
        "CLASS": _class_name("".join(words), text),
        "TITLE": "-".join(words),
    }
    test = (TEMPLATES / "test.py.txt").read_text(encoding="utf-8")
    paths = folder / f"{module}.py", folder / f"test_{module}.py"
    for path in paths:
        if path.exists():
            raise BadInput(f"{path} is there already, and is not overwritten")
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in zip(paths, (text, test), strict=True):
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(_filled(template, values))
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise BadInput(f"{folder} cannot be written to: {error.strerror}; choose another --folder") from None
    return paths


def new_method(name: str, folder: Path = Path()) -> tuple[Path, Path]:
    """Write a method to start from, and its test: see `new`."""
    return new("method", name, folder)


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub(r"__([A-Z]+)__", lambda found: values[found[1]], template)


def _class_name(name: str, template: str) -> str:
    """`name`, or a longer one where the template uses it for something else or Python has a meaning for it."""
    words = set(re.findall(r"\w+", template)) | set(dir(builtins)) | set(keyword.kwlist)
    return f"{name}Plugin" if name in words else name


def _hides(module: str, folder: Path) -> bool:
    """Whether Python or something installed has a module of this name, whose place a file would take."""
    if module in sys.stdlib_module_names or module == "fedbench":
        return True
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    if spec is None or spec.origin is None:
        return False
    return not Path(spec.origin).resolve().is_relative_to(folder.resolve())
