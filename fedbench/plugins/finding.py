"""Finding plug-ins by name or by file.

A name stands for what the package brings, or for an entry point of the group `fedbench.methods`, `.datasets`,
`.partitions` or `.networks`; a text that ends in `.py` is a file. Workers look plug-ins up by the same text, so nothing
of them is pickled.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pydantic.dataclasses import is_pydantic_dataclass

from fedbench.dataset import Dataset
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.method import Method
from fedbench.models import ALIASES, NETWORKS
from fedbench.partition import Kind as PartitionKind
from fedbench.partitions import KINDS
from fedbench.plugins import files
from fedbench.plugins.fingerprint import code_hash
from fedbench.plugins.guard import guarded, line_of
from fedbench.plugins.naming import meant

# what each kind of plug-in is, in words, and the base class of those that are classes; a network is a function
WORDS = {"method": "method", "dataset": "data set", "partition": "partition", "network": "network"}
BASES: dict[str, type[Any]] = {"method": Method, "dataset": Dataset, "partition": PartitionKind}
BUILT_IN: dict[str, dict[str, Any]] = {"partition": KINDS, "network": NETWORKS}
NAME = r"[a-z0-9][a-z0-9-]{0,59}"  # also a folder's name, with room for more
RESERVED = ("all",)  # what stands for every method


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


class _Find:
    """`find(kind, text)`, which looks for nothing twice; `find.cache_clear()` forgets what was found."""

    def __call__(self, kind: str, text: str) -> Plugin:
        """The plug-in of a `kind` ("method", "dataset", "partition", "network"). Raises BadInput when there is none."""
        return _found(kind, text, str(Path.cwd()) if text.endswith(".py") else "")

    def cache_clear(self) -> None:
        _found.cache_clear()
        _modules.clear()


find = _Find()
_modules: dict[Path, ModuleType] = {}  # of plug-in files: one that defines several kinds is imported once


@cache
def _found(kind: str, text: str, folder: str) -> Plugin:
    """See `find`. `folder` is the current one, from which the path of a file may begin."""
    if text in GIVEN:
        return GIVEN[text]
    if text.endswith(".py"):
        path = existing(text, WORDS[kind])
        name = canonical(path.stem)
        if kind == "method" and name in RESERVED:
            raise BadInput(f"{text} cannot be a method: {name!r} stands for every method; rename the file")
        if name in names(kind) or (kind == "network" and name in ALIASES):
            raise BadInput(f"{text} has the name of the built-in {WORDS[kind]} {name!r}: rename the file")
        module = imported(path, text)
        found = defined(module, kind, text)
        if kind == "dataset":
            _from_its_folder(found, path.parent)
        return Plugin(name, _named(found, kind, name), str(path), hashed(module, text))
    name = canonical(text)
    name = ALIASES.get(name, name) if kind == "network" else name
    if name not in names(kind):
        other = meant(text, names(kind), lambda known: _title(kind, known))
        if other is not None:
            return find(kind, other)
        error = unknown_name(kind, text, names(kind))
        file = Path(f"{text.strip()}.py")
        if text.strip() and "\0" not in text and file.name == str(file) and len(text) < 200 and file.is_file():
            raise BadInput(f"{error}. There is a file {file}: write ./{file} for it")
        raise error
    if name in BUILT_IN.get(kind, {}):
        return Plugin(name, BUILT_IN[kind][name], name, "")
    if name in _built_in(kind):  # what is built in keeps its name
        with guarded(text, "cannot be imported"):
            module = importlib.import_module(f"fedbench.{kind}s.{name.replace('-', '_')}")
        return Plugin(name, defined(module, kind, name), name, hashed(module, text))
    return _installed(kind, name)


def _title(kind: str, name: str) -> str:
    try:
        return str(getattr(find(kind, name).cls, "title", ""))
    except BadInput:  # one that is installed and broken must not hide the others
        return ""


def known(kind: str, text: str) -> bool:
    """Whether `text` is the name of a plug-in of a `kind`."""
    name = canonical(text)
    return name in names(kind) or (kind == "network" and name in ALIASES)


def refresh() -> bool:
    """Forget the plug-ins that were found, where a file of one was edited since: they are read again. Whether one was.

    To be called where a comparison begins; within one, a plug-in is what it was when it was first found.
    """
    edited = files.changed()
    if edited:
        find.cache_clear()
    return edited


def existing(text: str, what: str = "plug-in") -> Path:
    """The plug-in file that `text` names, absolute.

    Raises BadInput where there is none, and where its name cannot be that of a plug-in (`what`, in words).
    """
    try:
        path = Path(text).expanduser().resolve()
        there, readable = path.is_file(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"{text!r} is no {what} file: {error}; give the path of one that ends in .py") from None
    if not there:
        problem = f"{text} is a folder and no {what} file" if readable else f"there is no {what} file {text}"
        raise BadInput(f"{problem}: give the path of a file that ends in .py")
    if not re.fullmatch(NAME, canonical(path.stem)):
        raise BadInput(f"{text}: {path.stem!r} is no name for a {what}: use up to 60 letters, digits, _ and - only")
    return path


def imported(path: Path, text: str) -> ModuleType:
    """The module of a plug-in file. Raises BadInput, with the line, where importing it fails in any way."""
    if path not in _modules:
        with guarded(text, "cannot be imported"):
            _modules[path] = files.load_file(path)
    return _modules[path]


def hashed(module: ModuleType, text: str) -> str:
    """The code hash of a plug-in's module."""
    with guarded(text, "cannot be read as Python source", "save it, and the modules it imports, as UTF-8 text"):
        return code_hash(module)


