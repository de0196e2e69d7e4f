"""All sentences of the contract, in the order in which they are tried: what others rest on comes first."""

from fedbench.check import clients, declared, effort, held_out, messages, personal, purity
from fedbench.check.sentence import CHECKS as _ALL
from fedbench.check.sentence import MESSAGES, PURE, SAME, Check

_ROOMS = [room.__name__ for room in (declared, messages, purity, clients, effort, personal, held_out)]
_FIRST = (MESSAGES, PURE, SAME)


def _place(sentence: str) -> tuple[bool, bool, int]:
    """Where a sentence stands: fresh processes, which are at work meanwhile, last."""
    room = _ROOMS.index(_ALL[sentence].function.__module__)
    return sentence.startswith("a fresh process"), room > 0 and sentence not in _FIRST, room


CHECKS: dict[str, Check] = {name: _ALL[name] for name in sorted(_ALL, key=_place)}
