"""A list of checks, each of which is named as a sentence of a contract."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

import torch

from fedbench import plugins
from fedbench.check.sentence import Broken, CheckResult
from fedbench.errors import BadInput

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
            where = plugins.place(error).strip(" ()")
            return CheckResult(sentence, "fails", expected, plugins.said(error), where, error=type(error).__name__)
        finally:
            torch.set_num_threads(threads)

    def each(self, subject: Subject) -> Iterator[CheckResult]:
        """All checks; none after the first, where that fails: it says whether there is anything to check."""
        for place, sentence in enumerate(self.sentences):
            result = self.run(subject, sentence)
            yield result
            if place == 0 and result.status == "fails":
                return
