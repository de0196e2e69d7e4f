"""`fedbench new`: for every name that is allowed a file that compiles and is a plug-in of its kind, or a refusal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedbench import plugins
from fedbench.errors import BadInput
from fedbench.plugins.finding import WORDS
from fedbench.plugins.new import new

KINDS = list(WORDS)
# what Python, or a template, has a meaning for
ODD = [
    "none", "true", "False", "class", "import", "def", "lambda", "tree", "field", "method", "tensor", "draw", "cohort",
    "data", "dataset", "path", "kind", "floats", "network", "f", "h", "x", "c", "image", "shapes", "self", "object",
    "int", "property", "exception", "annotated", "x" * 60, "a-1-b",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_gives_a_plugin(kind: str, name: str, tmp_path: Path) -> None:
    file, test = new(kind, name, tmp_path)
    compile(test.read_text(), str(test), "exec")
    found = plugins.find(kind, str(file))
    assert found.name == name.lower()
    assert "__" not in re.sub(r"__(future|file)__", "", file.read_text() + test.read_text())  # every blank is filled


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    name=st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,9}([-_ ][a-zA-Z0-9]{1,9}){0,3}", fullmatch=True),
)
def test_a_name_gives_a_plugin_or_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / re.sub(r"\W", "_", f"{kind} {name}")
    try:
        file, _ = new(kind, name, folder)
    except BadInput:
        assert not folder.exists() or not list(folder.iterdir())
    else:
        plugins.find(kind, str(file))
        for written in folder.iterdir():
            written.unlink()


@pytest.mark.parametrize("name", ["random", "torch", "test", "fedbench", "numpy"])
def test_a_file_that_would_hide_a_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"would hide Python's module '{name}'"):
        new("method", name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_the_second_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(path: Path, *arguments: str, **options: str) -> object:
        if path.name.startswith("test_"):
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match="No space left"):
        new("method", "mine", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_linted_and_formatted_as_the_project_is(kind: str, tmp_path: Path) -> None:
    files = new(kind, f"my-{kind}", tmp_path)
    config = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), *map(str, files)]
    for command in (["check", "--ignore", "D103"], ["format", "--check"]):
        assert subprocess.run([sys.executable, "-m", "ruff", *command, *config], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dataset", "partition", "network"])
def test_the_test_file_of_a_new_plugin_passes(kind: str, tmp_path: Path) -> None:
    _, test = new(kind, f"my-{kind}", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_template_of_a_method_shows_what_others_need() -> None:
    """A gradient of one's own, state that begins with the first message, more batches, and what they cost."""
    text = (Path(plugins.__file__).parent / "templates" / "method.py.txt").read_text()
    for word in (
        "descend(",
        "local.step(",
        "server_welcome",
        "train_draw",
        "gradients_per_visit",
        "Ditto",
        "FedProx",
        "SCAFFOLD",
    ):
        assert word in text
