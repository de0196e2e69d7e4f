"""Finding plug-ins by name or by file.

A name stands for what the package brings, or for an entry point of the group `fedbench.methods`, `.datasets`,
`.partitions` or `.networks`; a text that ends in `.py` is a file. Workers look plug-ins up by the same text, so nothing
of them is pickled.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from fedbench.dataset import Dataset
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.method import Method
from fedbench.models import ALIASES, NETWORKS
from fedbench.partition import Kind as PartitionKind
from fedbench.partitions import KINDS
from fedbench.plugins.fingerprint import code_hash

# what each kind of plug-in is, in words, and the base class of those that are classes; a network is a function
BASES: dict[str, type[Any]] = {"method": Method, "dataset": Dataset, "partition": PartitionKind}
TEXTS = {"method": ("title", "paper"), "dataset": ("title", "source", "network"), "partition": (), "network": ()}
BUILT_IN: dict[str, dict[str, Any]] = {"partition": KINDS, "network": NETWORKS}


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was found: its name, its class (of a network the function), and the text that finds it again."""

    name: str
    cls: Any
    where: str  # a name or an absolute file path
    code: str  # hash of what its source, and that of plug-ins it imports, says; empty for a part of the package itself


GIVEN: dict[str, Plugin] = {}  # classes that only this process knows, by the text that stands for them


def names(kind: str) -> list[str]:
    """The known names of `kind`, e.g. "method": built in, and from installed packages."""
    return sorted({*_built_in(kind), *(canonical(point.name) for point in entry_points(group=f"fedbench.{kind}s"))})


def _built_in(kind: str) -> Iterable[str]:
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    package = importlib.import_module(f"fedbench.{kind}s")
    return (canonical(module.name) for module in pkgutil.iter_modules(package.__path__))


def find_method(text: str) -> Plugin:
    """The method called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return find("method", text)


def find_dataset(text: str) -> Plugin:
    """The data set called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return find("dataset", text)


def find_partition(text: str) -> Plugin:
    """The kind of partition called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return find("partition", text)


def find_network(text: str) -> Plugin:
    """The network called `text`, or defined by the file `text`. Raises BadInput when there is none."""
    return find("network", text)


@cache
def find(kind: str, text: str) -> Plugin:
    """The plug-in of a `kind` ("method", "dataset", "partition", "network"). Raises BadInput when there is none."""
    if text in GIVEN:
        return GIVEN[text]
    if text.endswith(".py"):
        path = Path(text).expanduser().resolve()
        name = canonical(path.stem)
        if not path.is_file():
            raise BadInput(f"there is no {kind} file {text}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            raise BadInput(f"{text}: {path.stem!r} is no name for a {kind}: use letters, digits, _ and - only")
        if name in names(kind) or (kind == "network" and name in ALIASES):
            raise BadInput(f"{text} has the name of the built-in {kind} {name!r}: rename the file")
        module = _imported(text, lambda: load_file(path))
        return Plugin(name, _named(defined(module, kind, text), kind, name), str(path), code_hash(module))
    name = canonical(text)
    name = ALIASES.get(name, name) if kind == "network" else name
    if name not in names(kind):
        raise unknown_name(kind, text, names(kind))
    if name in BUILT_IN.get(kind, {}):
        return Plugin(name, BUILT_IN[kind][name], name, "")
    built_in = name in _built_in(kind)
    for point in entry_points(group=f"fedbench.{kind}s"):
        if canonical(point.name) == name and not built_in:  # what is built in keeps its name
            found = _imported(text, point.load)
            return Plugin(name, _named(found, kind, name), name, code_hash(sys.modules[found.__module__]))
    module = _imported(text, lambda: importlib.import_module(f"fedbench.{kind}s.{name.replace('-', '_')}"))
    return Plugin(name, defined(module, kind, name), name, code_hash(module))


def _imported(text: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception:
        raise BadInput(f"{text} cannot be imported:\n{traceback.format_exc()}") from None


def load_file(path: Path) -> ModuleType:
    """The module that the file `path` defines, under a name of its own."""
    name = f"fedbench_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _named(found: Any, kind: str, name: str) -> Any:
    """A partition's class carries its name, which its text form begins with."""
    if kind == "partition":
        found.name = name
    return found


def kinds_defined(module: ModuleType) -> list[str]:
    """The kinds of plug-in that a module defines something of."""
    return [kind for kind in ("method", "dataset", "partition", "network") if _candidates(module, kind)]


def _candidates(module: ModuleType, kind: str) -> list[Any]:
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    if kind == "network":
        return [value for value in own if inspect.isfunction(value) and value.__name__ == "network"]
    return [value for value in own if isinstance(value, type) and issubclass(value, BASES[kind])]


def defined(module: ModuleType, kind: str, text: str) -> Any:
    """The one plug-in of `kind` that `module` defines. Raises BadInput where it is not one, or lacks something."""
    found = _candidates(module, kind)
    if kind == "network":
        if not found:
            raise BadInput(f"{text} must define a function `network(image, classes)` that returns a fedbench Network")
        return found[0]
    if len(found) != 1:
        which = ", ".join(cls.__name__ for cls in found) or "none"
        raise BadInput(f"{text} must define exactly one subclass of {BASES[kind].__name__}; it defines {which}")
    if inspect.isabstract(found[0]):
        missing = ", ".join(sorted(vars(found[0])["__abstractmethods__"]))
        raise BadInput(f"{text}: {found[0].__name__} does not define {missing}")
    for attribute in TEXTS[kind]:
        if not isinstance(getattr(found[0], attribute, None), str):
            raise BadInput(f'{text}: {found[0].__name__} has no {attribute}: add `{attribute} = "..."` to the class')
    if kind == "method" and "__dataclass_fields__" not in vars(found[0]):
        raise BadInput(f"{text}: {found[0].__name__} lacks @dataclass(frozen=True, kw_only=True)")
    if kind == "partition" and "__dataclass_fields__" not in vars(found[0]):
        raise BadInput(f"{text}: {found[0].__name__} lacks @pydantic.dataclasses.dataclass(frozen=True)")
    return found[0]
