"""What clients are given, read, keep and return."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from fedbench.check.comparing import clone, finite, gap
from fedbench.check.messages import JOLTS, jolted, outcome
from fedbench.check.meter import Meter
from fedbench.check.purity import DETERMINED, DOUBLE
from fedbench.check.sentence import EXACT, MESSAGES, SAME, check, require
from fedbench.check.subject import Subject, logits, models, replaces_predict, visit
from fedbench.method import Method
from fedbench.seeds import torch_stream
from fedbench.training import Engine, Progress
from fedbench.tree import Tree, row


@check(
    "client states are isolated",
    "the same upload of a client whoever trained before it; unvisited clients unchanged",
    DETERMINED,
)
def _isolated(subject: Subject) -> str:
    results = []
    for before in ([], [0], [0, 2]):
        engine = subject.engine()
        progress = engine.start()
        server = clone(progress.server)
        for i in before:
            visit(engine, progress, [i])
        progress.server, progress.round = server, 0
        kept = clone(progress.clients)
        _, upload = visit(engine, progress, [1])
        for i in kept:
            found = gap(kept[i], progress.clients[i])
            require(found.size == 0, f"an unvisited client changed: {found}", "client_train")
        results.append((upload, progress.clients.get(1)))
    for other in results[1:]:
        found = gap(results[0], other)
        require(found.size == 0, f"client 1 when others train before it: {found}", "client_train")
    return "no difference"


# ---------------------------------------------------------------- rows


def _answers(engine: Engine, progress: Progress, there: Engine, i: int) -> Iterator[tuple[str, Any]]:
    """What each function of client `i` of the engine `there` returns, given what the server of `engine` says."""
    method = there.method
    cohort = engine.cohort([i], progress.round)
    welcome = engine.method.server_welcome(progress.server, cohort)
    message = row(engine.method.server_send(progress.server, cohort), 0)
    state = method.client_init(row(welcome, 0), torch_stream(engine.seed, "client", i))
    yield "client_init", state
    for kept in (state, progress.clients.get(i, state)):
        batches = there.batches("train", method.train_draw, progress.round, i)
        yield "client_train", method.client_train(message, kept, batches)
        batches = there.batches("personalize", method.personalize_draw, progress.round, i)
        model = method.client_personalize(message, kept, batches)
        yield "client_personalize", model
        yield "predict", logits(method, engine, model)


@check(
    "a client reads its own rows only",
    "the same uploads, states, models and scores whatever images and labels the other clients hold, and how many",
    DETERMINED,
)
def _own_rows(subject: Subject) -> str:
    engine, progress, _, _ = subject.trained()
    for i in engine.clients.ids:
        here, there = (subject.engine(own=own, dtype=torch.float64) for own in (None, (i,)))
        with torch.no_grad():
            pairs = zip(_answers(engine, progress, here, i), _answers(engine, progress, there, i), strict=True)
            for (name, one), (_, other) in pairs:
                found = gap(one, other)
                require(found.size == 0, f"client {i} with other rows of the others: {name}: {found}", name)
    return "no difference"


@check("the server reads no rows", "the same answers of every server function whatever all clients hold", DETERMINED)
def _no_rows(subject: Subject) -> str:
    method = subject.engine(own=()).method
    calls = [call for call in subject.watched().calls if call.name.startswith("server_")]
    for call in calls:
        found = gap(call.result, call.again(method))
        require(found.size == 0, f"{call.name} with other rows of all clients: {found}", call.name)
    return f"{len(calls)} calls"


@check("padded and short batches change nothing", "the same results with -1 added to every batch, float64, to 1e-12")
def _padding(subject: Subject) -> str:
    engine = subject.engine(**DOUBLE)
    method, progress = engine.method, engine.start()
    worst = 0.0
    with torch.no_grad():
        cohort = engine.cohort([0, 1, 2, 3], 0)
        message = method.server_send(progress.server, cohort)
        states, _ = engine.states(progress.server, {}, cohort)
        for i, state in enumerate(states):
            for function, draw in (
                (method.client_train, method.train_draw),
                (method.client_personalize, method.personalize_draw),
            ):
                batches = engine.batches("train", draw, 0, i)
                both: list[Any] = [
                    function(row(message, i), state, rows) for rows in (batches, F.pad(batches, (0, 3), value=-1))
                ]
                name = function.__name__
                if name == "client_personalize" and replaces_predict(method):
                    both = [logits(method, engine, model) for model in both]
                found = gap(*both)
                require(found.size <= EXACT, f"{name} on a batch of {batches.shape[1]}: {found}", name)
                worst = max(worst, found.size)
    return f"differences up to {worst:.1e}"


@check(
    "every batch that is drawn is used",
    "another result, or another question to the network, from other rows in each batch",
    (MESSAGES, SAME),
)
def _batches(subject: Subject) -> str:
    meter = Meter()
    engine = subject.engine(meter=meter)
    method, progress, client = engine.method, engine.start(), 3
    visit(engine, progress, [client])
    cohort = engine.cohort([client], progress.round)
    with torch.no_grad():
        message = row(method.server_send(progress.server, cohort), 0)
        states, _ = engine.states(progress.server, progress.clients, cohort)
    tried = 0
    for function, draw in (
        (method.client_train, method.train_draw),
        (method.client_personalize, method.personalize_draw),
    ):
        batches, others = (engine.batches("train", draw, round_, client) for round_ in (0, 1))
        plain = outcome(meter, function, message, states[0], batches)
        for k in range(draw.steps):
            swapped = batches.clone()
            swapped[k] = others[k]
            found = gap(plain, outcome(meter, function, message, states[0], swapped))
            seen = f"{function.__name__} does not depend on batch {k + 1} of its {draw.steps}"
            require(found.size > 0, seen, function.__name__)
            tried += 1
    return f"{tried} batches"


@check("a client with one sample, with one batch, and a cohort of one work", "finite numbers everywhere")
def _small(subject: Subject) -> str:
    engine = subject.engine(sizes=(1, 8, 20, 9), clients_per_round=1)
    progress = engine.start()
    for ids in ([0], [1], [2], [0, 3], [0]):
        visit(engine, progress, ids)
        require(finite([progress.server, progress.clients]), f"numbers that are not finite after clients {ids}")
    made = models(engine, progress)
    scores = [logits(engine.method, engine, model) for model in made]
    require(finite(made) and finite(scores), "a personal model that is not finite")
    return "clients of 1, 8, 20 and 9 samples"


# ---------------------------------------------------------------- what is kept


def _with_other_states(progress: Progress, names: set[str]) -> Iterator[Progress]:
    """`progress` with other values of what clients keep, of the entries `names` where there are such; in every way."""
    for way in JOLTS:
        other = dataclasses.replace(progress, clients=clone(progress.clients))
        for state in other.clients.values():
            for name, value in state.items():
                if not names or name in names:
                    state[name] = jolted(value, way)
        yield other


def _model(engine: Engine, progress: Progress, i: int) -> Any:
    """The personal model of client `i`, or what is raised instead: a state that makes it fail has an effect."""
    try:
        return models(engine, progress)[engine.clients.ids.index(i)]
    except Exception as error:
        return type(error).__name__


def keeps_part_of_the_model(engine: Engine, progress: Progress) -> bool:
    """Whether what clients keep is part of what is scored."""
    if not progress.clients:
        return False
    i = min(progress.clients)
    model = _model(engine, progress, i)
    return any(gap(model, _model(engine, other, i)).size > 0 for other in _with_other_states(progress, set()))


@check(
    "what a client keeps matters",
    "another personal model, or at least another upload, from another state",
    (MESSAGES, SAME),
)
def _kept(subject: Subject) -> str:
    engine, progress, _, _ = subject.trained()
    if not progress.clients:
        return "clients keep nothing"
    i = min(progress.clients)
    own: set[str] = set()
    if type(engine.method).client_personalize is Method.client_personalize:  # what is kept is put into the model
        own = set(progress.clients[i]) & set(engine.method.task.network.shapes)
    model = upload = False
    for round_ in (progress.round, progress.round + 1):  # a method may do one thing in even rounds, another in odd ones
        one = dataclasses.replace(progress, round=round_, clients=clone(progress.clients))
        for other in _with_other_states(one, own):
            model = model or gap(_model(engine, one, i), _model(engine, other, i)).size > 0
            upload = upload or gap(_upload(engine, one, i), _upload(engine, other, i)).size > 0
    if own:
        seen = f"the personal model does not depend on the kept {', '.join(sorted(own))}"
        require(model, seen, "client_train")
        return f"{len(own)} parameters are the client's own"
    seen = f"neither model nor upload depends on {', '.join(progress.clients[i])}"
    require(model or upload, seen, "client_train")
    return "another model" if model else "another upload"


def _upload(engine: Engine, progress: Progress, i: int) -> Any:
    """What client `i` sends, or what is raised instead."""
    try:
        return visit(engine, dataclasses.replace(progress, clients=clone(progress.clients)), [i])[1]
    except Exception as error:
        return type(error).__name__


@check(
    "what a client draws comes back and changes",
    "after visits, what client_init made is kept, and the numbers that are trained are not all as they were",
    (MESSAGES, SAME),
)
def _comes_back(subject: Subject) -> str:
    seen = "clients keep nothing from the start"
    engine = subject.engine()
    for round_ in (0, engine.rounds - 1):
        progress = engine.start()
        progress.round = round_
        with torch.no_grad():
            (drawn,), _ = engine.states(progress.server, {}, engine.cohort([1], round_))
        drawn = clone(drawn)
        if not drawn:
            continue
        for _ in range(2):
            progress.round = round_
            visit(engine, progress, [1])
        kept: Tree = progress.clients.get(1, {})
        names = ", ".join(drawn)
        require(bool(kept), f"client_train returns nothing of {names}: it is drawn anew at every visit", "client_train")
        own = drawn.keys() & set(engine.method.task.network.shapes)
        lost = sorted(own - kept.keys())
        require(not lost, f"client_train does not return {', '.join(lost)}, which client_init made", "client_train")
        # a part of the model is there to be trained; a mask, or a number of a group, may stay
        trained = sorted(own or {name for name, value in drawn.items() if _is_trained(value)} & kept.keys())
        still = bool(trained) and gap([kept[name] for name in trained], [drawn[name] for name in trained]).size == 0
        seen = f"after two visits {', '.join(trained)} is as client_init made it"
        require(not still, seen, "client_train")
        seen = f"{len(kept)} entries"
    return seen


def _is_trained(value: torch.Tensor) -> bool:
    """Whether what a client keeps looks like numbers that are trained, and not like a mask."""
    return value.is_floating_point() and not bool(((value == 0) | (value == 1)).all())
