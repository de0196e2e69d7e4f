"""Plug-ins: which one a name means, and what belongs to the hash of its code."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest

from fedbench import plugins
from fedbench.errors import BadInput
from fedbench.plugins import fingerprint

METHOD = """
{line}
from dataclasses import dataclass
from fedbench.method import Method

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    title = "Mine"
    paper = "me"
    def server_init(self, rng): ...
    def server_send(self, server, cohort): ...
    def client_train(self, message, state, batches): ...
    def server_receive(self, server, cohort, upload): ...
"""


@pytest.mark.parametrize(
    "line",
    [
        "from fedbench.methods.pfedhn import Hypernetwork",
        "from fedbench.methods import pfedhn",
        "from fedbench.methods import pfedhn as other",
        "import fedbench.methods.pfedhn",
        "import fedbench.methods.pfedhn as other",
        "try: import fedbench.methods.nothere\nexcept ImportError: from fedbench.methods import pfedhn",
    ],
)
def test_the_code_of_imported_plugins_belongs_to_the_hash(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another pFedHN is another method of those that use it, in whatever form they import it; and of no others."""
    hashes = []
    for name, text in (("uses", line), ("alone", "")):
        path = tmp_path / f"{name}.py"
        path.write_text(METHOD.format(line=text))
        hashes.append([plugins.find_method(str(path)).code])
    original = inspect.getsource

    def changed(module: ModuleType) -> str:
        return original(module) + ("\nrate = 2" if getattr(module, "__name__", "") == "fedbench.methods.pfedhn" else "")

    monkeypatch.setattr(inspect, "getsource", changed)
    plugins.find.cache_clear()
    for name, known in zip(("uses", "alone"), hashes, strict=True):
        known.append(plugins.find_method(str(tmp_path / f"{name}.py")).code)
    plugins.find.cache_clear()
    assert hashes[0][0] != hashes[0][1]
    assert hashes[1][0] == hashes[1][1]


def test_relative_imports_are_those_of_siblings() -> None:
    source = ast.parse("from .pfedhn import Hypernetwork\nfrom . import local\nfrom ..tree import Tree")
    found = fingerprint._plugins_imported(source, "fedbench.methods.mine", "fedbench.methods")
    assert found == {"fedbench.methods.pfedhn", "fedbench.methods.local"}


@pytest.mark.parametrize(("one", "other"), [("None", "''"), ("1", "1.0"), ("''", "'a'")])
def test_every_constant_belongs_to_the_hash(one: str, other: str) -> None:
    meanings = [fingerprint.meaning_of(ast.parse(f"x = {value}")) for value in (one, other)]
    assert repr(meanings[0]) != repr(meanings[1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    sizes: tuple[int, ...] = (1, 2)", "the hyperparameter sizes is a tuple: use a number"),
        ("    rate: Unknown = 1", "cannot be read: NameError: name 'Unknown' is not defined"),
    ],
)
def test_a_hyperparameter_that_cannot_be_stored_is_refused(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    text = METHOD.format(line="from __future__ import annotations")
    path.write_text(text.replace('    paper = "me"', f'    paper = "me"\n{line}'))
    with pytest.raises(BadInput, match=re.escape(message)):
        plugins.configure(plugins.find_method(str(path)), {})


def test_an_installed_method_does_not_take_the_name_of_a_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [EntryPoint(name, "fedbench.methods.local:Local", "fedbench.methods") for name in ("fedavg", "own")]
    monkeypatch.setattr(
        "fedbench.plugins.finding.entry_points", lambda group: EntryPoints(installed).select(group=group)
    )
    plugins.find.cache_clear()
    assert plugins.find_method("fedavg").cls.title == "FedAvg"
    assert plugins.find_method("own").cls.title == "Local"
    assert "own" in plugins.names("method")
    plugins.find.cache_clear()
