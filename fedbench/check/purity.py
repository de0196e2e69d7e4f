"""Functions that are functions: of their arguments alone, whatever ran before, in whatever process."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from fedbench.check.comparing import gap, leaves
from fedbench.check.fresh import PARTS, Elsewhere, elsewhere
from fedbench.check.sentence import EXACT, MESSAGES, PURE, SAME, Broken, check, require
from fedbench.check.subject import Subject, disturb, models, numbers, one_round, run, told_apart, visit
from fedbench.check.watched import Apart, Call
from fedbench.runs import checkpoint
from fedbench.training import Progress
from fedbench.tree import row

DOUBLE: dict[str, Any] = {"dtype": torch.float64, "plain": True}
DETERMINED = (MESSAGES, PURE, SAME)


@check(PURE, "arguments and earlier results keep their bits, in every call of a run")
def _pure(subject: Subject) -> str:
    watched = subject.watched()
    what = dict.fromkeys(watched.modified)
    require(not what, "modified: " + ", ".join(what_ for what_, _ in what), *(f for _, f in list(what)[:1]))
    return f"{len(watched.calls)} calls"


@check("the process is left as it was", "the same settings of torch, generators, environment after import and calls")
def _process(subject: Subject) -> str:
    left = dict.fromkeys(subject.watched().left)
    require(
        not left, ", ".join(f"{function} changes {what}" for what, function in left), *(f for _, f in list(left)[:1])
    )
    return f"after {len(subject.watched().calls)} calls"


@check("no file is opened", "no file, connection or other program in any contract function, nor where it is set up")
def _files(subject: Subject) -> str:
    found = dict.fromkeys(subject.watched().opened)
    require(not found, ", ".join(f"{function} {what}" for what, function in found), *(f for _, f in list(found)[:1]))
    return f"in {len(subject.watched().calls)} calls"


@check(SAME, "equal numbers from a fresh instance, from a used one, and whatever other generators do")
def _same(subject: Subject) -> str:
    disturb(1)
    engine = subject.engine()
    first = subject.once("straight", lambda: numbers(run(engine)))
    disturb(2)
    found = gap(first, numbers(run(subject.engine())))
    require(found.size == 0, f"two fresh instances: {found}")
    found = gap(first, numbers(run(engine)))
    require(found.size == 0, f"the same instance when used again: {found}")
    for call in subject.watched().later:
        found = gap(call.result, call.again(subject.engine().method))
        require(found.size == 0, f"a fresh instance in a later round: {found}", call.name)
    return f"{len(leaves(first))} values, three times the same"


@check(
    "another seed gives another start",
    "another server, or other client states, before the first round",
    (MESSAGES, SAME),
)
def _seed(subject: Subject) -> str:
    starts = []
    for seed in (1, 2):
        engine = subject.engine(seed=seed)
        progress = engine.start()
        with torch.no_grad():
            states, _ = engine.states(progress.server, {}, engine.cohort(list(engine.clients.ids), 0))
        starts.append((progress.server, states))
    found = gap(*starts)
    seen = "two seeds start with the same server and the same client states: draw from the generator that is given"
    require(found.size > 0, seen, "server_init")
    return str(found)


@check(
    "client order does not matter", "the same uploads and server from a cohort in another order, to 1e-12", DETERMINED
)
def _order(subject: Subject) -> str:
    results = []
    for ids in ([0, 1, 2, 3], [3, 1, 0, 2]):
        engine = subject.engine(**DOUBLE)
        progress = engine.start()
        visit(engine, progress, [1, 3])
        message, upload = visit(engine, progress, ids)
        by_client = {i: (row(message, place), row(upload, place)) for place, i in enumerate(ids)}
        results.append((by_client[0], by_client[1], by_client[2], by_client[3], progress.server, progress.clients))
    found = [gap(a, b) for a, b in zip(*results, strict=True)]
    for i, each in enumerate(found[:4]):
        require(each.size <= EXACT, f"message or upload of client {i}: {each}")
    for each, what, function in ((found[4], "server", "server_receive"), (found[5], "client states", "client_train")):
        require(each.size <= EXACT, f"{what}: {each}", function)
    return f"differences up to {max(each.size for each in found):.1e}"


@check(
    "loop equals vmap",
    "the same server, client states and models from a loop and from `vmap`, float64, to 1e-12",
    DETERMINED,
)
def _vmap(subject: Subject) -> str:
    worst = 0.0
    for convolutions in (False, True):
        settings: dict[str, Any] = {**DOUBLE, "visits": 6, "clients_per_round": 3, "convolutions": convolutions}
        ends = []
        for width in (1, 3):
            engine = subject.engine(width=width, **settings)
            progress = run(engine)
            ends.append((engine, progress, models(engine, progress)))
        (engine, one, some), (_, two, others) = ends
        for found in (gap((one.server, one.clients), (two.server, two.clients)), told_apart(engine, some, others)):
            require(found.size <= EXACT, f"after two rounds: {found}", "client_train")
            worst = max(worst, found.size)
    return f"differences up to {worst:.1e} after two rounds"


@check("resume equals straight", "equal numbers from a run that was cut by a checkpoint after every round", DETERMINED)
def _resume(subject: Subject) -> str:
    progress: Progress | None = None
    cuts = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        while progress is None or progress.round < subject.engine().rounds:
            engine = subject.engine()
            progress = progress or engine.start()
            one_round(engine, progress)
            checkpoint.save(path, progress, {})
            progress, refusal = checkpoint.load(path, {}, torch.device("cpu"))
            if progress is None:
                raise Broken(f"the checkpoint cannot be loaded: {refusal}")
            cuts += 1
    found = gap(subject.straight(), numbers(progress))
    require(found.size == 0, f"after {cuts} interruptions: {found}")
    return f"{cuts} interruptions"


@check(
    "a shorter run is the beginning of a longer one",
    "equal numbers until its end, or `depends_on_length = True` on the class",
    DETERMINED,
)
def _shorter(subject: Subject) -> str:
    if subject.plugin.cls.depends_on_length:
        return "declared: the beginning depends on the length of the run"
    short = math.lcm(6, subject.engine().cohort_size)  # ends with an evaluation, and with a whole round
    straight = run(subject.engine(visits=short))
    for visits in (2 * short, 10 * short):
        engine = subject.engine(visits=visits)
        progress = engine.start()
        while progress.visits < short:
            one_round(engine, progress)
        found, seen = gap(numbers(straight), numbers(progress)), f"after {short} visits of {short} and of {visits}"
        require(found.size == 0, f"{seen}: {found}; use no `cohort.rounds`, or declare it")
    method, watched = subject.engine().method, subject.watched()
    for call in [*{call.name: call for call in watched.calls}.values(), *watched.later]:  # a last phase, if any
        for round_ in call.rounds:
            ends = [Call(call.name, call.at(round_, n), None).again(method) for n in (round_ + 1, 1000 + round_)]
            found, last = gap(*ends), f"the last round and round {round_ + 1} of {1000 + round_}"
            require(found.size == 0, f"{last}: {found}; use no `cohort.rounds`, or declare it", call.name)
    return f"{short} visits of {short}, of {2 * short} and of {10 * short}; a last round that is none"


@check("runs that take turns do not disturb each other", "the numbers of two seeds alone and interleaved", DETERMINED)
def _interleaved(subject: Subject) -> str:
    alone = [subject.straight(), numbers(run(subject.engine(seed=2)))]
    engines = [subject.engine(seed=seed) for seed in (1, 2)]
    both = [engine.start() for engine in engines]
    for _ in range(engines[0].rounds):
        for engine, progress in zip(engines, both, strict=True):
            one_round(engine, progress)
    for seed, one, other in zip((1, 2), alone, both, strict=True):
        found = gap(one, numbers(other))
        require(found.size == 0, f"the run of seed {seed}: {found}")
    return "two seeds, round by round"


@check(
    "nothing crosses without being sent",
    "equal numbers with the server on one object and each client function on a fresh one, tensors copied between them",
    DETERMINED,
)
def _crossing(subject: Subject) -> str:
    found = gap(subject.straight(), numbers(run(subject.engine(wrap=Apart))))
    require(found.size == 0, found)
    return "no difference"


# ---------------------------------------------------------------- fresh processes


def _elsewhere(subject: Subject) -> Elsewhere | None:
    subject.watched()
    return elsewhere(subject)


@check(
    "a fresh process answers the same",
    "the recorded answers from a process that makes only the calls of clients, or only those of the server",
    DETERMINED,
)
def _calls(subject: Subject) -> str:
    there = _elsewhere(subject)
    if there is None:
        return "not tried: the class is not in a file of its own or in a module that can be imported"
    count = 0
    for part in PARTS:
        answer = there.answer(part)
        require(not answer["left"], f"importing it changes {', '.join(answer['left'])}")
        opens = ", ".join(dict.fromkeys(answer["opened"]))
        require(not opens, f"importing it {opens}, which belongs to no code hash: write into the file what it needs")
        for call, result in zip(there.asked[part], answer["results"], strict=True):
            found = gap(call.result, result)
            require(found.size == 0, f"{call.name} by itself: {found}", call.name)
        count += len(there.asked[part])
    return f"{count} calls"


@check(
    "a fresh process makes the same run",
    "equal numbers from one that goes on from a checkpoint, and from one that makes the whole run, with other hashes",
    (*DETERMINED, "resume equals straight", "a fresh process answers the same"),
)
def _runs(subject: Subject) -> str:
    there = _elsewhere(subject)
    if there is None:
        return "not tried: the class is not in a file of its own or in a module that can be imported"
    for part, what in (("server", "with another PYTHONHASHSEED"), ("clients", "from a checkpoint on")):
        found = gap(subject.straight(), there.answer(part)["numbers"])
        require(found.size == 0, f"{what}: {found}")
    return "two processes"
