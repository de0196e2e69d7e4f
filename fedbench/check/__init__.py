"""Is this method a correct federated method? Every promise of the contract, tried on a small synthetic federation.

    fedbench check my_method.py                           # one line a check

    fedbench.check("my_method.py")                        # in Python, by name, file or class

    import fedbench.check                                 # and in a plug-in author's own tests, one test case a check:

    @fedbench.check.parametrize(["my_method.py"])
    def test_contract(check):
        check()

A method that departs from the contract knowingly says so, `deviations: ClassVar[dict[str, str]] = {SENTENCE: REASON}`.
The check of that sentence must then fail: a declaration that has become untrue is an error as well.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import torch

from fedbench import plugins
from fedbench.check.contract import CHECKS, Broken
from fedbench.check.lab import Lab
from fedbench.plugins import Plugin
from fedbench.plugins.given import text_of

if TYPE_CHECKING:
    import pytest

    from fedbench.method import Method

__all__ = ["CheckResult", "Checks", "Lab", "each_check", "parametrize", "run_check", "run_checks", "sentences"]

DECLARED = "declared deviations name a sentence of the contract and give a reason"


@dataclass(frozen=True)
class CheckResult:
    """How one check went. `declared` is a known deviation, which failed as it must."""

    sentence: str
    status: Literal["holds", "fails", "declared"]
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.status:<8}  {self.sentence}. Expected: {self.expected}. Seen: {self.seen}"


def sentences() -> list[str]:
    """The names of all checks, in the order in which they run."""
    return [*CHECKS, DECLARED]


def run_check(lab: Lab, sentence: str) -> CheckResult:
    """The check called `sentence` on the method of `lab`."""
    declared: dict[str, str] = getattr(lab.plugin.cls, "deviations", {})
    if sentence == DECLARED:
        return _declarations(declared)
    check = CHECKS[sentence]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap warns where it falls back to a loop
            seen, broken = check.function(lab), False
    except Broken as error:
        seen, broken = str(error), True
    except Exception as error:  # whatever a plug-in does wrong is a finding, not a crash of the kit
        seen, broken = " ".join(f"{type(error).__name__}: {error}".split())[:500], True
    finally:
        torch.set_num_threads(threads)
    if sentence not in declared:
        return CheckResult(sentence, "fails" if broken else "holds", check.expected, seen)
    if broken:
        return CheckResult(sentence, "declared", check.expected, f"{seen} ({declared[sentence]})")
    reason = f"declared as a deviation ({declared[sentence]}), and yet {seen}: take the declaration out"
    return CheckResult(sentence, "fails", check.expected, reason)


def _declarations(declared: dict[str, str]) -> CheckResult:
    expected = "keys of `deviations` from this list, and a reason for each"
    wrong = [name for name, reason in declared.items() if name not in CHECKS or not reason.strip()]
    seen = f"no such sentence, or no reason: {'; '.join(map(repr, wrong))}" if wrong else f"{len(declared)} declared"
    return CheckResult(DECLARED, "fails" if wrong else "holds", expected, seen)


def each_check(plugin: Plugin) -> Iterator[CheckResult]:
    """All checks on one method, one after the other; a few seconds to a minute together."""
    lab = Lab(plugin)
    for sentence in sentences():
        yield run_check(lab, sentence)


def run_checks(plugin: Plugin) -> list[CheckResult]:
    """The results of all checks on one method."""
    return list(each_check(plugin))


@lru_cache(maxsize=1)
def _lab(method: str) -> Lab:
    return Lab(plugins.find_method(method))


@dataclass(frozen=True)
class Case:
    """One check of one method, to be called by a test."""

    method: str  # a name or a file
    sentence: str

    def __call__(self) -> None:
        """Raise AssertionError where the check fails."""
        result = run_check(_lab(self.method), self.sentence)
        assert result.status != "fails", f"{self.sentence}\nexpected: {result.expected}\nseen: {result.seen}"


def parametrize(methods: Sequence[str]) -> pytest.MarkDecorator:
    """A decorator for a test function with the one argument `check`: one case for each check of each of `methods`."""
    import pytest

    cases = [Case(method, sentence) for method in methods for sentence in sentences()]
    return pytest.mark.parametrize("check", cases, ids=[f"{case.method}: {case.sentence}" for case in cases])


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
        return Checks(each_check(plugins.find_method(text_of("method", method))))


sys.modules[__name__].__class__ = _Module
