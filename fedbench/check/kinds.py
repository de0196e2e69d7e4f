"""Checks of every kind of plug-in: which kind a file or name is, and a list of sentences for each of them.

The checks of a method are in `contract`; those of a data set, a partition and a network are in files of these names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from fedbench import plugins
from fedbench.check import CheckResult
from fedbench.check import each_check as each_check_of_method
from fedbench.check.sentence import Broken
from fedbench.dataset import data_root
from fedbench.errors import BadInput, unknown_name
from fedbench.plugins import Plugin, finding
from fedbench.plugins.finding import WORDS

__all__ = ["WORDS", "Case", "Kit", "Sentence", "cases", "each_check", "kinds_of"]

Subject = TypeVar("Subject")


class Sentence(NamedTuple, Generic[Subject]):
    """A check: what it expects, and the function that returns what it saw, or raises Broken."""

    expected: str
    function: Callable[[Subject], str]


class Kit(Generic[Subject]):
    """The checks of one kind of plug-in, by sentence, in the order in which they run."""

    def __init__(self) -> None:
        self.sentences: dict[str, Sentence[Subject]] = {}

    def check(self, sentence: str, expected: str) -> Callable[[Callable[[Subject], str]], Callable[[Subject], str]]:
        """Register a function as the check of `sentence`."""

        def register(function: Callable[[Subject], str]) -> Callable[[Subject], str]:
            self.sentences[sentence] = Sentence(expected, function)
            return function

        return register

    def run(self, subject: Subject, sentence: str) -> CheckResult:
        """The check called `sentence` on `subject`; whatever its author's code raises is a finding."""
        expected, function = self.sentences[sentence]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return CheckResult(sentence, "holds", expected, function(subject))
        except (Broken, BadInput) as error:
            return CheckResult(sentence, "fails", expected, str(error))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            return CheckResult(sentence, "fails", expected, plugins.said(error) + plugins.place(error))
        finally:
            torch.set_num_threads(threads)

    def each(self, subject: Subject) -> Iterator[CheckResult]:
        """All checks; none after the first, where that fails: it says whether there is anything to check."""
        for place, sentence in enumerate(self.sentences):
            result = self.run(subject, sentence)
            yield result
            if place == 0 and result.status == "fails":
                return


def kinds_of(text: str) -> list[str]:
    """The kinds of plug-in that `text`, a file or a name, stands for: "method", "dataset", "partition", "network".

    A file may define a plug-in of several kinds, and a name may be known in several. Raises BadInput where there is
    none.
    """
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


def each_check(kind: str, plugin: Plugin, data_root: Path | None = None) -> Iterator[CheckResult]:
    """All checks of a plug-in of one kind, one after the other; a data set's file is looked for in `data_root`."""
    if kind == "method":
        yield from each_check_of_method(plugin)
        return
    kit, bench = _bench(kind, plugin, data_root)
    yield from kit.each(bench)


def _bench(kind: str, plugin: Plugin, root: Path | None = None) -> tuple[Kit[Any], Any]:
    """The checks of a kind, and what they are called with; each module is imported only where it is needed."""
    if kind == "dataset":
        from fedbench.check import datasets

        return datasets.KIT, datasets.Bench(plugin, data_root(root))
    if kind == "partition":
        from fedbench.check import partitions

        return partitions.KIT, partitions.Bench(plugin)
    from fedbench.check import networks

    return networks.KIT, networks.Bench(plugin)


@cache
def _bench_of(kind: str, text: str) -> tuple[Kit[Any], Any]:
    return _bench(kind, plugins.find(kind, text))


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
