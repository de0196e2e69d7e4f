"""The checks of a partition, on small synthetic data sets with and without test rows of their own.

Letters: N clients, S strata, M samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, get_args, get_type_hints

import numpy as np
import torch

from fedbench import plugins
from fedbench.check.kit import Kit
from fedbench.check.processes import answers
from fedbench.check.sentence import require
from fedbench.check.subject import disturb
from fedbench.dataset import Data, Dataset
from fedbench.errors import BadInput
from fedbench.partition import Kind
from fedbench.partitions import SPLITS, Partition, split
from fedbench.plugins import Plugin

SAMPLES, CLASSES, GROUPS = 1200, 5, 12
VALIDATION = 200  # rows, where the data set has test rows of its own
SEEDS = (0, 42)
CLIENTS = (10, 5, 2)  # numbers of clients that are tried


class Small(Dataset):
    """What a partition may ask of a data set's class."""

    title, source, network = "Synthetic", "made up", "mlp-digits"
    validation_rows = VALIDATION


def synthetic(own_test: bool, coarse: bool = False) -> Data:
    """Samples of 5 classes, of unequal sizes, in no order; in 12 groups, or in groups of two classes."""
    draws = np.random.default_rng(7)
    labels = draws.choice(CLASSES, SAMPLES, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    return Data(
        images=torch.from_numpy(draws.integers(0, 256, (SAMPLES, 1, 2, 2)).astype(np.uint8)),
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=CLASSES,
        mean=(0.5,),
        std=(0.3,),
        test=torch.from_numpy(draws.permutation(SAMPLES) < SAMPLES // 6) if own_test else None,
        group=torch.from_numpy(labels.astype(np.int64) // 2 if coarse else draws.permutation(SAMPLES) % GROUPS),
    )


@dataclass
class Bench:
    """A kind of partition, and the federations that it makes."""

    plugin: Plugin
    settings: str = ""  # as in the text form, FIELD=VALUE,...; what is not said has its default

    @property
    def text(self) -> str:
        """The text that finds the partition, from any folder."""
        return f"{self.plugin.where}:{self.settings}" if self.settings else self.plugin.where

    @property
    def kind(self) -> Kind:
        """The partition with its settings. Raises BadInput where they cannot be."""
        return plugins.parse_partition(self.text, Small)

    @cached_property
    def coarse(self) -> bool:
        """Whether it needs groups of classes. Raises BadInput where it takes neither these nor other groups."""
        try:
            split(synthetic(False), self.kind, CLIENTS[0], SEEDS[0], VALIDATION)
        except BadInput as refusal:
            try:
                split(synthetic(False, coarse=True), self.kind, CLIENTS[0], SEEDS[0], VALIDATION)
            except BadInput:
                raise refusal from None
            return True
        return False

    def made(self) -> Iterator[tuple[Data, Partition, str]]:
        """All data sets, numbers of clients and seeds: the data, the partition, and what it is in words.

        The kind itself may refuse numbers of clients, but the first; what it returns for the others can be dealt.
        """
        for own_test in (False, True):
            for clients in CLIENTS:
                for seed in SEEDS:
                    words = f"{clients} clients, seed {seed}, {'' if own_test else 'no '}test rows of its own"
                    try:
                        self.kind.shares(synthetic(own_test, self.coarse), clients, seed)
                    except BadInput:
                        if clients == CLIENTS[0]:
                            raise
                        continue
                    dealt = split(synthetic(own_test, self.coarse), self.kind, clients, seed, VALIDATION)
                    yield synthetic(own_test, self.coarse), dealt, words

    def sums(self) -> list[str]:
        """The checksums of all that is `made`."""
        return [dealt.checksum() for _, dealt, _ in self.made()]


ELSEWHERE = """
from fedbench.check.partitions import Bench
from fedbench.plugins import find_partition

def answer(where, settings):
    return Bench(find_partition(where), settings).sums()
"""

KIT: Kit[Bench] = Kit()


@KIT.check("rows can be dealt", f"a partition of {SAMPLES} samples for {CLIENTS[0]} clients, and for fewer")
def _deals(bench: Bench) -> str:
    used = [made.used for _, made, _ in bench.made()]
    return f"{bench.kind}: {min(used):.0%} to {max(used):.0%} of the samples are used"


@KIT.check("settings have a meaning", "a description for every field, and a docstring of the class")
def _settings(bench: Bench) -> str:
    cls = bench.plugin.cls
    require(bool((cls.__doc__ or "").strip()), f"{cls.__name__} has no docstring")
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        notes: tuple[Any, ...] = get_args(hints[field.name])[1:]
        require(any(getattr(note, "description", None) for note in notes), f"{field.name} has no description")
    return ", ".join(field.name for field in fields(cls)) or "no settings"


@KIT.check("the text form is read back", "an equal partition from `str` of one, as results store it")
def _text(bench: Bench) -> str:
    kind = bench.kind
    again = replace(bench, settings=str(kind).partition(":")[2]).kind
    require(again == kind and str(again) == str(kind), f"{str(again)!r} from {str(kind)!r}")
    return str(kind)


@KIT.check("rows are disjoint", "no row of two clients, and none twice of one")
def _disjoint(bench: Bench) -> str:
    for _, made, words in bench.made():
        for name in SPLITS:
            rows = torch.cat(getattr(made, name))
            require(len(set(rows.tolist())) == len(rows), f"a {name} row is there twice ({words})")
            require(0 <= int(rows.min()) <= int(rows.max()) < SAMPLES, f"a row that does not exist ({words})")
    return "every row has at most one owner"


@KIT.check(
    "splits are apart", "training, validation and test rows with none in common, test rows from the data set's own"
)
def _apart(bench: Bench) -> str:
    for data, made, words in bench.made():
        every = torch.cat([row for name in SPLITS for row in getattr(made, name)])
        require(len(set(every.tolist())) == len(every), f"a row is in two splits ({words})")
        if data.test is not None:
            require(bool(data.test[torch.cat(made.test)].all()), f"a row is tested on that is no test row ({words})")
            others = torch.cat([*made.train, *made.validation])
            require(not bool(data.test[others].any()), f"a test row is trained or chosen on ({words})")
    return "none in common"


@KIT.check("every client holds rows", "at least `least(split)` rows, and 1, of training, validation and test")
def _least(bench: Bench) -> str:
    fewest = SAMPLES
    for _, made, words in bench.made():
        for name in SPLITS:
            sizes = [len(rows) for rows in getattr(made, name)]
            needed = max(1, bench.kind.least(name))
            require(min(sizes) >= needed, f"client {sizes.index(min(sizes))} has {min(sizes)} {name} rows ({words})")
            fewest = min(fewest, min(sizes))
    return f"{fewest} rows and more"


@KIT.check("it is keyed by the seed", "the same rows from the same seed, whatever other generators do")
def _keyed(bench: Bench) -> str:
    data = synthetic(False, bench.coarse)
    sums = []
    for noise in (1, 2):
        disturb(noise)
        sums.append(split(data, bench.kind, CLIENTS[0], 3, VALIDATION).checksum())
    require(sums[0] == sums[1], "other rows from the same seed: draw from fedbench.seeds.numpy_stream(seed, ...) alone")
    one, other = (bench.kind.shares(data, CLIENTS[0], seed) for seed in (3, 4))
    return "other shares for another seed" if (one != other).any() else "the same shares for all seeds, dealt otherwise"


@KIT.check("a fresh process deals the same", "equal rows in two others, each with a PYTHONHASHSEED of its own")
def _elsewhere(bench: Bench) -> str:
    here = bench.sums()
    there = answers(ELSEWHERE, bench.plugin.where, bench.settings)
    require(all(sums == here for sums in there), "other rows: is an order that of a set?")
    return "two processes"


@KIT.check("the data is left alone", "the bits of the samples as they were")
def _pure(bench: Bench) -> str:
    for own_test in (False, True):
        data, before = (synthetic(own_test, bench.coarse) for _ in range(2))
        split(data, bench.kind, CLIENTS[0], 0, VALIDATION)
        for name in ("images", "labels", "group", "test") if own_test else ("images", "labels", "group"):
            require(torch.equal(getattr(data, name), getattr(before, name)), f"{name} were modified")
    return "not modified"