def _installed(kind: str, name: str) -> Plugin:
    points = [point for point in entry_points(group=f"fedbench.{kind}s") if canonical(point.name) == name]
    if len({point.value for point in points}) > 1:
        both = " and ".join(sorted(map(_package, points)))
        raise BadInput(f"the {WORDS[kind]} {name!r} is installed by {both}: remove one of these packages")
    where = f"the {WORDS[kind]} {name!r} of {_package(points[0])}"
    if not re.fullmatch(NAME, name):
        raise BadInput(f"{where} has no usable name: rename its entry point, with up to 60 letters, digits and dashes")
    with guarded(where, "cannot be imported", "repair or remove that package"):
        found = points[0].load()
    checked(found, kind, where)
    return Plugin(name, _named(found, kind, name), name, hashed(sys.modules[found.__module__], where))


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else point.value


def _from_its_folder(cls: type[Dataset], folder: Path) -> None:
    """A data set's own network and partition may be files, which lie beside it."""
    for attribute in ("network", "partition"):
        text: str = getattr(cls, attribute)
        file, dot_py, rest = text.partition(".py")
        if dot_py and (not rest or rest.startswith(":")):
            setattr(cls, attribute, str(folder / f"{file}.py") + rest)


def _named(found: Any, kind: str, name: str) -> Any:
    """A partition's class carries its name, which its text form begins with."""
    if kind == "partition":
        found.name = name
    return found


def kinds_defined(module: ModuleType) -> list[str]:
    """The kinds of plug-in that a module defines something of."""
    return [kind for kind in WORDS if _candidates(module, kind)]


def _candidates(module: ModuleType, kind: str) -> list[Any]:
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    if kind == "network":
        return [value for value in own if inspect.isfunction(value) and value.__name__ == "network"]
    classes = [value for value in own if isinstance(value, type) and issubclass(value, BASES[kind])]
    return list(dict.fromkeys(classes))


def defined(module: ModuleType, kind: str, text: str) -> Any:
    """The one plug-in of `kind` that `module` defines. Raises BadInput where it is not one, or lacks something."""
    with guarded(text, "cannot be looked at"):
        found = _candidates(module, kind)
        others = [other for other in kinds_defined(module) if other != kind]
    instead = f"; it defines a {' and a '.join(WORDS[other] for other in others)}" if others and not found else ""
    if kind == "network" and not found:
        raise BadInput(
            f"{text} must define a function `network(image, classes)` that returns a fedbench Network{instead}"
        )
    if len(found) != 1:
        which = ", ".join(cls.__name__ for cls in found) or "none"
        more = "; keep one here, and the others in a module beside it" if found else instead
        raise BadInput(f"{text} must define exactly one subclass of {BASES[kind].__name__}; it defines {which}{more}")
    checked(found[0], kind, text)
    return found[0]


