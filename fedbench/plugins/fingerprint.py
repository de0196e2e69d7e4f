"""The code hash of a plug-in: what its source computes, and that of plug-ins it imports."""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType

from fedbench.plugins import files


def code_hash(module: ModuleType) -> str:
    """A hash of what the source computes: comments, docstrings, layout and declared deviations aside.

    The plug-ins that it imports belong to it, and so do modules of its author's: those beside a plug-in file, and those
    of the package that a plug-in was installed with.
    """
    digest = hashlib.sha256()
    for _, source in _sources(module.__name__, set()):
        digest.update(repr(meaning_of(ast.parse(source))).encode())
    return digest.hexdigest()[:16]


def own_files(module: ModuleType) -> list[Path]:
    """The files of a plug-in file's module that belong to its code hash: itself, and the modules of its folder."""
    package = module.__name__.partition(".")[0]
    names = [name for name, _ in _sources(module.__name__, set()) if name.startswith(f"{package}.")]
    specs = [importlib.util.find_spec(name) for name in names]
    return [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]


def _sources(name: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """The modules that belong to the hash of the one called `name`, and their source."""
    seen.add(name)
    source, package = _source(name)
    yield name, source
    for other in sorted(_plugins_imported(ast.parse(source), name, package) - seen):
        yield from _sources(other, seen)


def _source(name: str) -> tuple[str, str]:
    """The source of a module, and the package that its relative imports begin from; read without executing it."""
    module = sys.modules.get(name)
    spec = module.__spec__ if module is not None else importlib.util.find_spec(name)
    package = spec.parent or "" if spec is not None else ""
    if module is not None:
        with contextlib.suppress(OSError):  # raised for an empty file as well
            return inspect.getsource(module), package
    loader = spec.loader if spec is not None else None
    source = loader.get_source(name) if isinstance(loader, InspectLoader) else None
    if source is None:
        raise OSError(f"the source of {name} is not there")
    return source, package


def _plugins_imported(source: ast.Module, importer: str, package: str) -> set[str]:
    """The plug-ins, and the modules of the same author, that the source of the module `importer` imports.

    `package` is what relative imports in it begin from.
    """
    found: list[str] = []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                with contextlib.suppress(ImportError):  # above the top, which fails where it is executed
                    base = importlib.util.resolve_name("." * node.level + base, package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    everything = {part for name in found for part in _with_parents(files.beside(importer, name) or name)}
    return {name for name in everything if _of_a_family(name, importer) and _is_module(name)}


def _with_parents(name: str) -> list[str]:
    """`a.b.c`, and `a.b` and `a`, which are imported before it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _of_a_family(name: str, importer: str) -> bool:
    """Whether the module called `name` belongs to the hash of those that import it."""
    top = importer.partition(".")[0]
    if top != "fedbench" and name.partition(".")[0] == top:
        return True  # the package itself as well: its `__init__` may hold what decides numbers
    return name.startswith(("fedbench.methods.", "fedbench.datasets."))


def _is_module(name: str) -> bool:
    """Whether there is a module called `name`, and not only something of that name inside of one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a plug-in may be able to do without
        return False
    return spec is not None and spec.origin is not None and spec.origin.endswith(".py")


def meaning_of(node: object) -> object:
    """A syntax tree as nested tuples without positions, docstrings and empty fields; equal in all Python versions."""
    if isinstance(node, list):
        return tuple(meaning_of(item) for item in node if not _is_docstring(item))
    if isinstance(node, ast.Constant):
        return ("Constant", ("value", node.value))  # None and "" too
    if isinstance(node, ast.ClassDef):
        node = copy.copy(node)
        node.body = [statement for statement in node.body if not _declares_deviations(statement)]
    if isinstance(node, ast.AST):
        fields = ((name, meaning_of(value)) for name, value in ast.iter_fields(node) if value not in (None, [], ""))
        return (type(node).__name__, *fields)
    return node


def _is_docstring(node: object) -> bool:
    """Whether a statement is a text and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _declares_deviations(statement: ast.stmt) -> bool:
    """Whether a statement of a class is its declaration of deviations from the contract, with an annotation or not."""
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target) == "deviations"
    return isinstance(statement, ast.Assign) and [ast.unparse(each) for each in statement.targets] == ["deviations"]
