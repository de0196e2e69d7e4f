"""Plug-in files and the modules beside them: what an import means, and what belongs to the code hash."""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from fedbench import plugins
from fedbench.plugins import fingerprint

METHOD = """
{line}
from dataclasses import dataclass
from fedbench.method import Method

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    title = "Mine"
    paper = "me"
    def server_init(self, rng): return {value}
    def server_send(self, server, cohort): ...
    def client_train(self, message, state, batches): ...
    def server_receive(self, server, cohort, upload): ...
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    plugins.find.cache_clear()
    yield
    plugins.find.cache_clear()


def write(folder: Path, line: str = "", value: str = "None", **beside: str) -> Path:
    """A method `mine.py` in `folder`, and the modules beside it, by name."""
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(METHOD.format(line=line, value=value))
    for name, text in beside.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "mine.py"


def found(path: Path) -> plugins.Plugin:
    plugins.find.cache_clear()
    return plugins.find_method(str(path))


def answer(path: Path) -> object:
    """What the method's `server_init` returns."""
    return found(path).cls.server_init(None, None)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("import helper", "helper.x"),
        ("import helper as h", "h.x"),
        ("from helper import x", "x"),
        ("from helper import *", "x"),
        ("from .helper import x", "x"),
        ("from . import helper", "helper.x"),
        ("", "__import__('helper').x"),
        ("def late():\n    import helper\n    return helper.x", "late()"),
        ("import first", "first.helper.x"),
        ("import tools.deep", "tools.deep.y"),
        ("import tools.deep as deep", "deep.y"),
        ("from tools import deep", "deep.y"),
        ("from tools.deep import y", "y"),
    ],
)
def test_a_module_beside_a_plugin_can_be_imported(line: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path, line, value, helper="x = 7", first="import helper")
    write(tmp_path / "tools", __init__="", deep="from helper import x as y")
    assert answer(path) == 7
    assert "helper" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_folder_that_does_not_say_that_it_is_a_package_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its modules belong to the hash; an installed package of that name goes before it, as it does for a script."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "x.py").write_text("y = 7")
    (tmp_path / "joblib").mkdir()
    path = write(tmp_path, "from tools.x import y\nimport tools.x\nimport joblib", "y, tools.x.y, bool(joblib.dump)")
    monkeypatch.syspath_prepend(tmp_path)  # where a script would find the folder too, and it belongs to the hash still
    assert answer(path) == (7, 7, True)
    before = found(path).code
    (tmp_path / "tools" / "x.py").write_text("y = 8")
    assert found(path).code != before
    assert answer(path) == (8, 8, True)
    assert {each.name for each in fingerprint.own_files(sys.modules[found(path).cls.__module__])} == {"mine.py", "x.py"}


def test_two_folders_have_a_helper_each(tmp_path: Path) -> None:
    line = "def late():\n    import helper\n    return helper.x"
    one = found(write(tmp_path / "one", line, "late()", helper="x = 1"))
    two = found(write(tmp_path / "two", line, "late()", helper="x = 2"))
    assert (one.cls.server_init(None, None), two.cls.server_init(None, None)) == (1, 2)


def test_the_standard_library_is_not_taken_from_the_folder(tmp_path: Path) -> None:
    assert answer(write(tmp_path, "import math", "math.pi", math="pi = 3", fedbench="raise OSError")) == math.pi


def test_an_annotation_of_a_helper_s_group_can_be_read(tmp_path: Path) -> None:
    """Which looks its module up by name, where another folder's helper must not stand."""
    group = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nNumber = float\n"
        "@dataclass(frozen=True)\nclass Group:\n    rate: Number = 0.5\n"
    )
    path = write(tmp_path, "import helper", helper=group)
    path.write_text(path.read_text().replace('paper = "me"', 'paper = "me"\n    group: helper.Group = helper.Group()'))
    assert plugins.configure(found(path), {"group.rate": "0.25"})["group.rate"] == 0.25


@pytest.mark.parametrize(
    "line",
    ["import helper", "from helper import x", "from .helper import x", "if 1:\n    import helper", "import first",
     "def late():\n    from helper import x"],
)  # fmt: skip
def test_what_is_imported_belongs_to_the_hash(line: str, tmp_path: Path) -> None:
    path = write(tmp_path, line, helper="x = 1", first="import helper", other="y = 1")
    before = found(path).code
    (tmp_path / "other.py").write_text("y = 2")
    (tmp_path / "helper.py").write_text('"""Of a helper."""\nx = 1  # one')
    assert found(path).code == before
    (tmp_path / "helper.py").write_text("x = 2")
    assert found(path).code != before


