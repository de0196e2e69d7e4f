"""The checks of a method, one after the other: what failed, where, and because of what."""

from __future__ import annotations

import dataclasses
import inspect
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fedbench import plugins
from fedbench.check.contract import CHECKS
from fedbench.check.fresh import elsewhere
from fedbench.check.process import generators_kept
from fedbench.check.sentence import MESSAGES, Broken, CheckResult
from fedbench.check.subject import Subject
from fedbench.method import Method
from fedbench.plugins import Plugin
from fedbench.runs.torch_settings import set_up_torch

DECLARED = "declared deviations name a sentence of the contract and give a reason"


def sentences() -> list[str]:
    """The names of all checks, in the order in which they run."""
    return [*CHECKS, DECLARED]


def run_check(subject: Subject, sentence: str) -> CheckResult:
    """The check called `sentence` on the method under test. The process is left as it was."""
    declared: dict[str, str] = getattr(subject.plugin.cls, "deviations", {})
    if sentence == DECLARED:
        return _declarations(declared)
    check = CHECKS[sentence]
    place = error_name = ""
    try:
        with warnings.catch_warnings(), generators_kept(), set_up_torch(torch.device("cpu")):
            warnings.simplefilter("ignore")  # vmap warns where it falls back to a loop
            seen, broken = check.function(subject), False
    except Broken as error:
        seen, broken, place = str(error), True, _defined(subject.plugin.cls, error.function)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever a plug-in does wrong is a finding, not a crash of the kit
        seen, broken, place = " ".join(plugins.said(error).split())[:500], True, _raised(subject, error)
        error_name = type(error).__name__
    if sentence not in declared:
        return CheckResult(sentence, "fails" if broken else "holds", check.expected, seen, place, error=error_name)
    if broken:
        return CheckResult(sentence, "declared", check.expected, f"{seen} ({declared[sentence]})", place)
    reason = f"declared as a deviation ({declared[sentence]}), and yet {seen}: take the declaration out"
    return CheckResult(sentence, "fails", check.expected, reason)


def _raised(subject: Subject, error: BaseException) -> str:
    """The innermost line of the plug-in, or of a class that it builds on, that an error came through."""
    files = {_source(cls) for cls in subject.plugin.cls.__mro__} - {_source(Method), ""}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f"{Path(lines[-1].filename).name}, line {lines[-1].lineno}" if lines else ""


def _defined(cls: type[Any], function: str) -> str:
    """Where the class defines a contract function; empty where it leaves it to the base class, or is in no file."""
    owner = next((base for base in cls.__mro__ if function in vars(base)), None)
    if owner is None or owner is Method:
        return ""
    try:
        return f"{function} in {Path(_source(owner)).name}, line {inspect.getsourcelines(getattr(owner, function))[1]}"
    except (OSError, TypeError):
        return ""


def _source(cls: type[Any]) -> str:
    try:
        return inspect.getsourcefile(cls) or ""
    except TypeError:
        return ""


def _declarations(declared: dict[str, str]) -> CheckResult:
    expected = "keys of `deviations` from this list, and a reason for each"
    wrong = [name for name, reason in declared.items() if name not in CHECKS or not reason.strip()]
    seen = f"no such sentence, or no reason: {'; '.join(map(repr, wrong))}" if wrong else f"{len(declared)} declared"
    return CheckResult(DECLARED, "fails" if wrong else "holds", expected, seen)


def each_check(plugin: Plugin) -> Iterator[CheckResult]:
    """All checks on one method, one after the other, in less than a minute together.

    Of failures that have one reason the first is to be told in full; the others name it in `follows`.
    """
    subject, failed = Subject(plugin), list[CheckResult]()
    for sentence in sentences():
        result = run_check(subject, sentence)
        if result.status == "fails":
            result = dataclasses.replace(result, follows=_reason(result, failed))
            failed.append(result)
        yield result
        if sentence == MESSAGES and result.status == "holds":
            _begin_elsewhere(subject)


def _begin_elsewhere(subject: Subject) -> None:
    """Start the fresh processes early: they work while the other checks do."""
    with warnings.catch_warnings(), generators_kept(), set_up_torch(torch.device("cpu")):
        warnings.simplefilter("ignore")
        try:
            elsewhere(subject)
        except Exception:
            return  # the checks that follow will tell


def _reason(result: CheckResult, failed: Sequence[CheckResult]) -> str:
    """The sentence among `failed` that failed for the same reason as `result`: the same error, or what it rests on."""
    needs = CHECKS[result.sentence].needs if result.sentence in CHECKS else ()
    for before in failed:
        same_error = result.error and (result.error, result.place) == (before.error, before.place)
        if not before.follows and (same_error or before.sentence in needs):
            return before.sentence
    return ""


def run_checks(plugin: Plugin) -> list[CheckResult]:
    """The results of all checks on one method."""
    return list(each_check(plugin))


@lru_cache(maxsize=1)
def _subject(method: str) -> Subject:
    return Subject(plugins.find_method(method))


@dataclass(frozen=True)
class Case:
    """One check of one method, to be called by a test."""

    method: str  # a name or a file
    sentence: str

    def __call__(self) -> None:
        """Raise AssertionError where the check fails."""
        subject = _subject(self.method)
        result = run_check(subject, self.sentence)
        where = f" ({result.place})" if result.place else ""
        assert result.status != "fails", f"{self.sentence}\nexpected: {result.expected}\nseen: {result.seen}{where}"
        if self.sentence == MESSAGES:
            _begin_elsewhere(subject)
