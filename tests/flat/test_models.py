"""Networks: their sizes as closed forms, their names, and what the fast path takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import a_job
from tiny import make_task, rng

from fedbench import plugins
from fedbench.models import NETWORKS, Network, lenet, mlp, omniglot_net
from fedbench.plugins import parse_networks


@pytest.mark.parametrize(
    ("width", "classes", "total"),
    [(8, 10, 62_958), (16, 10, 121_182), (32, 10, 256_830), (8, 100, 70_608), (16, 100, 128_832), (32, 100, 264_480)],
)
def test_lenet_sizes(width: int, classes: int, total: int) -> None:
    """conv 75F + F and 50F^2 + 2F, fc 50F 120 + 120, 120 84 + 84, and the head 84 classes + classes."""
    network = lenet((3, 32, 32), classes, width)
    closed = 75 * width + width + 50 * width**2 + 2 * width + 6000 * width + 120 + 10_164 + 85 * classes
    assert sum(math.prod(s) for s in network.shapes.values()) == closed == total
    assert sum(math.prod(network.shapes[name]) for name in network.head) == 85 * classes


def test_lenet_16_is_another_name_of_lenet(tmp_path: Path) -> None:
    """One network, one identity of the runs with it, however it is called; also where clients' networks are listed."""
    assert lenet((3, 32, 32), 10, 16).name == "lenet"
    assert plugins.find_network("lenet-16") == plugins.find_network("lenet")
    specs = [
        a_job(tmp_path, methods=["fedavg"], settings={}, dataset="cifar10", network=name).spec
        for name in ("lenet", "lenet-16", "LeNet-16", "lenet-16*2,lenet*3")
    ]
    assert {spec.network for spec in specs} == {"lenet"}
    assert len({spec.identity for spec in specs}) == 1
    assert str(parse_networks("lenet-8*2,lenet-16*2", 4)) == "lenet-8*2,lenet*2"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_known_by_its_name(name: str) -> None:
    """Or two names would be two identities of one network."""
    assert NETWORKS[name]((1, 28, 28), 10).name == name


def test_the_flag_says_what_the_fast_path_takes_and_padding_only_pads() -> None:
    """A network with padding but without the flag is differentiated by autograd."""
    assert all(build((1, 28, 28), 10).fast for build in NETWORKS.values())
    assert (lenet((3, 32, 32), 10).padding, omniglot_net((1, 28, 28), 10).padding) == (0, 1)
    task = make_task("lenet")
    for fast in (True, False):
        for padding in (0, 1):
            network = replace(task.network, fast=fast, padding=padding)
            other = replace(task, network=network, networks=())
            assert other.fast_path(other.init(rng())) is fast
    assert not Network("own", {}, lambda model, images: images).fast


def test_initial_weights_are_those_of_torch() -> None:
    """Uniform in +-1 / sqrt(fan in), biases as well: the mean of their squares is a third of the bound's square."""
    network = mlp((1, 20, 20), 10, 200, "wide")
    drawn = network.init(rng(), torch.float64)
    for name, fan_in in (("fc1.weight", 400), ("fc1.bias", 400), ("fc2.weight", 200)):
        assert float(drawn[name].abs().max()) <= fan_in**-0.5
        assert float(drawn[name].square().mean()) == pytest.approx(1 / (3 * fan_in), rel=0.15)


def test_a_normalisation_begins_as_torch_s() -> None:
    """With weight 1 and bias 0, and without a draw: the layers behind it begin as they would without it."""
    shapes = {"fc1.weight": (4, 6), "fc1.bias": (4,), "fc2.weight": (3, 4), "fc2.bias": (3,)}
    norm = {"norm.weight": (4,), "norm.bias": (4,)}
    between = {**dict(list(shapes.items())[:2]), **norm, **dict(list(shapes.items())[2:])}
    plain, normed = (Network("n", each, lambda p, x: x).init(rng()) for each in (shapes, between))
    assert all(torch.equal(normed[name], plain[name]) for name in shapes)
    reference = torch.nn.GroupNorm(2, 4).state_dict()
    assert all(torch.equal(normed[f"norm.{name}"], reference[name]) for name in ("weight", "bias"))
    assert normed["norm.weight"].dtype == plain["fc1.weight"].dtype
