"""The code hash of a plug-in: what its source computes, and that of plug-ins it imports."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from types import ModuleType


def code_hash(module: ModuleType) -> str:
    """A hash of what the source computes: comments, docstrings, layout and declared deviations aside.

    The plug-ins that it imports belong to it.
    """
    digest = hashlib.sha256()
    for source in _sources(module, set()):
        digest.update(repr(_meaning(ast.parse(source))).encode())
    return digest.hexdigest()[:16]


def _sources(module: ModuleType, seen: set[str]) -> Iterator[str]:
    seen.add(module.__name__)
    source = inspect.getsource(module)
    yield source
    for name in sorted(_plugins_imported(ast.parse(source), module.__name__) - seen):
        with contextlib.suppress(ModuleNotFoundError):  # a plug-in may be able to do without
            yield from _sources(importlib.import_module(name), seen)


def _plugins_imported(source: ast.Module, importer: str) -> set[str]:
    """The modules of `fedbench.methods` and `fedbench.datasets` that the source of the module `importer` imports."""
    found: list[str] = []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = importer.split(".")[: -node.level] if node.level else []  # of a relative import
            base = ".".join([*parents, *([node.module] if node.module else [])])
            inside = base in ("fedbench.methods", "fedbench.datasets")
            found += [f"{base}.{alias.name}" for alias in node.names] if inside else [base]
    return {name for name in found if name.startswith(("fedbench.methods.", "fedbench.datasets."))}


def _meaning(node: object) -> object:
    """A syntax tree as nested tuples without positions, docstrings and empty fields; equal in all Python versions."""
    if isinstance(node, list):
        return tuple(_meaning(item) for item in node if not _computes_nothing(item))
    if isinstance(node, ast.Constant):
        return ("Constant", ("value", node.value))  # None and "" too
    if isinstance(node, ast.AST):
        fields = ((name, _meaning(value)) for name, value in ast.iter_fields(node) if value not in (None, [], ""))
        return (type(node).__name__, *fields)
    return node


def _computes_nothing(node: object) -> bool:
    """Whether a statement is a docstring, or the declaration of deviations from the contract."""
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["deviations"]
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
