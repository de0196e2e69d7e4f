"""What is drawn in a run, pinned: who holds which rows, who is visited, on which rows they train, where weights begin.

A change of any of these moves every result there is: it belongs under *Moves numbers*.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import problem

from fedbench import plugins
from fedbench.partitions import split
from fedbench.plugins import parse_networks, parse_partition
from fedbench.runs.prepare import load_data
from fedbench.seeds import torch_stream
from fedbench.training import Engine, Progress
from fedbench.training.engine import Group


@pytest.mark.parametrize(
    ("text", "checksum", "first"),
    [
        ("classes:per_client=2,spare=1", "56040562194f8afc", [15, 25, 32, 63, 74]),
        ("classes:per_client=2,seeding=legacy", "3ae33e94d56b4210", [2, 12, 50, 52, 75]),
        ("dirichlet:alpha=0.5", "b98ae56e16fe4c3a", [2, 25, 26, 34, 40]),
        ("iid", "5b37171b69df1e87", [25, 26, 34, 40, 52]),
    ],
)
def test_the_rows_of_ten_clients_of_digits(text: str, checksum: str, first: list[int]) -> None:
    dataset = plugins.find_dataset("digits").cls
    partition = split(load_data("digits", Path("unused")), parse_partition(text, dataset), 10, 42, 200)
    assert partition.train[0][:5].tolist() == first
    assert partition.checksum()[:16] == checksum


def test_the_networks_of_shuffled_clients() -> None:
    networks = parse_networks("lenet-8*3,lenet*3:shuffled", 6)
    assert networks.places(42) == [0, 1, 0, 0, 1, 1]


def test_the_clients_of_the_first_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1, five of six clients a round, 12 visits: the last round is short."""
    visited, original = [], Engine.visit

    def visit(engine: Engine, progress: Progress, ids: list[int], round_: int) -> list[Group]:
        visited.append(list(ids))
        return original(engine, progress, ids, round_)

    monkeypatch.setattr(Engine, "visit", visit)
    engine = problem("fedavg").engine
    progress = engine.start()
    for _ in range(3):
        engine.round(progress)
    assert visited == [[2, 0, 5, 1, 3], [5, 4, 1, 2, 3], [4, 1]]


def test_the_rows_of_the_first_batches() -> None:
    """Seed 1, round 2, client 4: a stream for each purpose."""
    engine = problem("fedavg").engine
    draw = engine.method.train_draw
    assert engine.batches("train", draw, 2, 4)[:2, :4].tolist() == [[591, 559, 621, 578], [604, 522, 637, 543]]
    assert engine.batches("personalize", draw, 2, 4)[0, :4].tolist() == [558, 564, 594, 604]
    assert engine.batches("train-loss", draw, 2, 4)[0, :4].tolist() == [598, 515, 543, 608]


def test_the_first_weights() -> None:
    """Of the server and of what a client keeps; drawn on the CPU by single numbers, so that no vector unit decides."""
    engine = problem("pfedhn-pc").engine
    server = engine.start().server
    assert server["phi"]["trunk0.weight"].flatten()[:2].tolist() == pytest.approx([0.33117812871, -0.22565902769], 1e-7)
    assert server["embedding"][0].tolist() == pytest.approx([0.12984775007, 0.68663913011], 1e-7)
    kept = engine.method.client_init({}, torch_stream(1, "client", 3))
    assert kept["fc2.weight"].flatten()[:2].tolist() == pytest.approx([0.16316935420, 0.12983207404], 1e-7)
    model = problem("fedavg").engine.start().server
    assert model["fc1.weight"].flatten()[:2].tolist() == pytest.approx([0.05854457617, -0.03989125788], 1e-7)