def checked(found: Any, kind: str, text: str) -> None:
    """Raise BadInput where `found`, which is meant to be a plug-in of `kind`, is none, or lacks something."""
    if kind == "network":
        if not callable(found):
            raise BadInput(f"{text} is a {type(found).__name__} and must be a function `network(image, classes)`")
        return
    base = BASES[kind]
    with guarded(text, "cannot be looked at"):
        if not (isinstance(found, type) and issubclass(found, base) and found is not base):
            raise BadInput(f"{text} is {found!r:.100} and must be a subclass of {base.__module__}.{base.__name__}")
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise BadInput(
                f"{text}: {found.__name__} does not define {missing}; add it, with the arguments of {base.__name__}"
            )
        for name, right, example in FACTS[kind]:
            value = getattr(found, name, None)
            if not right(value):
                given = f"has no {name}" if value is None else f"has the {name} {value!r:.100}"
                where = f"{text}: {found.__name__} {given}{line_of(found, name)}"
                raise BadInput(
                    f"{where}: add `{name} = {example}` to the class"
                    if value is None
                    else f"{where}: write e.g. `{name} = {example}`"
                )
        if kind == "method" and "__dataclass_fields__" not in vars(found):
            raise BadInput(
                f"{text}: {found.__name__} lacks @dataclass(frozen=True, kw_only=True): write it above the class"
            )
        if kind == "partition" and not ("__dataclass_fields__" in vars(found) and is_pydantic_dataclass(found)):
            raise BadInput(
                f"{text}: {found.__name__} lacks @pydantic.dataclasses.dataclass(frozen=True): write it above the class"
            )
        if wrong := _unheard(found, base):
            raise BadInput(f"{text}: {wrong}")


def _unheard(found: type[Any], base: type[Any]) -> str:
    """What a class says that nobody would hear: a value that is no field's, a function that is never called."""
    fields = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else set()
    called = [name for name in vars(base) if not name.startswith("_")]
    for cls in (each for each in found.__mro__ if issubclass(each, base) and each is not base):
        annotated = inspect.get_annotations(cls)
        for name, value in vars(cls).items():
            wrong = ""
            if name in fields and name not in annotated:
                kind = type(value).__name__
                wrong = f"has no annotation, so that the default stays: write `{name}: {kind} = `"
            elif inspect.isfunction(value) and isinstance(inspect.getattr_static(base, name, None), property):
                wrong = "must be a property: write @property above it"
            elif isinstance(value, (property, FunctionType)) and not name.startswith("_") and not hasattr(base, name):
                near = get_close_matches(name, called, n=1, cutoff=0.9)
                wrong = f"is never called: is {near[0]} meant? if not, begin its name with _" if near else ""
            if wrong:
                return f"{cls.__name__}.{name}{line_of(cls, name)} {wrong}"
    return ""


def _text(value: object) -> bool:
    return isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _reasons(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


# the attributes of a class that are looked at: name, what it may be, and an example
FACTS: dict[str, list[tuple[str, Callable[[object], bool], str]]] = {
    "method": [
        ("title", _text, '"..."'),
        ("paper", _text, '"..."'),
        ("deviations", _reasons, '{"sentence of fedbench check": "reason"}'),
        ("mixed", _flag, "False"),
        ("depends_on_length", _flag, "False"),
    ],
    "dataset": [
        ("title", _text, '"..."'),
        ("source", _text, '"..."'),
        ("network", _text, '"lenet"'),
        ("clients", lambda value: value is None or _count(value), "10"),
        ("partition", _text, '"classes"'),
        ("classes_per_client", _count, "2"),
        ("cached", _flag, "False"),
        ("validation_rows", _count, "10_000"),
    ],
    "partition": [],
}
