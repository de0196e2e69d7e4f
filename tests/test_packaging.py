"""What is installed: one top-level package, with everything that it needs, that runs from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fedbench

ROOT = Path(fedbench.__file__).resolve().parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the tests do not run in a checkout"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from an sdist, as an index would serve it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_one_top_level_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name.split("/")[0]}
    assert tops == {"fedbench"}
    needed = {f"fedbench/methods/{path.name}" for path in (ROOT / "methods").glob("*.py")}
    needed |= {f"fedbench/datasets/{path.name}" for path in (ROOT / "datasets").glob("*.py")}
    package = ROOT / "fedbench"
    data = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    needed |= {f"fedbench/{path.relative_to(package).as_posix()}" for path in data}
    assert needed <= set(names), needed - set(names)


def test_the_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} - {"bin"} == {"fedbench"}
    settings = ["--methods", "fedavg", "--visits", "2", "--seeds", "42", "--set", "fedavg.local.steps=1"]
    done = subprocess.run(
        [sys.executable, "-m", "fedbench", "run", *settings],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(empty.glob("results/digits/fedavg/*.json"))) == 1
    where = "import fedbench, fedbench.methods.fedavg as m; print(fedbench.__file__, m.__file__)"
    printed = subprocess.run(
        [sys.executable, "-c", where],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    ).stdout
    assert printed.split() == [str(site / "fedbench" / "__init__.py"), str(site / "fedbench" / "methods" / "fedavg.py")]


def test_a_checkout_hides_no_package_called_methods_or_datasets(tmp_path: Path) -> None:
    """A regular package of that name, as Hugging Face's `datasets`, is what is imported, even from the checkout."""
    for name in ("methods", "datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    code = (
        "import sys; sys.path.append(sys.argv[1]); import fedbench, methods, datasets; "
        "print(methods.__file__, datasets.__file__)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(tmp_path / name / "__init__.py") for name in ("methods", "datasets")]
