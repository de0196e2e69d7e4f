"""Plug-ins given as classes, from Python: found again by a text like all others, but in this process only.

A class of a file of its own is found through its file. One that was defined in a notebook or in the script that runs
has no file that a worker process could import; its code hash covers the class and whatever it uses that was defined
beside it.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import linecache
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from joblib.hashing import NumpyHasher
from torch import Tensor

from fedbench.errors import BadInput, canonical
from fedbench.plugins.finding import GIVEN, Plugin, defined, find, names
from fedbench.plugins.fingerprint import code_hash, meaning_of

_number = count(1)


def text_of(kind: str, given: str | Path | type[Any]) -> str:
    """The text by which `find` finds a plug-in that was given as a class; a text stays as it is.

    Raises BadInput for a class that is no plug-in of `kind`, whose name is taken, or whose source is not known.
    """
    if isinstance(given, str | Path):
        return str(given)
    if not isinstance(given, type):
        raise BadInput(f"{given!r} is no {kind}: give a name, a file or a class")
    return _name_or_file(kind, given) or _kept(kind, given)


def _name_or_file(kind: str, cls: type[Any]) -> str | None:
    """The name or file that finds the very class `cls`, where there is one."""
    module = sys.modules.get(cls.__module__)
    if module is None or module.__name__ == "__main__":
        return None
    name = canonical(module.__name__.rpartition(".")[2])
    if module.__name__.startswith(f"fedbench.{kind}s.") and name in names(kind) and find(kind, name).cls is cls:
        return name
    file = getattr(module, "__file__", None)
    try:
        found = find(kind, file) if file and file.endswith(".py") else None
    except BadInput:  # of several classes, or with imports that need its package
        return None
    return found.where if found is not None and found.cls.__qualname__ == cls.__qualname__ else None


def _kept(kind: str, cls: type[Any]) -> str:
    name = canonical(cls.__name__)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,79}", name):
        raise BadInput(f"{cls.__name__!r} is no name for a {kind}: use letters, digits and _ only, at most 80")
    if name in names(kind):
        raise BadInput(f"the class {cls.__name__} has the name of the built-in {kind} {name!r}: rename it")
    alone = ModuleType(cls.__module__)
    vars(alone)[cls.__name__] = cls
    defined(alone, kind, f"the class {cls.__name__}")  # is it a plug-in of this kind?
    digest = hashlib.sha256()
    for part in _parts(cls):
        digest.update(part.encode())
    text = f"<class {cls.__name__}, {next(_number)}>"
    GIVEN[text] = Plugin(name, cls, text, digest.hexdigest()[:16])
    return text


def _parts(cls: type[Any]) -> Iterator[str]:
    """What decides what `cls` computes: its source, and that of all that it uses and the user has defined."""
    waiting: list[tuple[str, Any]] = [(cls.__name__, cls)]
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, (type, FunctionType, ModuleType)):
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, type) and value.__module__ == cls.__module__:
            waiting += [(base.__name__, base) for base in value.__mro__[1:]]
        if isinstance(value, ModuleType):
            if _is_users(value):
                yield f"{name} = {code_hash(value)}"
        elif isinstance(value, (type, FunctionType)):
            if value.__module__ == cls.__module__:
                tree = ast.parse(inspect.cleandoc("\n" + _source(value)))
                yield repr(meaning_of(tree))
                known = _namespace(value)
                used = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
                waiting += [(each, known[each]) for each in used if each in known]
            elif (module := sys.modules.get(value.__module__)) is not None:
                waiting.append((name, module))
        elif isinstance(value, partial):
            words = sorted(value.keywords)
            yield f"{name} gets {len(value.args)} values, and {words}"
            waiting += [(name, each) for each in (value.func, *value.args, *(value.keywords[word] for word in words))]
        elif callable(value) and hasattr(value, "__wrapped__"):  # by functools.cache and the like
            waiting.append((name, value.__wrapped__))
        elif inspect.isroutine(value):  # of Python or of a library
            continue
        else:
            if type(value).__module__ == cls.__module__:
                waiting.append((type(value).__name__, type(value)))
            try:
                yield f"{name} = {_Hasher(hash_name='md5').hash(value)}"
            except Exception:
                why = f"a {type(value).__name__} whose value cannot be told: make it a field"
                raise BadInput(f"{cls.__name__} uses {name}, {why}") from None


class _Hasher(NumpyHasher):  # type: ignore[misc]
    """joblib's hash of a value, by which equal tensors are equal: what torch pickles of them has addresses in it."""

    def save(self, obj: Any) -> None:
        """Write what tells `obj` from other values."""
        if isinstance(obj, Tensor):
            numbers = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            obj = (type(obj).__name__, str(obj.dtype), tuple(obj.shape), obj.requires_grad, numbers)
        super().save(obj)


def _namespace(value: type[Any] | FunctionType) -> dict[str, Any]:
    """What the names in the source of a class or function stand for, built-in ones aside."""
    functions = (
        [value] if isinstance(value, FunctionType) else [f for f in vars(value).values() if inspect.isroutine(f)]
    )
    known = dict(vars(sys.modules[value.__module__]))
    for function in map(inspect.unwrap, (getattr(f, "__func__", f) for f in functions)):
        if isinstance(function, FunctionType):
            known |= inspect.getclosurevars(function).nonlocals
    return {name: found for name, found in known.items() if found is not vars(builtins).get(name, known)}


def _is_users(module: ModuleType) -> bool:
    """Whether a module is the user's own, or a plug-in: not part of Python, of an installed package, of the engine."""
    if module.__name__.startswith(("fedbench.methods.", "fedbench.datasets.")):
        return True
    file = getattr(module, "__file__", None)
    installed = [sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")]
    return (
        file is not None
        and file.endswith(".py")
        and module.__name__.partition(".")[0] != "fedbench"
        and not any(Path(file).is_relative_to(folder) for folder in installed)
    )


def _source(value: type[Any] | FunctionType) -> str:
    """The source text of a class or function. In a notebook `inspect` knows functions only, and not all classes."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        pass
    for lines in reversed([entry[2] for entry in linecache.cache.values() if len(entry) == 4]):
        text = "".join(lines)
        if f"class {value.__name__}" in text:
            for node in reversed(ast.parse(text).body):
                if isinstance(node, ast.ClassDef) and node.name == value.__name__:
                    return ast.unparse(node)
    raise BadInput(
        f"the source of {value.__name__} is not known, and a result must say by what code it was made: write it to a "
        f"file and give the file, e.g. methods=['my_method.py']"
    )
