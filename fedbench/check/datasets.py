"""The checks of a data set: what `load` returns, and what the rest of fedbench may rely on.

Letters: M samples, c channels, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedbench import plugins
from fedbench.check.kit import Kit
from fedbench.check.processes import answers
from fedbench.check.sentence import require
from fedbench.check.subject import disturb
from fedbench.dataset import Data, data_root
from fedbench.partitions import split
from fedbench.plugins import Plugin
from fedbench.runs.mapped import fingerprint
from fedbench.task import normalise

COMPILER = ("torch._dynamo", "torch._inductor", "sympy")  # modules: over a second, and 150 MB, in every process
SOME = 2000  # images that the normalisation is tried on


@dataclass
class Bench:
    """A data set, and its samples once they are loaded."""

    plugin: Plugin
    root: Path = field(default_factory=data_root)

    @cached_property
    def elsewhere(self) -> list[Any]:
        """What two fresh processes say of the samples: `imported` of COMPILER, and their `fingerprint`."""
        return answers(ELSEWHERE, self.plugin.where, str(self.root), *COMPILER)

    def load(self) -> Data:
        """The samples, read afresh."""
        return plugins.load(self.plugin, self.root)

    @cached_property
    def data(self) -> Data:
        """The samples, loaded once."""
        return self.load()

    @property
    def clients(self) -> int:
        """How many clients the class asks for."""
        return plugins.default_clients(self.plugin, self.data)


ELSEWHERE = """
from fedbench import plugins
from fedbench.runs.mapped import fingerprint

def answer(where, root, *modules):
    data = plugins.load(plugins.find_dataset(where), pathlib.Path(root))
    imported = sorted({*modules} & {*sys.modules})
    return {"imported": imported, "fingerprint": fingerprint(data)}
