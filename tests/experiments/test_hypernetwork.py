"""The hypernetworks of the paper's experiments: their sizes, and identities for their options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import cohort, make_task, rng

from fedbench.methods.pfedhn import Hypernetwork, PFedHN, key, spectrally_normalised
from fedbench.models import NETWORKS
from fedbench.task import Task


def size(state: dict[str, Any]) -> int:
    """All values that the server trains."""
    return sum(value.numel() for value in state["phi"].values()) + state["embedding"].numel()


def test_three_sets_of_heads_for_75_clients() -> None:
    """Computational budget: 75 embeddings of int(1 + 75 / 4) = 19, one trunk, heads for 8, 16 and 32 kernels.

    19 * 75 + (19 * 100 + 100 + 3 * 10,100) + 101 * (62,958 + 121,182 + 256,830) = 44,571,695: the 44.6 million values
    of three head sets on one trunk.
    """
    networks = [NETWORKS[name]((3, 32, 32), 10) for name in ("lenet-8", "lenet", "lenet-32")]
    assert [sum(map(math.prod, network.shapes.values())) for network in networks] == [62_958, 121_182, 256_830]
    empty = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    task = Task(
        network=networks[1],
        networks=tuple(networks),
        images=empty,
        labels=torch.zeros(0, dtype=torch.int64),
        mean=torch.zeros(3, 1, 1),
        std=torch.ones(3, 1, 1),
        clients=75,
        classes=10,
    )
    state = PFedHN(task=task).server_init(rng())
    assert state["embedding"].shape == (75, 19)
    trunk = 19 * 100 + 100 + 3 * 10_100
    assert size(state) == 75 * 19 + trunk + 101 * (62_958 + 121_182 + 256_830) == 44_571_695


@pytest.mark.parametrize(("clients", "k"), [(10, 3), (50, 13), (100, 26)])
def test_mnist(clients: int, k: int) -> None:
    """The perceptron 784-100-10 has 79,510 values; the trunk one hidden layer: k * 100 + 100 + 10,100 values."""
    shapes = NETWORKS["mnist-mlp"]((1, 28, 28), 10).shapes
    assert sum(map(math.prod, shapes.values())) == 79_510
    state = Hypernetwork(hidden_layers=1).init(shapes, clients, rng(), torch.float32)
    assert len([name for name in state["phi"] if name.startswith("trunk")]) == 4
    assert len([name for name in state["phi"] if name.startswith("head.") and name.endswith(".weight")]) == 4
    assert size(state) == clients * k + (k * 100 + 100 + 10_100) + 101 * 79_510


def test_heads_have_a_networks_name_only_where_there_are_several() -> None:
    task = make_task("mlp")
    assert key(task, task.network, "fc1.weight") == "fc1.weight"


# ---------------------------------------------------------------- spectral norm


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (1, 4), (400, 100)])
def test_the_largest_singular_value_is_one(shape: tuple[int, int]) -> None:
    """Exact, by the singular value decomposition: whatever the weight is scaled by."""
    for scale in (1e-3, 1.0, 1e3):
        weight = scale * torch.randn(shape, generator=rng(), dtype=torch.float64)
        values = torch.linalg.svdvals(spectrally_normalised(weight))
        assert float(values[0]) == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(values / values[0], torch.linalg.svdvals(weight) / torch.linalg.svdvals(weight)[0])


def test_its_gradient_is_that_of_the_division() -> None:
    """Against autograd through torch's own singular values."""
    weight = torch.randn(6, 4, generator=rng(), dtype=torch.float64)
    other = torch.randn(6, 4, generator=rng(1), dtype=torch.float64)
    found = torch.func.grad(lambda w: (spectrally_normalised(w) * other).sum())(weight)
    expected = torch.func.grad(lambda w: (w / torch.linalg.svdvals(w)[0] * other).sum())(weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_every_weight_that_a_hypernetwork_multiplies_by_is_normalised() -> None:
    task = make_task("mlp")
    hypernetwork = Hypernetwork(hidden=6, hidden_layers=2, spectral_norm=True)
    state = PFedHN(task=task, hypernetwork=hypernetwork).server_init(rng())
    for name in (name.removesuffix(".weight") for name in state["phi"] if name.endswith(".weight")):
        assert float(torch.linalg.svdvals(hypernetwork.weight(state["phi"], name))[0]) == pytest.approx(1, abs=1e-12)


def test_normalised_models_are_those_of_a_plain_hypernetwork_with_the_divided_weights() -> None:
    task = make_task("mlp")
    spectral = PFedHN(task=task, hypernetwork=Hypernetwork(hidden=6, spectral_norm=True))
    plain = PFedHN(task=task, hypernetwork=Hypernetwork(hidden=6))
    state = spectral.server_init(rng())
    divided = {
        name: spectrally_normalised(value) if name.endswith(".weight") else value
        for name, value in state["phi"].items()
    }
    made = spectral.server_send(state, cohort(0, 1))
    expected = plain.server_send({**state, "phi": divided}, cohort(0, 1))
    for name, value in made.items():
        torch.testing.assert_close(value, expected[name])


# ---------------------------------------------------------------- class shares


def fixed_and_learned() -> tuple[PFedHN, PFedHN, dict[str, Any], dict[str, Any], Any]:
    """A method with fixed vectors, one with a learned table that holds the same vectors, their states and a cohort."""
    task = make_task("mlp")
    shares = torch.rand(3, task.classes, generator=rng(5), dtype=task.dtype)
    shares = shares / shares.sum(dim=1, keepdim=True)
    who = cohort(0, 1, 2)._replace(class_shares=shares)
    fixed = PFedHN(task=task, hypernetwork=Hypernetwork(hidden=6, representation="class-shares"))
    learned = PFedHN(task=task, hypernetwork=Hypernetwork(hidden=6, embedding_size=task.classes))
    state = fixed.server_init(rng())
    table = torch.zeros(task.clients, task.classes, dtype=task.dtype)
    table[:3] = shares
    momentum = {**state["momentum"], "embedding": torch.zeros_like(table)}
    return fixed, learned, state, {**state, "embedding": table, "momentum": momentum}, who


def test_a_fixed_vector_makes_the_models_of_a_learned_table_that_holds_it() -> None:
    """To the bit, at step 0: the trunk is drawn for vectors of one entry a class in both."""
    fixed, learned, state, same, who = fixed_and_learned()
    assert "embedding" not in state
    assert state["phi"]["trunk0.weight"].shape == (6, fixed.task.classes)
    made, expected = fixed.server_send(state, who), learned.server_send(same, who)
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_a_fixed_vector_does_not_change_where_a_learned_one_does() -> None:
    """After an update phi is the same (clipping aside, which counts the table's gradient too), the vector stands."""
    fixed, learned, state, same, who = fixed_and_learned()
    change = {
        name: 1e-3 * torch.randn(value.shape, generator=rng(9), dtype=value.dtype)
        for name, value in fixed.server_send(state, who).items()
    }
    after, moved = fixed.server_receive(state, who, change), learned.server_receive(same, who, change)
    assert "embedding" not in after
    assert not torch.equal(moved["embedding"], same["embedding"])
    for name, value in after["phi"].items():
        torch.testing.assert_close(value, moved["phi"][name], rtol=1e-12, atol=1e-14)
    assert torch.equal(fixed.hypernetwork.vectors(after, who), who.class_shares)
    assert fixed.server_admit(after, 2, rng()) is None
