"""The rooms of the package and the arrows between them, read off the import statements.

Flat files are what a plug-in may import; folders are how it is run. What only a type checker reads is left out.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import fedbench

ROOT = Path(fedbench.__file__).resolve().parent
PLUGINS = ("fedbench.methods", "fedbench.datasets")  # folders beside the package

# which rooms a room may import; whoever adds an arrow decides it here, and a circle is refused whatever stands here
ARROWS = {
    "flat": set[str](),
    "partitions": {"flat"},
    "plugins": {"flat", "partitions"},
    "storage": {"flat"},
    "training": {"flat", "partitions"},
    "experiments": {"flat", "storage"},
    "runs": {"flat", "partitions", "plugins", "storage", "training", "experiments"},
    "reporting": {"flat", "partitions", "plugins", "storage", "experiments", "runs"},
    "check": {"flat", "partitions", "plugins", "storage", "training", "runs"},
    "api": {"flat", "plugins", "storage", "experiments", "runs", "reporting", "check"},
    "cli": {"flat", "partitions", "plugins", "storage", "experiments", "runs", "reporting", "check", "api"},
}


def modules() -> dict[str, Path]:
    """The modules of the package by dotted name; a package by its own."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(source: str, at_once: bool = False) -> set[str]:
    """What `source` imports, wherever in the file, or `at_once`: dotted names of modules, or of what is in them."""
    tree = ast.parse(source)
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    unread = {id(inner) for block in blocks for line in block.body for inner in ast.walk(line)}
    if at_once:
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        unread |= {id(inner) for function in functions for inner in ast.walk(function)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "fedbench"}


def module_of(name: str) -> str:
    """The module that an imported name is, or is in."""
    while name not in MODULES and not name.startswith(PLUGINS):
        name = name.rpartition(".")[0]
    return name


def room_of(module: str) -> str | None:
    """The room of a module; None for the package itself, which offers names of several rooms."""
    _, _, inner = module.partition(".")
    first = inner.split(".")[0]
    if first in ("", "__main__"):
        return None
    return first if first == "api" or (ROOT / first).is_dir() else "flat"


@cache
def graph(at_once: bool = False) -> dict[str, set[str]]:
    """The modules that each module imports."""
    return {
        name: {module_of(i) for i in imported(path.read_text(), at_once)} - {name} for name, path in MODULES.items()
    }


def refused(edges: dict[str, set[str]]) -> Iterator[str]:
    """The imports that ARROWS does not allow."""
    for name, targets in edges.items():
        for target in sorted(targets):
            start, end = room_of(name), room_of(target)
            if start and end and start != end and end not in ARROWS[start]:
                yield f"{name} imports {target}: {start} -> {end}"


def test_rooms_import_only_the_rooms_below() -> None:
    assert set(ARROWS) == {room for name in MODULES if (room := room_of(name))}
    assert list(refused(graph())) == []


def test_the_arrows_have_no_circle() -> None:
    assert next(iter(TopologicalSorter(ARROWS).static_order())) == "flat"


def test_no_module_imports_itself_through_others() -> None:
    """A package imports its modules, which may not import it back. Within a room a function may put an import off."""
    inside = {
        name: {target for target in targets if room_of(target) and not name.startswith(f"{target}.")}
        for name, targets in graph(at_once=True).items()
    }
    list(TopologicalSorter(inside).static_order())


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("fedbench.storage.disk", "from fedbench.runs import job", "storage -> runs"),
        ("fedbench.runs.plan", "def f():\n    from fedbench.reporting.report import render", "runs -> reporting"),
        ("fedbench.check.subject", "import fedbench.api", "check -> api"),
        ("fedbench.tree", "from fedbench.training import Engine", "flat -> training"),
    ],
)
def test_a_new_arrow_is_found(module: str, line: str, found: str) -> None:
    assert [text.rpartition(": ")[2] for text in refused({module: {module_of(i) for i in imported(line)}})] == [found]


def test_a_new_circle_is_found() -> None:
    with pytest.raises(CycleError):
        list(TopologicalSorter({**ARROWS, "runs": ARROWS["runs"] | {"reporting"}}).static_order())


def test_what_only_a_type_checker_reads_is_no_arrow() -> None:
    assert imported("if TYPE_CHECKING:\n    from fedbench import api\nelse:\n    import fedbench.cli") == {
        "fedbench.cli"
    }


def test_nothing_imports_a_plug_in_but_by_name() -> None:
    named = {name: [i for i in targets if i.startswith(PLUGINS)] for name, targets in graph().items()}
    assert {name: found for name, found in named.items() if found} == {}


@pytest.mark.parametrize("folder", ["methods", "datasets"])
def test_plug_ins_import_flat_files_and_their_siblings(folder: str) -> None:
    for path in sorted((ROOT.parent / folder).glob("*.py")):
        for name in imported(path.read_text()):
            assert name.startswith(f"fedbench.{folder}.") or room_of(module_of(name)) == "flat", (path.name, name)


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_no_package_exports_something_under_the_name_of_one_of_its_modules(name: str) -> None:
    """Otherwise `import package.module` would yield a function, or a function a module: whatever came last."""
    package = importlib.import_module(name)
    for info in pkgutil.iter_modules(package.__path__):
        if info.name == "__main__":
            continue
        before = getattr(package, info.name, None)
        module = importlib.import_module(f"{name}.{info.name}")
        assert getattr(package, info.name) is module
        assert before is None or isinstance(before, ModuleType), f"{name} exports {before} as {info.name}"
