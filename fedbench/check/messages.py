"""Messages and uploads: their form, their size, and that all of them is of use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fedbench.check.comparing import clone, gap, leaves
from fedbench.check.meter import Meter
from fedbench.check.sentence import EXACT, MESSAGES, PURE, SAME, Broken, check, require
from fedbench.check.subject import Subject, rng, visit
from fedbench.training import Engine, Progress
from fedbench.tree import Tree, nbytes, row


def _stacked(what: str, tree: object, count: int, function: str) -> Tree:
    """`tree`, where it is a dict of tensors [count, ...]."""
    _plain_tree(what, tree, function)
    assert isinstance(tree, dict)
    for name, value in tree.items():
        shape = list(value.shape)
        require(shape[:1] == [count], f"{what} {name!r} has shape {shape} for a cohort of {count}", function)
    return tree


def _plain_tree(what: str, tree: object, function: str) -> None:
    if not isinstance(tree, dict):
        raise Broken(f"{what} is a {type(tree).__name__}", function)
    for name, value in tree.items():
        right = isinstance(name, str) and isinstance(value, Tensor)
        require(right, f"{what} has {name!r}: {type(value).__name__}", function)


def _kept(what: str, state: object, function: str) -> None:
    """Raise Broken where something inside of `state` is neither a tensor nor plain data: no checkpoint holds it."""
    for leaf in leaves(state):
        plain = isinstance(leaf, Tensor) or leaf is None or type(leaf) in (bool, int, float, str)
        require(plain, f"{what} holds a {type(leaf).__name__}: make it a tensor", function)


def _detached(what: str, value: Any, function: str) -> None:
    found = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves(value))
    require(not found, f"in {what} a tensor requires a gradient", function)


@check(MESSAGES, "dicts of tensors, [C, ...] from the server and [...] from a client, that require no gradient", ())
def _messages(subject: Subject) -> str:
    engine = subject.engine()
    method, progress = engine.method, engine.start()
    _kept("the server's state", progress.server, "server_init")
    _detached("the server's state", progress.server, "server_init")
    cohort = engine.cohort([2, 0, 3], 0)
    with torch.no_grad():
        message = _stacked("message", method.server_send(progress.server, cohort), 3, "server_send")
        _stacked("welcome", method.server_welcome(progress.server, cohort), 3, "server_welcome")
        states, _ = engine.states(progress.server, {}, cohort)
        for i, state in enumerate(states):
            _plain_tree("what client_init returns", state, "client_init")
            batches = engine.batches("train", method.train_draw, 0, int(cohort.ids[i]))
            answer = method.client_train(row(message, i), state, batches)
            pair = isinstance(answer, tuple) and len(answer) == 2
            require(pair, f"client_train returns a {type(answer).__name__}", "client_train")
            _plain_tree("upload", answer[0], "client_train")
            _plain_tree("what client_train keeps", answer[1], "client_train")
            _detached("what client_train returns", answer, "client_train")
    visit(engine, progress, [2, 0, 3])
    _kept("the server's state", progress.server, "server_receive")
    _detached("the server's state", progress.server, "server_receive")
    sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in list(message.items())[:2])
    return f"{len(message)} tensors: {sizes}, ..." if message else "nothing is sent"


@check("message size is constant", "as many bytes for every client in every round, each way")
def _size(subject: Subject) -> str:
    watched = subject.watched()
    for name in ("server_send", "client_train"):
        sizes = set()
        for call in [*watched.results(name), *(call for call in watched.later if call.name == name)]:
            result = call.result if name == "server_send" else call.result[0]
            count = len(call.arguments[1]["a cohort"][0]) if name == "server_send" else 1
            sizes.add(nbytes(result) // count)
        require(len(sizes) == 1, f"{' and '.join(map(str, sorted(sizes)))} bytes from {name}", name)
    return f"{sizes.pop()} bytes an upload"


@check(
    "a message does not depend on the cohort",
    "the same message to a client alone and among others, float64, to 1e-12",
    (MESSAGES, SAME),
)
def _alone(subject: Subject) -> str:
    engine = subject.engine(dtype=torch.float64, plain=True)
    progress = engine.start()
    worst = 0.0
    for ids in ([0, 1], [2, 3]):
        visit(engine, progress, ids)
        for name in ("server_send", "server_welcome"):
            function = getattr(engine.method, name)
            with torch.no_grad():
                together = function(progress.server, engine.cohort([2, 0, 3, 1], progress.round))
                for place, i in enumerate([2, 0, 3, 1]):
                    alone = function(progress.server, engine.cohort([i], progress.round))
                    found = gap(row(alone, 0), row(together, place))
                    require(found.size <= EXACT, f"{name} to client {i} alone and among others: {found}", name)
                    worst = max(worst, found.size)
    return f"differences up to {worst:.1e}"


# ---------------------------------------------------------------- is all of it of use?


JOLTS = range(5)


def jolted(value: Tensor, way: int) -> Tensor:
    """Another value of the same form, in one of several ways: a counter or a sign need not feel a small one."""
    if value.dtype == torch.bool:
        return ~value
    if not value.is_floating_point():
        return value + (1, -1, 10, 100, 1000)[way]
    noise = torch.randn(value.shape, generator=rng()).to(value)
    return (value + 0.1 * noise, value + 1, value - 1, -value, value + 10 * noise)[way]


def outcome(meter: Meter, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, and what it asks the network meanwhile: all that an argument can have an effect on."""
    with torch.no_grad(), meter.listening() as asked:
        try:
            return clone(function(*arguments)), asked
        except Exception as error:  # an argument that makes it fail has an effect
            return type(error).__name__, asked


