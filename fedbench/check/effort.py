"""What a method declares to cost, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fedbench.check.meter import Meter
from fedbench.check.sentence import check, require
from fedbench.check.subject import Subject, logits, models, replaces_predict, visit
from fedbench.method import Method
from fedbench.tree import row

BATCHES = 3  # of a client's training rows: none is short, so that every gradient is one of a whole batch
TRIED: tuple[dict[str, int], ...] = ({}, {"local.steps": 2, "local.batch_size": 4})
CLOSE = 1e-6  # of counts, which are sums of shares of a batch


class Cost(NamedTuple):
    """Evaluations of the network in one call, in batches of `local.batch_size`."""

    gradients: float
    forwards: float  # without a gradient


def cost(meter: Meter, function: Callable[..., Any], *arguments: Any) -> Cost:
    """What a call costs."""
    meter.gradients = meter.forwards = 0.0
    with torch.no_grad():
        function(*arguments)
    return Cost(meter.gradients, meter.forwards)


@check(
    "effort is as declared",
    "as many gradient evaluations as `gradients_per_visit` and `gradients_to_personalize` say, and none elsewhere",
)
def _effort(subject: Subject) -> str:
    seen = ""
    for settings in TRIED:
        known = {name: value for name, value in settings.items() if name in subject.params()}
        seen = seen or _compared(subject, known)
    _compared(subject, {}, short=False)  # a cost may be that of few steps only
    return seen


def _compared(subject: Subject, settings: dict[str, Any], short: bool = True) -> str:
    meter, counted = Meter(), 0.0
    params = subject.params(short, **settings)
    sizes = [n for name, n in params.items() if name.rsplit(".", 1)[-1] == "batch_size" and isinstance(n, int)]
    engine = subject.engine(meter=meter, sizes=[BATCHES * math.lcm(*sizes)] * 4, short=short, **settings)
    method, ids = engine.method, list(engine.clients.ids)
    _none("server_init", cost(meter, engine.start))
    progress = engine.start()
    visit(engine, progress, [0, 1])
    for round_ in (progress.round, engine.rounds - 1):  # a method may begin otherwise than it ends
        progress.round = round_
        cohort = engine.cohort(ids, progress.round)
        _none("client_init", cost(meter, engine.states, progress.server, {}, cohort))
        _none("server_send", cost(meter, method.server_send, progress.server, cohort))
        with torch.no_grad():
            message = method.server_send(progress.server, cohort)
            states, _ = engine.states(progress.server, progress.clients, cohort)
        for place, i in enumerate(ids):
            batches = engine.batches("train", method.train_draw, progress.round, i)
            trained = cost(meter, method.client_train, row(message, place), states[place], batches)
            counted = max(counted, trained.gradients)
            _trained(method, trained)
            batches = engine.batches("personalize", method.personalize_draw, progress.round, i)
            _personalized(method, cost(meter, method.client_personalize, row(message, place), states[place], batches))
        _none("predict", cost(meter, logits, method, engine, models(engine, progress)[0]))
        with torch.no_grad():
            groups = engine.visit(progress, ids, progress.round)
        _none("server_receive", cost(meter, engine.receive, progress, groups))
    seen = f"{method.gradients_per_visit} gradients a visit, {method.gradients_to_personalize} to personalize"
    if counted < method.gradients_per_visit - CLOSE:  # `_trained` has let pass what is not the task's network
        seen += f", as declared; {counted:g} a visit were counted, for a network of the method's own is not"
    return seen


def _none(function: str, found: Cost) -> None:
    seen = f"{function} computes {found.gradients:g} gradients, which nothing declares"
    require(found.gradients < CLOSE, seen, function)


def _trained(method: Method, found: Cost) -> None:
    declared, steps = method.gradients_per_visit, method.steps_per_visit
    # a method that replaces `predict` may have a network of its own, whose gradients are not seen here
    fits = found.gradients <= declared + CLOSE if replaces_predict(method) else abs(found.gradients - declared) < CLOSE
    seen = f"client_train computes {found.gradients:g} gradients a visit, where gradients_per_visit says {declared}"
    require(fits, seen, "client_train")
    seen = f"steps_per_visit says {steps}, and gradients_per_visit {declared}: no step is without a gradient"
    without = declared == 0 and found.forwards > 0  # steps that follow differences of losses
    require(without or ((steps > 0) == (declared > 0) and steps <= declared), seen, "client_train")


def _personalized(method: Method, found: Cost) -> None:
    declared = method.gradients_to_personalize
    fits = found.gradients <= declared + CLOSE
    # batches that are only looked at, with no gradient, may be declared as what they are by default: one each
    if not replaces_predict(method):
        fits = fits and found.gradients + found.forwards > declared - CLOSE
    seen = f"client_personalize computes {found.gradients:g} gradients, where gradients_to_personalize says {declared}"
    require(fits, seen, "client_personalize")
