"""`reproduce NAME --preset smoke` of every experiment, on small noise in the shape of its images: no download."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fedbench.api import reproduce
from fedbench.experiments.schema import FOLDER, load, names

NOISE = '''
import numpy as np
import torch

from fedbench.dataset import Data, Dataset


class Noise(Dataset):
    """Images of noise, the same for every process."""

    title = "Noise"
    source = "none"
    network = "{network}"
    cached = False
    validation_rows = 400

    def load(self, root):
        images = np.random.default_rng(0).integers(0, 256, (2400, {channels}, {side}, {side}), np.uint8)
        return Data(
            images=torch.from_numpy(images),
            labels=torch.arange(2400) % 10,
            classes=10,
            mean=({mean}),
            std=({mean}),
            test=torch.arange(2400) >= 1900,
        )
'''


def on_noise(name: str, folder: Path) -> Path:
    """The experiment with noise for the images that need a download, and with fewer visits."""
    shapes = {"cifar10": ("lenet", 3, 32), "mnist": ("mnist-mlp", 1, 28)}
    text = (FOLDER / f"{name}.toml").read_text()
    for dataset, (network, channels, side) in shapes.items():
        text = text.replace(f'dataset = "{dataset}"', f'dataset = "{dataset}_noise.py"')
        made = NOISE.format(network=network, channels=channels, side=side, mean="0.5, " * channels)
        (folder / f"{dataset}_noise.py").write_text(made)
    shutil.copytree(FOLDER / "tuned", folder / "tuned")
    path = folder / f"{name}.toml"
    path.write_text(re.sub(r"(\[presets\.smoke\].*\n(?:.*\n)*?visits = )\d+", r"\g<1>2", text, count=1))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_smoke_preset_runs_and_renders(name: str, tmp_path: Path) -> None:
    path = on_noise(name, tmp_path)
    results, out = tmp_path / "results", tmp_path / "out"
    made = reproduce(str(path), preset="smoke", jobs=1, results=results, out=out, device="cpu")
    assert made.status == 0, (made.warnings, made.gaps)
    experiment = load(str(path))
    assert made.tables
    assert not [table.name for table in made.tables if table.name.endswith("-problems")]
    assert not experiment.extras or made.pictures
    report = (made.out / "report.md").read_text()
    assert all(claim.text in report for claim in experiment.claims)
    assert made.page.read_text().count("<dt") >= len(experiment.claims)
    again = reproduce(str(path), preset="smoke", results=results, out=tmp_path / "again", device="cpu", run=False)
    assert (again.out / "report.md").read_text() == report
