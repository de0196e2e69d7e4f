"""The checks of a network: the built-in ones pass, and each check catches one that is wrong in its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench.check import kinds
from fedbench.check.networks import KIT, Bench
from fedbench.errors import BadInput
from fedbench.models import Network, mlp
from fedbench.plugins import Plugin
from fedbench.plugins.new import new
from fedbench.tree import Tree

Image = tuple[int, int, int]
Build = Callable[[Image, int], Network]
WRONG: list[tuple[str, str, Build]] = []  # broken sentence, part of what is seen, network


def wrong(sentence: str, seen: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        WRONG.append((sentence, seen, build))
        return build

    return register


def right(image: Image, classes: int) -> Network:
    """pixels -> 5, ReLU, 5 -> classes, not on the fast path."""
    return replace(mlp(image, classes, 5, "right"), fast=False)


def changed(image: Image, classes: int, scores: Callable[[Tensor, Tree, Tensor], Tensor]) -> Network:
    """`right`, with scores that are made of its own, the parameters and the images."""
    network = right(image, classes)
    return replace(network, logits=lambda p, x: scores(network.logits(p, x), p, x))


@wrong("it can be made", "returns a Linear")
def a_module(image: Image, classes: int) -> Network:
    return torch.nn.Linear(3, classes)  # type: ignore[return-value]


@wrong("it can be made", "a row for each of 6 classes")
def always_ten(image: Image, classes: int) -> Network:
    return right(image, 10)


@wrong("body and head are all of it", "no body")
def one_layer(image: Image, classes: int) -> Network:
    size = image[0] * image[1] * image[2]
    return Network(
        "one",
        {"fc.weight": (classes, size), "fc.bias": (classes,)},
        lambda p, x: F.linear(x.flatten(1), p["fc.weight"], p["fc.bias"]),
    )


@wrong("classes are a matter of the head", "fc1.weight has another shape for 9 classes")
def hidden_follows_classes(image: Image, classes: int) -> Network:
    return replace(mlp(image, classes, classes, "w"), fast=False)


@wrong("scores are pure", "other scores the second time")
def dropout(image: Image, classes: int) -> Network:
    return changed(image, classes, lambda scores, p, x: F.dropout(scores, 0.5))


@wrong("scores are pure", "an argument was modified")
def in_place(image: Image, classes: int) -> Network:
    def scores(own: Tensor, p: Tree, x: Tensor) -> Tensor:
        x.clamp_(min=-1)
        return own * 1

    network = right(image, classes)
    return replace(network, logits=lambda p, x: scores(network.logits(p, x.clamp(min=-1)), p, x))


@wrong("scores have the type of the parameters", "torch.float64 from torch.float32")
def doubles(image: Image, classes: int) -> Network:
    return changed(image, classes, lambda scores, p, x: scores.double())


@wrong("each image is scored for itself", "in other company")
def batch_norm(image: Image, classes: int) -> Network:
    return changed(image, classes, lambda scores, p, x: scores - scores.mean(0))


@wrong("the gradient is finite and reaches every parameter", "the gradient of fc1.bias is 0")
def unused_bias(image: Image, classes: int) -> Network:
    network = right(image, classes)
    return replace(network, logits=lambda p, x: network.logits({**p, "fc1.bias": p["fc1.bias"].detach()}, x))


@wrong("the gradient is finite and reaches every parameter", "is not finite")
def root_of_nothing(image: Image, classes: int) -> Network:
    return changed(image, classes, lambda scores, p, x: scores + (p["fc1.bias"] * 0).sqrt().sum())


@wrong("loop equals vmap", "RuntimeError")
def branches(image: Image, classes: int) -> Network:
    return changed(image, classes, lambda scores, p, x: scores if float(p["fc1.bias"][0]) < 9 else -scores)


@wrong("the fast path agrees", "differences up to")
def not_what_it_says(image: Image, classes: int) -> Network:
    """Declared fast, with a tanh where the fast path has a ReLU."""

    def logits(p: Tree, x: Tensor) -> Tensor:
        return F.linear(
            torch.tanh(F.linear(x.flatten(1), p["fc1.weight"], p["fc1.bias"])), p["fc2.weight"], p["fc2.bias"]
        )

    return replace(right(image, classes), logits=logits, fast=True)


@wrong("the fast path agrees", "the fast path cannot take it")
def odd_shapes(image: Image, classes: int) -> Network:
    """Declared fast, with a layer that takes the mean over pixels first."""

    def logits(p: Tree, x: Tensor) -> Tensor:
        hidden = F.relu(F.linear(x.mean((2, 3)), p["fc1.weight"], p["fc1.bias"]))
        return F.linear(hidden, p["fc2.weight"], p["fc2.bias"])

    shapes = {"fc1.weight": (5, image[0]), "fc1.bias": (5,), "fc2.weight": (classes, 5), "fc2.bias": (classes,)}
    return Network("odd", shapes, logits, fast=True)


@wrong("it learns", "a loss of")
def backwards(image: Image, classes: int) -> Network:
    """Gradients of the wrong sign, from a trick that is meant to leave the scores as they are."""
    return changed(image, classes, lambda scores, p, x: 2 * scores.detach() - scores)


def bench(build: Build) -> Bench:
    return Bench(Plugin("wrong", build, "wrong", "0"))


@pytest.mark.parametrize(("sentence", "seen", "build"), WRONG, ids=[build.__name__ for _, _, build in WRONG])
def test_a_wrong_network_is_caught_by_the_check_meant_for_it(sentence: str, seen: str, build: Build) -> None:
    result = KIT.run(bench(build), sentence)
    assert result.status == "fails"
    assert seen in result.seen


def test_every_check_bites() -> None:
    assert {sentence for sentence, _, _ in WRONG} == set(KIT.sentences)


def test_a_network_that_is_right_passes() -> None:
    assert [str(result) for result in KIT.each(bench(right)) if result.status != "holds"] == []


@pytest.mark.parametrize("least", [64, 96])
def test_a_network_for_large_images_is_tried_on_them(least: int) -> None:
    """And on no larger ones than it takes, as that costs."""

    def large(image: Image, classes: int) -> Network:
        if image[1] < least:
            raise BadInput("too small")
        return right(image, classes)

    assert list(bench(large).each) == [(3, least, least)]
    assert [each.status for each in KIT.each(bench(large))] == ["holds"] * len(KIT.sentences)


@pytest.mark.parametrize("name", ["mlp-digits", "lenet-8"])
def test_built_in_networks_pass(name: str) -> None:
    results = kinds.each_check("network", name)
    assert [str(result) for result in results if result.status != "holds"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "lenet-32", "mnist-mlp", "omniglot"])
def test_other_built_in_networks_pass(name: str) -> None:
    results = kinds.each_check("network", name)
    assert [str(result) for result in results if result.status != "holds"] == []


def test_a_new_network_passes_as_it_stands(tmp_path: Path) -> None:
    file, _ = new("network", "mine", tmp_path)
    results = kinds.each_check("network", str(file))
    assert [str(result) for result in results if result.status != "holds"] == []
