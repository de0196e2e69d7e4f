"""The examples of the README work as they stand there, but for their length."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import fedbench
from fedbench import check, plugins

ROOT = Path(fedbench.__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section."""
    text = README.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("readme")
    fedavg, ditto = blocks("A method in one file", "python")
    (folder / "my_method.py").write_text(fedavg)
    (folder / "ditto.py").write_text(ditto)
    return [folder / "my_method.py", folder / "ditto.py"]


@pytest.mark.slow
def test_the_methods_keep_the_contract(methods: list[Path]) -> None:
    for path in methods:
        results = check.run_checks(plugins.find_method(str(path)))
        assert [result for result in results if result.status == "fails"] == []
    assert len(methods[1].read_text().splitlines()) < 60


@pytest.mark.slow
def test_ditto_without_pull_is_local_and_with_it_is_not(methods: list[Path], tmp_path: Path) -> None:
    """Without a pull a personal model that began at the first message trains on its own; the shared one is FedAvg's."""
    options = {"visits": 10, "seeds": [1], "evaluate_every": 5, "jobs": 1, "results": tmp_path}

    def loss(pull: float) -> float:
        settings = {"ditto.pull": pull, "ditto.local.steps": 5}
        scores = fedbench.run([str(methods[1])], "digits", settings=settings, **options)  # type: ignore[arg-type]
        history = fedbench.load_results(tmp_path, "history").set_index("identity").loc[scores.frame["identity"][0]]
        return float(history["val_loss"].iloc[-1])

    assert loss(0.0) != loss(0.5)


@pytest.mark.slow
def test_the_python_example_runs(methods: list[Path], tmp_path: Path) -> None:
    (example,) = blocks("In Python", "python")
    script = methods[0].read_text() + example.replace("visits=200", "visits=10").replace("seeds=3", "seeds=[42]")
    (tmp_path / "example.py").write_text(script)
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "My method" in done.stdout
    assert (tmp_path / "reports" / "index.html").is_file()


def test_public_names_are_those_of_the_readme() -> None:
    text = README.split("## In Python\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`(?:fedbench\.)?(\w+)`", text.split("The public names are", 1)[1].split(";", 1)[0]))
    assert {"run", "report", "reproduce", "check", "load_results", "load_models", "Method", "Dataset"} <= named
    assert all(hasattr(fedbench, name) for name in named if name != "seeds")


def test_the_config_example_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fedbench import cli
    from fedbench.runs import estimate

    (text,) = blocks("Use", "toml")
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "seconds", lambda job: 1.0)
    monkeypatch.setattr(sys, "argv", ["fedbench", "run", "--config", "mine.toml", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert (
        len(re.findall(r"^[0-9a-f]{16} +(?:pfedhn|fedavg) +(?:42|27) +200 ", capsys.readouterr().out, re.MULTILINE))
        == 4
    )


COMMANDS = re.findall(r"^    (fedbench .*?)(?: {2,}#.*)?$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_have_the_options_that_they_are_shown_with(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed, not run."""
    from fedbench.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    context = command.make_context("fedbench", words, resilient_parsing=False)
    while context.command is not None and hasattr(context.command, "resolve_command"):
        name, inner, words = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        context = inner.make_context(name, words, parent=context)
    assert not context.args


@pytest.mark.slow
def test_the_reference_table_is_made_of_the_committed_results(tmp_path: Path) -> None:
    """The README, the committed report and what the results give now have the same rows."""
    place = "table1/tables/accuracy-pooled-seen.md"
    made = fedbench.reproduce("table1", preset="reference", run=False, results=ROOT / "results", out=tmp_path)
    rows = [line for line in (tmp_path / place).read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert "\n".join(rows) in README
    assert "\n".join(rows) in (ROOT / "reports" / place).read_text()
    assert made.warnings == made.gaps == []