def _uses(meter: Meter, engine: Engine, progress: Progress) -> Iterator[tuple[str, str, bool]]:
    """For each entry of a round's messages and uploads: the way it takes, its name, and whether it has an effect."""
    method, ids = engine.method, list(engine.clients.ids)
    cohort = engine.cohort(ids, progress.round)
    with torch.no_grad():
        states, _ = engine.states(progress.server, progress.clients, cohort)
        message = method.server_send(progress.server, cohort)
    calls = []
    for place, i in enumerate(ids):
        for function, draw in (
            (method.client_train, method.train_draw),
            (method.client_personalize, method.personalize_draw),
        ):
            rest = (states[place], engine.batches("train", draw, progress.round, i))
            calls.append((function, row(message, place), rest, outcome(meter, function, row(message, place), *rest)))
    for name in message:
        yield (
            "message",
            name,
            any(
                gap(before, outcome(meter, function, {**mine, name: jolted(mine[name], way)}, *rest)).size
                for way in JOLTS
                for function, mine, rest, before in calls
            ),
        )
    server = progress.server
    _, upload = visit(engine, progress, ids)
    plain = outcome(meter, method.server_receive, server, cohort, upload)
    for name, value in upload.items():
        others = (
            outcome(meter, method.server_receive, server, cohort, {**upload, name: jolted(value, way)}) for way in JOLTS
        )
        yield "upload", name, any(gap(plain, other).size for other in others)


@check(
    "every entry of a message is used",
    "another result, or another question to the network, from another value of each entry of messages and uploads",
    (MESSAGES, PURE, SAME),
)
def _entries(subject: Subject) -> str:
    meter = Meter()
    engine = subject.engine(meter=meter)
    progress = engine.start()
    visit(engine, progress, [0, 1])
    used: dict[tuple[str, str], bool] = {}
    for round_ in (progress.round, progress.round + 1, engine.rounds - 1):
        progress.round = round_
        for way, name, effect in _uses(meter, engine, progress):
            used[way, name] = used.get((way, name), False) or effect
    idle = [f"{name!r} of the {way}" for (way, name), effect in used.items() if not effect]
    function = "server_send" if idle and idle[0].endswith("message") else "client_train"
    require(not idle, f"{', '.join(idle)}: sent and counted, and nothing depends on it", function)
    return f"{len(used)} entries"