def test_hashing_runs_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "def never():\n    import script", script="raise SystemExit('it was run')")
    before = found(path).code
    (tmp_path / "script.py").write_text("raise SystemExit('it was run again')")
    assert found(path).code != before


def test_the_hash_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    codes = [found(write(tmp_path / name, "import a, b", a="x = 1", b="x = 2")).code for name in ("one", "two")]
    assert codes[0] == codes[1]


def test_the_hash_of_a_plugin_that_imports_none_is_that_of_its_own_text(tmp_path: Path) -> None:
    """As it was before there were helpers, so that results stay current."""
    path = write(tmp_path, helper="x = 1")
    meaning = fingerprint.meaning_of(ast.parse(path.read_text()))
    assert found(path).code == hashlib.sha256(repr(meaning).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", ["fedavg", "local"])
def test_the_hash_of_a_built_in_method_is_that_of_its_own_text(name: str) -> None:
    """Where it imports no other method."""
    plugin = plugins.find_method(name)
    meaning = fingerprint.meaning_of(ast.parse(inspect.getsource(sys.modules[plugin.cls.__module__])))
    assert plugin.code == hashlib.sha256(repr(meaning).encode()).hexdigest()[:16]


def test_modules_of_an_installed_package_belong_to_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what stands in the package's own `__init__`."""
    package = tmp_path / "a_package_of_methods"
    write(package, "from a_package_of_methods import helper, RATE", helper="x = 1", __init__="RATE = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = EntryPoints([EntryPoint("own", "a_package_of_methods.mine:Mine", "fedbench.methods")])
    monkeypatch.setattr("fedbench.plugins.finding.entry_points", lambda group: points.select(group=group))
    codes = []
    for file, text in (("helper", "x = 1"), ("helper", "x = 2"), ("__init__", "RATE = 2")):
        (package / f"{file}.py").write_text(text)
        for name in [name for name in sys.modules if name.startswith("a_package_of_methods")]:
            monkeypatch.delitem(sys.modules, name)
        plugins.find.cache_clear()
        codes.append(plugins.find_method("own").code)
    assert len(set(codes)) == 3


def test_only_the_declaration_of_deviations_is_left_out_of_the_hash() -> None:
    """In a class, with an annotation or without one; a variable of that name computes what it computes."""
    method = "class Mine:\n    {}\n    def f(self, x):\n        {}\n        return x"

    def meaning(declared: str, computed: str = "pass") -> object:
        return fingerprint.meaning_of(ast.parse(method.format(declared, computed)))

    plain = meaning("title = 'Mine'")
    assert plain == meaning("title = 'Mine'; deviations = {'a': 'b'}")
    assert plain == meaning("title = 'Mine'; deviations: ClassVar[dict[str, str]] = {'a': 'b'}")
    assert plain != meaning("title = 'Mine'; deviations[0] = 1")
    computed = [meaning("title = 'Mine'", f"deviations = x * {i}; x = deviations") for i in (1, 2)]
    assert computed[0] != computed[1]


def test_an_edited_file_is_read_again_where_a_comparison_begins(tmp_path: Path) -> None:
    """Also one that was edited within a second and to the same length, which a bytecode cache takes for the old one."""
    plugins.refresh()  # files of other tests may have been edited
    path = write(tmp_path, "import helper", "helper.x", helper="x = 1")
    first = plugins.find_method(str(path))
    assert not plugins.refresh()
    assert plugins.find_method(str(path)) is first
    (tmp_path / "helper.py").write_text("x = 2")
    assert plugins.refresh()
    again = plugins.find_method(str(path))
    assert again.cls.server_init(None, None) == 2
    assert again.code != first.code


def test_a_path_is_read_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook that goes from folder to folder."""
    for name in ("1", "2"):
        write(tmp_path / name, value=name)
        monkeypatch.chdir(tmp_path / name)
        assert plugins.find_method("mine.py").cls.server_init(None, None) == int(name)


def test_a_file_may_define_several_kinds(tmp_path: Path) -> None:
    """It is imported once: what the one kind refers to by name is what the other has."""
    group = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom fedbench.models import lenet\n"
        "@dataclass(frozen=True)\nclass Group:\n    rate: float = 0.5\n"
        "def network(image, classes): return lenet(image, classes)"
    )
    path = write(tmp_path, group)
    path.write_text(path.read_text().replace('paper = "me"', 'paper = "me"\n    group: Group = Group()'))
    method, network = plugins.find_method(str(path)), plugins.find_network(str(path))
    assert method.cls.__module__ == network.cls.__module__
    assert plugins.configure(method, {})["group.rate"] == 0.5
