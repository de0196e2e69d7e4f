"""Finding plug-ins by name or by file, and their hyperparameters as plain data.

A name stands for a module of `fedbench.methods` or `fedbench.datasets`, or for an entry point of the group of that
name; a text that ends in `.py` is a file. Workers look plug-ins up by the same text, so nothing of them is pickled.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedbench.dataset import Dataset
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.method import Method

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Plugin:
    """A method or data set that was found: its name, its class, and the text that finds it again."""

    name: str
    cls: type[Any]
    where: str  # a name or an absolute file path
    code: str  # hash of what its source, and that of plug-ins it imports, says


@dataclass(frozen=True)
class Hyperparameter:
    """One settable value of a method; the fields of a nested group have dotted names."""

    name: str
    type: str
    default: Scalar
    meaning: str


def names(kind: str) -> list[str]:
    """The known names of `kind`, "method" or "dataset": built in, and from installed packages."""
    package = importlib.import_module(f"fedbench.{kind}s")
    built_in = (canonical(module.name) for module in pkgutil.iter_modules(package.__path__))
    installed = (canonical(point.name) for point in entry_points(group=f"fedbench.{kind}s"))
    return sorted({*built_in, *installed})


def find_method(text: str) -> Plugin:
    """The method called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return _find("method", text)


def find_dataset(text: str) -> Plugin:
    """The data set called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return _find("dataset", text)


@cache
def _find(kind: str, text: str) -> Plugin:
    if text.endswith(".py"):
        path = Path(text).expanduser().resolve()
        name = canonical(path.stem)
        if not path.is_file():
            raise BadInput(f"there is no {kind} file {text}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise BadInput(f"{text}: {path.stem!r} is no name for a {kind}: use letters, digits, _ and - only")
        if name in names(kind):
            raise BadInput(f"{text} has the name of the built-in {kind} {name!r}: rename the file")
        module = _imported(text, lambda: _load_file(path))
        return Plugin(name, _only_class(module, kind, text), str(path), _code_hash(module))
    name = canonical(text)
    if name not in names(kind):
        raise unknown_name(kind, text, names(kind))
    built_in = importlib.util.find_spec(f"fedbench.{kind}s.{name.replace('-', '_')}") is not None
    for point in entry_points(group=f"fedbench.{kind}s"):
        if canonical(point.name) == name and not built_in:  # what is built in keeps its name
            cls = _imported(text, point.load)
            return Plugin(name, cls, name, _code_hash(sys.modules[cls.__module__]))
    module = _imported(text, lambda: importlib.import_module(f"fedbench.{kind}s.{name.replace('-', '_')}"))
    return Plugin(name, _only_class(module, kind, name), name, _code_hash(module))


def _imported(text: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception:
        raise BadInput(f"{text} cannot be imported:\n{traceback.format_exc()}") from None


def _load_file(path: Path) -> ModuleType:
    name = f"fedbench_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _only_class(module: ModuleType, kind: str, text: str) -> type[Any]:
    base: type[Any] = {"method": Method, "dataset": Dataset}[kind]
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        which = ", ".join(cls.__name__ for cls in found) or "none"
        raise BadInput(f"{text} must define exactly one subclass of {base.__name__}; it defines {which}")
    if inspect.isabstract(found[0]):
        missing = ", ".join(sorted(vars(found[0])["__abstractmethods__"]))
        raise BadInput(f"{text}: {found[0].__name__} does not define {missing}")
    needed = {"method": ("title", "paper"), "dataset": ("title", "source", "network")}[kind]
    for attribute in needed:
        if not isinstance(getattr(found[0], attribute, None), str):
            raise BadInput(f'{text}: {found[0].__name__} has no {attribute}: add `{attribute} = "..."` to the class')
    if kind == "method" and "__dataclass_fields__" not in vars(found[0]):
        raise BadInput(f"{text}: {found[0].__name__} lacks @dataclass(frozen=True, kw_only=True)")
    return found[0]


def _code_hash(module: ModuleType) -> str:
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


# --- hyperparameters ------------------------------------------------------------------------------------------------


def hyperparameters(cls: type[Any]) -> list[Hyperparameter]:
    """The hyperparameters of a method, nested groups flattened to dotted names, in the order they are declared."""
    return list(_fields(cls, ""))


def _fields(cls: type[Any], prefix: str, values: object = None) -> Iterator[Hyperparameter]:
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "task":
            continue
        hint = hints[field.name]
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        meaning = " ".join(getattr(note, "description", None) or "" for note in typing.get_args(hint)[1:])
        default = field.default if values is None else getattr(values, field.name)
        if default is dataclasses.MISSING:
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(plain):
            assert isinstance(plain, type)
            yield from _fields(plain, f"{prefix}{field.name}.", default)
        else:
            yield Hyperparameter(prefix + field.name, _type_name(plain), default, meaning.strip())


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise BadInput(f"an annotation of {cls.__name__} cannot be read at run time: {error}") from None


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def configure(plugin: Plugin, settings: Mapping[str, object]) -> dict[str, Scalar]:
    """All hyperparameters of a method by dotted name: the defaults, and `settings` (text or values) over them.

    Raises BadInput for an unknown name, a wrong type, or a value out of its range.
    """
    known = {h.name: h.default for h in hyperparameters(plugin.cls)}
    for name in settings:
        if name not in known:
            raise unknown_name(f"hyperparameter of {plugin.name}", name, known)
    cleaned = {
        key: None if isinstance(value, str) and value.lower() == "none" else value for key, value in settings.items()
    }
    return _flatten(_validated(plugin, {**known, **cleaned}))


def build(plugin: Plugin, task: Any, params: Mapping[str, object]) -> Method:
    """The method with the hyperparameters `params` (dotted names), for `task`."""
    method: Method = plugin.cls(task=task, **_validated(plugin, params))
    return method


def _validated(plugin: Plugin, params: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in params.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    hints = _hints(plugin.cls)
    values = {}
    for name, value in nested.items():
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join([plugin.name, name, *map(str, problem["loc"])])
            raise BadInput(f"{where}={problem['input']}: {problem['msg'].lower()}") from None
    return values


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(
                _flatten({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, f"{prefix}{name}.")
            )
        elif isinstance(value, Scalar):
            flat[prefix + name] = value
        else:
            kinds = "a number, a text, true or false, none, or a dataclass of these"
            raise BadInput(f"the hyperparameter {prefix}{name} is a {type(value).__name__}: use {kinds}")
    return flat
