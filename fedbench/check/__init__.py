"""Is this method a correct federated method? Every promise of the contract, tried on a small synthetic federation.

    fedbench check my_method.py                           # one line a check

    fedbench.check("my_method.py")                        # in Python, by name, file or class

    import fedbench.check                                 # and in a plug-in author's own tests, one test case a check:

    @fedbench.check.parametrize(["my_method.py"])
    def test_contract(check):
        check()

A method that departs from the contract knowingly says so, `deviations: ClassVar[dict[str, str]] = {SENTENCE: REASON}`.
The check of that sentence must then fail: a declaration that has become untrue is an error as well.

What the kit cannot know: whether the algorithm is that of its paper (a plain mean instead of a weighted one, a wrong
sign that still learns), whether uploads give private data away, whether training diverges later or on other data,
whether a client function asks the clock, the environment or a generator of its own, and what a plug-in does that wants
to deceive.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from fedbench import plugins
from fedbench.check import kinds
from fedbench.check.methods import Case, each_check, run_check, run_checks, sentences
from fedbench.check.sentence import CheckResult
from fedbench.check.subject import Subject
from fedbench.method import Method
from fedbench.plugins.given import text_of

if TYPE_CHECKING:
    import pytest

__all__ = ["CheckResult", "Checks", "Subject", "each_check", "parametrize", "run_check", "run_checks", "sentences"]


def parametrize(methods: Sequence[str]) -> pytest.MarkDecorator:
    """A decorator for a test function with the one argument `check`: one case for each check of each of `methods`.

    They may be data sets, partitions and networks as well; a name is a method's where there is such a method.
    """
    import pytest

    cases: list[tuple[str, Case | kinds.Case]] = []
    for text in methods:
        for kind in ["method"] if text in plugins.names("method") else kinds.kinds_of(text):
            found = [Case(text, sentence) for sentence in sentences()] if kind == "method" else kinds.cases(kind, text)
            cases += [(text, case) for case in found]
    names = [f"{text}: {case.sentence}" for text, case in cases]
    return pytest.mark.parametrize("check", [case for _, case in cases], ids=names)


class Checks(list[CheckResult]):
    """The results of all checks on one method; they print as one line each."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__

    @property
    def holds(self) -> bool:
        """Whether no check failed."""
        return all(result.status != "fails" for result in self)


class _Module(ModuleType):
    """This module, which can be called: `fedbench.check("my_method.py")`."""

    def __call__(self, method: str | type[Method]) -> Checks:
        """All checks on one method, given by name, file or class."""
        plugins.refresh()
        return Checks(each_check(plugins.find_method(text_of("method", method))))


sys.modules[__name__].__class__ = _Module
