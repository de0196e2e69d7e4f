"""Checks of every kind of plug-in: which kind a file or name is, and a list of sentences for each of them.

The checks of a method are in `contract`; those of a data set, a partition and a network are in files of these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedbench import plugins
from fedbench.check import datasets, methods, networks, partitions
from fedbench.check.kit import Kit
from fedbench.check.sentence import CheckResult
from fedbench.dataset import data_root
from fedbench.errors import BadInput, unknown_name
from fedbench.plugins import finding
from fedbench.plugins.finding import WORDS
from fedbench.plugins.texts import cut

__all__ = ["WORDS", "Case", "cases", "each_check", "kinds_of"]


def kinds_of(text: str) -> list[str]:
    """The kinds of plug-in that `text`, a file or a name, stands for: "method", "dataset", "partition", "network".

    A file may define a plug-in of several kinds, and a name may be known in several; with settings behind a colon it is
    a partition. Raises BadInput where there is none.
    """
    plugins.refresh()
    text, settings = cut(text)
    if settings is not None:
        plugins.find_partition(text)
        return ["partition"]
    if text.endswith(".py"):
        module = finding.imported(finding.existing(text), text)
        with plugins.guarded(text, "cannot be looked at"):
            kinds = finding.kinds_defined(module)
        if not kinds:
            raise BadInput(
                f"{text} defines no plug-in: define a subclass of fedbench.method.Method, fedbench.dataset.Dataset or "
                "fedbench.partition.Kind, or a function `network(image, classes)`; `fedbench new` writes each of them"
            )
        return kinds
    kinds = [kind for kind in WORDS if finding.known(kind, text)]
    if not kinds:
        raise unknown_name("plug-in", text, {name for kind in WORDS for name in plugins.names(kind)})
    return kinds


def each_check(kind: str, text: str, data_root: Path | None = None) -> Iterator[CheckResult]:
    """All checks of a plug-in of one kind, one after the other; a data set's file is looked for in `data_root`."""
    if kind == "method":
        yield from methods.each_check(plugins.find_method(text))
        return
    kit, bench = _bench(kind, text, data_root)
    yield from kit.each(bench)


def _bench(kind: str, text: str, root: Path | None = None) -> tuple[Kit[Any], Any]:
    """The checks of a kind, and what they are called with."""
    where, settings = cut(text) if kind == "partition" else (text, None)
    plugin = plugins.find(kind, where)
    if kind == "dataset":
        return datasets.KIT, datasets.Bench(plugin, data_root(root))
    if kind == "partition":
        return partitions.KIT, partitions.Bench(plugin, settings or "")
    return networks.KIT, networks.Bench(plugin)


_bench_of = cache(_bench)


@dataclass(frozen=True)
class Case:
    """One check of a data set, a partition or a network, to be called by a test."""

    kind: str
    plugin: str  # a name or a file
    sentence: str

    def __call__(self) -> None:
        """Raise AssertionError where the check fails."""
        kit, bench = _bench_of(self.kind, self.plugin)
        result = kit.run(bench, self.sentence)
        assert result.status != "fails", f"{self.sentence}\nexpected: {result.expected}\nseen: {result.seen}"


def cases(kind: str, text: str) -> list[Case]:
    """One case for each check of a data set, a partition or a network."""
    return [Case(kind, text, sentence) for sentence in _bench_of(kind, text)[0].sentences]
