"""Calls of data sets and networks, and what they must return; those of a method are made by the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fedbench.dataset import Data, Dataset
from fedbench.errors import BadInput
from fedbench.models import Network
from fedbench.plugins.finding import Plugin
from fedbench.plugins.guard import guarded, place, shown


def load(plugin: Plugin, root: Path) -> Data:
    """The samples of a data set. Raises BadInput where it cannot load them, or returns something else."""
    where = shown(plugin.where)
    with guarded(f"the data set {where}", "cannot be loaded"):
        try:
            data = plugin.cls().load(root)
        except BadInput as error:
            if not plugin.where.endswith(".py"):
                raise
            raise BadInput(f"the data set {where}: {error}{place(error)}") from None
    if not isinstance(data, Data):
        raise BadInput(
            f"the data set {where}: `load` returns a {type(data).__name__} and must return a fedbench.dataset.Data"
        )
    return data


def stated_clients(plugin: Plugin) -> int | None:
    """How many clients a data set has by default, where that can be said without its samples; else None."""
    cls: type[Dataset] = plugin.cls
    return cls.clients if cls.default_clients is Dataset.default_clients else None


def default_clients(plugin: Plugin, data: Data) -> int:
    """How many clients a data set has by default. Raises BadInput where that is no whole number of at least 1."""
    where = shown(plugin.where)
    with guarded(f"the data set {where}", "cannot say how many clients it has"):
        count: object = plugin.cls().default_clients(data)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInput(
            f"the data set {where} has {count!r} clients by default, which is no number of clients: say how many with "
            "--clients, or set `clients` in the class"
        )
    return count


def network(plugin: Plugin, image: tuple[int, int, int], classes: int) -> Network:
    """The network for images of the shape `image` [c, h, w].

    Raises BadInput where it cannot be made, where the images are too small for it, and where it does not do what the
    contract says.
    """
    where = shown(plugin.where)
    with guarded(f"the network {where}", f"cannot be made for images {list(image)} of {classes} classes"):
        made = plugin.cls(image, classes)
    if not isinstance(made, Network):
        raise BadInput(
            f"the network {where} returns a {type(made).__name__} and must return a fedbench.models.Network: "
            "return Network(name, shapes, logits)"
        )
    with guarded(f"the network {where}", "cannot be used"):
        made = replace(made, name=plugin.name)
        if plugin.code:
            _check_shapes(where, made, classes)
        if any(0 in shape for shape in made.shapes.values()):
            height, width = image[1:]
            raise BadInput(
                f"images of {height} x {width} pixels are too small for the network {plugin.name}: 16 x 16 do"
            )
        if plugin.code:
            _try(where, made, image, classes)
    return made


def _check_shapes(where: str, network: Network, classes: int) -> None:
    """Every layer has a weight and a bias, and the last one is linear, with a row for each class."""
    shapes = network.shapes
    for name, shape in shapes.items():
        sizes = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        if not (isinstance(name, str) and sizes and shape):
            raise BadInput(f"the network {where}: the shape of {name!r} is {shape!r}, write a tuple of whole numbers")
        layer, _, part = name.rpartition(".")
        twin = f"{layer}.{'bias' if part == 'weight' else 'weight'}"
        if not layer or part not in ("weight", "bias") or twin not in shapes:
            raise BadInput(
                f"the network {where}: the parameter {name!r} is not one of LAYER.weight and LAYER.bias, which every "
                "layer has: rename it, or add the other"
            )
    if not shapes:
        raise BadInput(f"the network {where} has no parameters: list their shapes in `shapes`")
    head = shapes[f"{network.layers[-1]}.weight"]
    if len(head) != 2 or head[0] != classes:
        raise BadInput(
            f"the network {where}: its last layer {network.layers[-1]!r} has a weight of shape {list(head)} and must "
            f"be linear, with a row for each of {classes} classes"
        )


def _try(where: str, network: Network, image: tuple[int, int, int], classes: int) -> None:
    """The scores of two images have the right shape."""
    model = network.init(torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores: object = network.logits(model, torch.zeros(2, *image))
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes):
        seen = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise BadInput(f"the network {where}: the scores of 2 images are {seen} and must be a tensor [2, {classes}]")