"""


KIT: Kit[Bench] = Kit()


@KIT.check("the samples can be loaded", "uint8 images [M, c, h, w], and a label 0 .. classes - 1 for each")
def _loads(bench: Bench) -> str:
    data = bench.data
    require(len(data.images) > 0, "no samples")
    require(data.classes >= 2, f"{data.classes} class: there is nothing to tell apart")
    size = " x ".join(map(str, data.images.shape[1:]))
    return f"{len(data.images)} images of {size} pixels, {data.classes} classes"


@KIT.check("title and source are given", "two texts that are not empty")
def _texts(bench: Bench) -> str:
    for name in ("title", "source"):
        value = getattr(bench.plugin.cls, name)
        require(bool(value.strip()), f"{name} is {value!r}")
    return f"{bench.plugin.cls.title}; {bench.plugin.cls.source}"


@KIT.check("every class has samples", "each label 0 .. classes - 1 at least once among the rows that are trained on")
def _classes(bench: Bench) -> str:
    data = bench.data
    labels = data.labels if data.test is None else data.labels[~data.test]
    counts = torch.bincount(labels, minlength=data.classes)
    empty = [str(i) for i in torch.nonzero(counts == 0).flatten().tolist()]
    require(not empty, f"no samples of the classes {', '.join(empty[:10])}: number only the classes that there are")
    return f"{int(counts.min())} to {int(counts.max())} samples of a class"


@KIT.check("the images use the range of uint8", "pixels from near 0 to near 255, and images that differ")
def _range(bench: Bench) -> str:
    images = bench.data.images
    low, high = int(images.min()), int(images.max())
    require(
        high > 1, f"pixels {low} .. {high}: were images of 0 .. 1 made whole numbers before they were scaled by 255?"
    )
    require(high - low >= 32, f"pixels {low} .. {high}, a narrow range: scale the images to 0 .. 255")
    require(bool((images[: min(len(images), SOME)] != images[0]).any()), "all images are the same")
    return f"pixels {low} .. {high}"


@KIT.check(
    "mean and std are those of the images", "after normalisation, a mean near 0 and a deviation near 1 a channel"
)
def _normalisation(bench: Bench) -> str:
    data = bench.data
    rows = torch.linspace(0, len(data.images) - 1, min(SOME, len(data.images))).long()
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (data.mean, data.std))
    images = normalise(data.images[rows], mean, std)
    for channel in range(images.shape[1]):
        found = images[:, channel]
        centre, spread = float(found.mean()), float(found.std())
        fine = abs(centre) <= 0.5 and 0.4 <= spread <= 2.5
        raw = data.images[rows, channel].float() / 255
        right = f"mean {float(raw.mean()):.4f} and std {float(raw.std()):.4f}"
        require(fine, f"a mean of {centre:.2f} and a deviation of {spread:.2f} in channel {channel}, which has {right}")
    return f"a mean of {float(images.mean()):.2f} and a deviation of {float(images.std()):.2f} over {len(rows)} images"


@KIT.check(
    "test rows are some of the rows", "rows to train on and rows to test on, where the data set has its own test"
)
def _test(bench: Bench) -> str:
    test, needed = bench.data.test, bench.plugin.cls.validation_rows
    if test is None:
        return "no test rows of its own: 15 % of every class are taken"
    count = int(test.sum())
    require(0 < count < len(test), f"{count} of {len(test)} rows are for testing")
    require(needed < len(test) - count, f"validation_rows = {needed} of {len(test) - count} training rows")
    return f"{count} rows for testing, {needed} for validation"


@KIT.check(
    "groups are numbered from 0 and none is empty", "a number for each sample, and a client a group where asked for"
)
def _groups(bench: Bench) -> str:
    data, cls = bench.data, bench.plugin.cls
    if data.group is None:
        asked = cls.clients is None or cls.partition.startswith("group")
        require(
            not asked, "no groups, and the class asks for a client a group: set `group`, or `clients` and `partition`"
        )
        return "no natural groups"
    counts = torch.bincount(data.group, minlength=data.groups)
    require(int(counts.min()) > 0, f"group {int(counts.argmin())} has no samples")
    names = data.group_names
    require(len(set(names)) == len(names), "two groups have the same name")
    return f"{data.groups} groups of {int(counts.min())} to {int(counts.max())} samples"


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


@KIT.check("same bits twice", "equal samples from every call of `load`, whatever other generators do")
def _twice(bench: Bench) -> str:
    disturb(1)
    first = bench.load()
    disturb(2)
    second = bench.load()
    for name in ("images", "labels", "test", "group"):
        require(_same(getattr(first, name), getattr(second, name)), f"other {name} the second time")
    for name in ("classes", "mean", "std", "group_names"):
        values = [tuple(v) if isinstance(v := getattr(data, name), (list, tuple)) else v for data in (first, second)]
        require(values[0] == values[1], f"{name} is {values[0]} and then {values[1]}")
    return f"{len(first.labels)} samples, twice the same"


@KIT.check("a fresh process loads the same", "equal samples in two others, each with a PYTHONHASHSEED of its own")
def _elsewhere(bench: Bench) -> str:
    here = fingerprint(bench.data)
    require(all(each["fingerprint"] == here for each in bench.elsewhere), "other samples: is an order that of a set?")
    return "two processes"


@KIT.check("what is called cached is read from its file", "DATA_ROOT/NAME.npz once it was loaded, unless not `cached`")
def _cached(bench: Bench) -> str:
    file = bench.root / f"{bench.plugin.name}.npz"
    require(
        not bench.plugin.cls.cached or (bool(len(bench.data.labels)) and file.is_file()),
        f"there is no {file}: write `cached = False`, for changes of other samples would go unnoticed",
    )
    return str(file) if bench.plugin.cls.cached else "not cached"


@KIT.check("loading does without torch's compiler", f"none of {', '.join(COMPILER)} is imported by it")
def _compiler(bench: Bench) -> str:
    found = bench.elsewhere[0]["imported"]
    require(not found, f"{', '.join(found)}, of which torchvision's transforms are the usual cause")
    return "not imported"


@KIT.check("its own network takes the images", "class scores for the network that the class names")
def _network(bench: Bench) -> str:
    channels, height, width = bench.data.images.shape[1:]
    networks = plugins.parse_networks(bench.plugin.cls.network, bench.clients)
    made = [plugins.network(p, (channels, height, width), bench.data.classes) for p in networks.distinct]
    sizes = [sum(torch.Size(shape).numel() for shape in network.shapes.values()) for network in made]
    return ", ".join(f"{network.name}, {size} parameters" for network, size in zip(made, sizes, strict=True))


@KIT.check(
    "its own partition can be made", "rows for every client, with the partition and clients that the class names"
)
def _partition(bench: Bench) -> str:
    cls = bench.plugin.cls
    kind = plugins.parse_partition(None, cls)
    made = split(bench.data, kind, bench.clients, 0, cls.validation_rows)
    return f"{kind}, {bench.clients} clients hold {made.used:.0%} of the samples"
