"""Plug-in files, and the modules beside them.

`./mine.py` may import `helper.py` or the package `tools/` that lie in its folder, as a script may. Each plug-in file
has a package of its own, `fedbench_plugin_HASH`, whose path is that folder: its modules are known to Python as members
of it, so that two folders may each have a `helper.py`. Modules of the standard library and fedbench are never taken
from the folder; others are, before installed ones. A folder without `__init__.py` comes after installed ones.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from fedbench.plugins.guard import PREFIX

Stamp = tuple[int, int]  # of a file: when it was changed (ns), and its size
_loaded: dict[str, Stamp] = {}  # files that were imported, as they were then


def load_file(path: Path) -> ModuleType:
    """The module that the file `path` defines, read afresh, and so are the modules beside it that it imports."""
    root = PREFIX + hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
    _drop(root)
    package = ModuleType(root)
    package.__path__ = [str(path.parent)]
    sys.modules[root] = package
    try:
        return importlib.import_module(f"{root}.{path.stem}")
    except BaseException:
        _drop(root)
        raise


def _drop(root: str) -> None:
    for name in [name for name in sys.modules if name == root or name.startswith(f"{root}.")]:
        del sys.modules[name]


def changed() -> bool:
    """Whether a file that was imported is not what it was then; forgets that it was."""
    files = [file for file, stamp in _loaded.items() if _stamp(file) != stamp]
    for file in files:
        del _loaded[file]
    return bool(files)


def _stamp(file: str) -> Stamp | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def beside(importer: str, name: str) -> str | None:
    """The full name of the module that `name` means to the module `importer` of a plug-in file's folder.

    None where it means what it means to everybody else.
    """
    root, first = importer.partition(".")[0], name.partition(".")[0]
    if not root.startswith(PREFIX) or root not in sys.modules:
        return None
    if first in sys.stdlib_module_names or first == "fedbench":
        return None
    folders = sys.modules[root].__path__
    if _file(folders, first) is None and (_folder(folders, first) is None or _is_installed(first)):
        return None
    return f"{root}.{name}"


def _file(folders: Sequence[str], name: str) -> Path | None:
    for folder in folders:
        for file in (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py")):
            if file.is_file():
                return file
    return None


def _is_installed(name: str) -> bool:
    """Whether there is a module called `name`, other than a folder that does not say that it is one."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:
        return True
    return spec is not None and spec.origin is not None


def _folder(folders: Sequence[str], name: str) -> Path | None:
    """A folder that is a package without saying so."""
    found = [path for path in (Path(folder, name) for folder in folders) if path.is_dir() and name.isidentifier()]
    return found[0] if found else None


def _import(
    importer: str,
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """The `__import__` of a plug-in file and of the modules beside it."""
    full = beside(importer, name) if level == 0 else None
    if full is None:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    found = builtins.__import__(full, globals, locals, fromlist or (), 0)
    return found if fromlist else sys.modules[".".join(full.split(".")[:2])]  # `import a.b` binds a


class _Loader(SourceFileLoader):
    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError  # no bytecode is kept: its times are whole seconds, and a file edited within one would be stale

    def exec_module(self, module: ModuleType) -> None:
        stamp = _stamp(self.path)
        if stamp is not None:
            _loaded[self.path] = stamp
        own: dict[str, Any] = {**vars(builtins), "__import__": partial(_import, module.__name__)}
        module.__dict__["__builtins__"] = own  # where import statements look for `__import__`
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the members of plug-in files' packages, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX) or path is None:
            return None
        name = fullname.rpartition(".")[2]
        file = _file(path, name)
        if file is None:
            folder = _folder(path, name)
            if folder is None:
                return None
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
            return spec
        folders = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _Loader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=folders)


sys.meta_path.insert(0, _Finder())
