"""The checks of a network, on random images of several shapes.

Letters: B samples of a batch, c channels, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import plugins, tree
from fedbench.check.comparing import clone, finite, gap
from fedbench.check.kit import Kit
from fedbench.check.sentence import Broken, require
from fedbench.check.subject import disturb, rng
from fedbench.errors import BadInput
from fedbench.models import Network
from fedbench.plugins import Plugin
from fedbench.task import Task
from fedbench.tree import Tree

IMAGES = ((1, 28, 28), (3, 32, 32), (1, 16, 16), (1, 8, 8))  # shapes [c, h, w] that are tried
LARGE = ((3, 64, 64), (3, 96, 96), (3, 224, 224))  # of which the first that does is tried where none of these does
CLASSES = 6
ROWS = 12
EXACT = 1e-12  # what float64 may differ by where the order of additions differs
CLOSE = 1e-9  # what float64 gradients of two algorithms may differ by


@dataclass
class Bench:
    """A network, and what it is for images of one shape."""

    plugin: Plugin
    _made: dict[tuple[int, int, int], Network] = field(default_factory=dict)

    @property
    def each(self) -> dict[tuple[int, int, int], Network]:
        """The network for each shape of IMAGES that it takes. Raises BadInput where it takes none."""
        refusals = []
        for image in () if self._made else (*IMAGES, *LARGE):
            if image in LARGE and self._made:
                break
            try:
                self._made[image] = plugins.network(self.plugin, image, CLASSES)
            except BadInput as error:
                refusals.append(error)
        if not self._made:
            raise refusals[0]
        return self._made

    @property
    def one(self) -> tuple[tuple[int, int, int], Network]:
        """The first shape that it takes, and the network."""
        return next(iter(self.each.items()))


def model(network: Network, seed: int = 0) -> Tree:
    """Initial parameters, float64."""
    return network.init(rng(seed), torch.float64)


def pictures(image: tuple[int, int, int], count: int = ROWS, seed: int = 5) -> Tensor:
    """Normalised random images [count, c, h, w], float64."""
    return torch.randn(count, *image, generator=rng(seed), dtype=torch.float64)


def labels(count: int = ROWS) -> Tensor:
    """Labels [count], all classes in turn."""
    return torch.arange(count) % CLASSES


KIT: Kit[Bench] = Kit()


@KIT.check("it can be made", "layers of a weight and a bias, the last one linear, and scores [B, classes]")
def _made(bench: Bench) -> str:
    shapes = ", ".join("x".join(map(str, image)) for image in bench.each)
    sizes = [sum(torch.Size(shape).numel() for shape in network.shapes.values()) for network in bench.each.values()]
    return f"images of {shapes}; {min(sizes)} to {max(sizes)} parameters"


@KIT.check("body and head are all of it", "a head of one linear layer, a body of the others, and nothing besides")
def _parts(bench: Bench) -> str:
    for network in bench.each.values():
        require({*network.body, *network.head} == set(network.shapes), "a parameter in neither")
        require(not set(network.body) & set(network.head), "a parameter in both")
        require(bool(network.body), "no body: methods that share a part of the network need two layers")
    body, head = bench.one[1].body, bench.one[1].head
    return f"{len(body)} parameters of the body, {' and '.join(head)}"


@KIT.check("classes are a matter of the head", "the same body for another number of classes")
def _classes(bench: Bench) -> str:
    image, network = bench.one
    other = plugins.network(bench.plugin, image, CLASSES + 3)
    for name in network.body:
        require(network.shapes[name] == other.shapes.get(name), f"{name} has another shape for {CLASSES + 3} classes")
    return f"the same body for {CLASSES} and {CLASSES + 3} classes"


@KIT.check("scores are pure", "equal scores from equal parameters, whatever other generators do; arguments left alone")
def _pure(bench: Bench) -> str:
    for image, network in bench.each.items():
        parameters, images = model(network), pictures(image)
        before = clone([parameters, images])
        disturb(1)
        first = network.logits(parameters, images)
        disturb(2)
        again = plugins.network(bench.plugin, image, CLASSES).logits(parameters, images)
        require(gap(first, network.logits(parameters, images)).size == 0, "other scores the second time")
        require(gap(first, again).size == 0, "other scores from a network made again")
        require(gap(before, [parameters, images]).size == 0, "an argument was modified")
    return "the same scores, three times"


@KIT.check("scores have the type of the parameters", "float32 from float32, float64 from float64, and finite")
def _types(bench: Bench) -> str:
    for image, network in bench.each.items():
        for dtype in (torch.float32, torch.float64):
            scores = network.logits(network.init(rng(), dtype), pictures(image).to(dtype))
            require(scores.dtype == dtype, f"{scores.dtype} from {dtype}")
            require(finite(scores), f"scores that are not finite from {dtype}")
    return "float32 and float64"


@KIT.check("each image is scored for itself", "the same scores alone and among others, to 1e-12")
def _alone(bench: Bench) -> str:
    worst = 0.0
    for image, network in bench.each.items():
        parameters, images = model(network), pictures(image)
        together = network.logits(parameters, images)
        alone = torch.cat([network.logits(parameters, one[None]) for one in images])
        worst = max(worst, gap(alone, together).size)
        require(worst <= EXACT, f"differences of {worst:.1e} in other company")
    return f"differences up to {worst:.1e}"


def _loss(network: Network) -> Callable[[Tree, Tensor], Tensor]:
    return lambda parameters, images: F.cross_entropy(network.logits(parameters, images), labels(len(images)))


@KIT.check(
    "the gradient is finite and reaches every parameter", "finite numbers, of which some of each tensor are not 0"
)
def _gradient(bench: Bench) -> str:
    for image, network in bench.each.items():
        found = torch.func.grad(_loss(network))(model(network), pictures(image))
        require(found.keys() == network.shapes.keys(), "not a gradient for each parameter")
        for name, value in found.items():
            require(finite(value), f"the gradient of {name} is not finite")
            require(bool(value.any()), f"the gradient of {name} is 0: does it take part?")
    return f"{len(bench.one[1].shapes)} tensors"


@KIT.check("loop equals vmap", "the same gradients of three clients one by one and at once, float64, to 1e-9")
def _vmap(bench: Bench) -> str:
    worst = 0.0
    for image, network in bench.each.items():
        clients, images = [model(network, seed) for seed in range(3)], pictures(image)
        grad = torch.func.grad(_loss(network))
        one_by_one = tree.stack([grad(parameters, images) for parameters in clients])
        at_once = torch.func.vmap(grad, in_dims=(0, None))(tree.stack(clients), images)
        worst = max(worst, gap(one_by_one, at_once).size)
        require(worst <= CLOSE, f"differences up to {worst:.1e}")
    return f"differences up to {worst:.1e}"


@KIT.check(
    "the fast path agrees", "scores and gradients of `fedbench.fast` as those of the network, where it is `fast`"
)
def _fast(bench: Bench) -> str:
    if not any(network.fast for network in bench.each.values()):
        return "not declared `fast`: it takes the plain path"
    worst = 0.0
    for image, network in bench.each.items():
        plain = Task(
            network=network,
            images=torch.randint(256, (ROWS, *image), generator=rng(), dtype=torch.uint8),
            labels=labels(),
            mean=torch.full((image[0], 1, 1), 0.4, dtype=torch.float64),
            std=torch.full((image[0], 1, 1), 0.3, dtype=torch.float64),
            clients=1,
            classes=CLASSES,
            plain=True,
        )
        tasks = (plain, replace(plain, plain=False))
        parameters, rows = model(network), torch.arange(ROWS)
        images = plain.batch(rows)[0]
        try:
            scores, gradients = zip(
                *((task.predict(parameters, images), task.grad(parameters, rows)) for task in tasks), strict=True
            )
        except Exception as error:
            raise Broken(f"the fast path cannot take it ({plugins.said(error)}): leave `fast` out") from None
        worst = max(worst, gap(*scores).size, gap(*gradients).size)
        require(
            worst <= CLOSE, f"differences up to {worst:.1e}: leave `fast` out, or see what `fedbench.fast` computes"
        )
    return f"differences up to {worst:.1e}"


@KIT.check("it learns", "a lower loss on a batch after 30 steps of gradient descent")
def _learns(bench: Bench) -> str:
    for image, network in bench.each.items():
        parameters, images, loss = model(network), pictures(image), _loss(network)
        first = float(loss(parameters, images))
        for _ in range(30):
            parameters = tree.add_scaled(parameters, torch.func.grad(loss)(parameters, images), -0.05)
        last = float(loss(parameters, images))
        require(last < first, f"a loss of {first:.3f} before and of {last:.3f} afterwards")
    return f"a loss of {first:.2f} before and of {last:.2f} afterwards"
