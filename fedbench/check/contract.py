"""The checks: each is named as a sentence of the contract, and says what it expected where the sentence is broken.

Letters: N clients that train, C clients of a cohort, K steps, B batch.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import plugins
from fedbench.check.lab import (
    CLASSES,
    SIZES,
    UNSEEN,
    Lab,
    Watched,
    clone,
    distance,
    disturb,
    finite,
    leaves,
    logits,
    models,
    numbers,
    rng,
    run,
    visit,
)
from fedbench.method import Method
from fedbench.runs import checkpoint
from fedbench.storage.spec import Spec
from fedbench.training import Engine, Keep, Progress, Scores, adapt
from fedbench.training.scoring import score
from fedbench.tree import Tree, nbytes, row

EXACT = 1e-12  # what float64 may differ by where the order of additions differs
DOUBLE: dict[str, Any] = {"dtype": torch.float64, "plain": True}


class Broken(Exception):
    """A sentence does not hold; the text is what was seen."""


class Check(NamedTuple):
    """A check: what it expects, and the function that returns what it saw, or raises Broken."""

    expected: str
    function: Callable[[Lab], str]


CHECKS: dict[str, Check] = {}  # by sentence, in the order in which they run


def check(sentence: str, expected: str) -> Callable[[Callable[[Lab], str]], Callable[[Lab], str]]:
    """Register a function as the check of `sentence`."""

    def register(function: Callable[[Lab], str]) -> Callable[[Lab], str]:
        CHECKS[sentence] = Check(expected, function)
        return function

    return register


def require(holds: bool, seen: str) -> None:
    """Raise Broken with what was `seen` unless it `holds`."""
    if not holds:
        raise Broken(seen)


# ---------- what is declared


@check("title and paper are given", "two texts that are not empty")
def _title(lab: Lab) -> str:
    for name in ("title", "paper"):
        value = getattr(lab.plugin.cls, name, None)
        require(isinstance(value, str) and bool(value.strip()), f"{name} is {value!r}")
    return f"{lab.plugin.cls.title}; {lab.plugin.cls.paper}"


@check("hyperparameters have defaults and a meaning", "a default and a description for every field but `task`")
def _hyperparameters(lab: Lab) -> str:
    for field in dataclasses.fields(lab.plugin.cls):
        given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        require(field.name == "task" or given, f"{field.name} has no default")
    found = plugins.hyperparameters(lab.plugin.cls)
    for parameter in found:
        require(bool(parameter.meaning), f"{parameter.name} has no description")
    plugins.configure(lab.plugin, {})
    return f"{len(found)} hyperparameters"


@check("the spec round-trips", "the same identity and the same method after a way through JSON")
def _spec(lab: Lab) -> str:
    spec = Spec(
        method=lab.plugin.name,
        params=lab.params(short=False),
        dataset="synthetic",
        network="synthetic",
        partition="synthetic",
        clients=len(SIZES),
        seed=0,
        visits=1,
        evaluate_every=1,
    )
    again = Spec.model_validate_json(spec.model_dump_json())
    require(again == spec and again.identity == spec.identity, f"{again.params} instead of {spec.params}")
    task = lab.engine().method.task
    built, default = plugins.build(lab.plugin, task, again.params), lab.plugin.cls(task=task)
    for field in dataclasses.fields(lab.plugin.cls):
        values = [getattr(method, field.name) for method in (built, default)]
        require(field.name == "task" or values[0] == values[1], f"{field.name} is {values[0]} instead of {values[1]}")
    return f"identity {spec.identity}"


# ---------- messages


def _stacked(what: str, tree: object, count: int) -> Tree:
    """`tree`, where it is a dict of tensors [count, ...]."""
    _plain_tree(what, tree)
    assert isinstance(tree, dict)
    for name, value in tree.items():
        shape = list(value.shape)
        require(shape[:1] == [count], f"{what} {name!r} has shape {shape} for a cohort of {count}")
    return tree


def _plain_tree(what: str, tree: object) -> None:
    if not isinstance(tree, dict):
        raise Broken(f"{what} is a {type(tree).__name__}")
    for name, value in tree.items():
        right = isinstance(name, str) and isinstance(value, Tensor)
        require(right, f"{what} has {name!r}: {type(value).__name__}")


@check("messages are stacked tensors", "dicts of tensors, [C, ...] from the server and [...] from a client")
def _messages(lab: Lab) -> str:
    engine = lab.engine()
    method, progress = engine.method, engine.start()
    cohort = engine.cohort([2, 0, 3], 0)
    with torch.no_grad():
        message = _stacked("message", method.server_send(progress.server, cohort), 3)
        _stacked("welcome", method.server_welcome(progress.server, cohort), 3)
        states, _ = engine.states(progress.server, {}, cohort)
        for i, state in enumerate(states):
            _plain_tree("what client_init returns", state)
            batches = engine.batches("train", method.train_draw, 0, int(cohort.ids[i]))
            answer = method.client_train(row(message, i), state, batches)
            require(isinstance(answer, tuple) and len(answer) == 2, f"client_train returns a {type(answer).__name__}")
            _plain_tree("upload", answer[0])
            _plain_tree("what client_train keeps", answer[1])
            require(
                not any(value.requires_grad for tree in answer for value in tree.values()),
                "a tensor requires a gradient",
            )
    sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in list(message.items())[:2])
    return f"{len(message)} tensors: {sizes}, ..." if message else "nothing is sent"


@check("message size is constant", "as many bytes for every client in every round, each way")
def _size(lab: Lab) -> str:
    watched = _watched(lab)
    for name in ("server_send", "client_train"):
        sizes = set()
        for call in watched.results(name):
            result = call.result if name == "server_send" else call.result[0]
            count = len(call.arguments[1].ids) if name == "server_send" else 1
            sizes.add(nbytes(result) // count)
        require(len(sizes) == 1, f"{' and '.join(map(str, sorted(sizes)))} bytes from {name}")
    return f"{sizes.pop()} bytes an upload"


# ---------- purity


def _watched(lab: Lab) -> Watched:
    """A run with unseen clients, every call of it recorded."""

    def make() -> Watched:
        engine = lab.engine(watched=True)
        watched: Any = engine.method
        before = clone(watched.task.images)
        progress = run(engine)
        unseen = lab.engine(unseen=True, watched=True)
        other: Any = unseen.method
        adapt(progress.best_server, unseen, engine.rounds)
        for method in (watched, other):
            method.finish()
        watched.modified += other.modified
        if distance(before, watched.task.images) > 0:
            watched.modified.append("the images of the task")
        found: Watched = watched
        return found

    result: Watched = lab.once("watched", make)
    return result


@check("inputs are never modified", "arguments and earlier results keep their bits, in every call of a run")
def _pure(lab: Lab) -> str:
    watched = _watched(lab)
    require(not watched.modified, "modified: " + ", ".join(dict.fromkeys(watched.modified)))
    return f"{len(watched.calls)} calls"


@check("same seed same bits", "equal numbers from a fresh instance, from a used one, and whatever other generators do")
def _same(lab: Lab) -> str:
    disturb(1)
    engine = lab.engine()
    first = numbers(run(engine))
    disturb(2)
    second = numbers(run(lab.engine()))
    require(distance(first, second) == 0, f"two fresh instances differ by {distance(first, second):.1e}")
    third = numbers(run(engine))
    require(distance(first, third) == 0, f"the same instance differs by {distance(first, third):.1e} when used again")
    return f"{len(leaves(first))} values, three times the same"


@check("client order does not matter", "the same uploads and server from a cohort in another order, to 1e-12")
def _order(lab: Lab) -> str:
    results = []
    for ids in ([0, 1, 2, 3], [3, 1, 0, 2]):
        engine = lab.engine(**DOUBLE)
        progress = engine.start()
        visit(engine, progress, [1, 3])
        message, upload = visit(engine, progress, ids)
        by_client = {i: (row(message, place), row(upload, place)) for place, i in enumerate(ids)}
        results.append((by_client[0], by_client[1], by_client[2], by_client[3], progress.server, progress.clients))
    gaps = [distance(a, b) for a, b in zip(*results, strict=True)]
    for i, gap in enumerate(gaps[:4]):
        require(gap <= EXACT, f"message or upload of client {i} differs by {gap:.1e}")
    require(max(gaps) <= EXACT, f"server or client states differ by {max(gaps):.1e}")
    return f"differences up to {max(gaps):.1e}"


@check("loop equals vmap", "the same server, client states and models from a loop and from `vmap`, float64, to 1e-12")
def _vmap(lab: Lab) -> str:
    gaps = []
    for convolutions in (False, True):
        settings: dict[str, Any] = {**DOUBLE, "visits": 6, "clients_per_round": 3, "convolutions": convolutions}
        results = []
        for width in (1, 3):
            engine = lab.engine(width=width, **settings)
            progress = run(engine)
            results.append((progress.server, progress.clients, models(engine, progress)))
        gaps.append(distance(*results))
        require(gaps[-1] <= EXACT, f"differences up to {gaps[-1]:.1e} after two rounds")
    return f"differences up to {max(gaps):.1e} after two rounds"


@check("resume equals straight", "equal numbers from a run that was cut by a checkpoint after every round")
def _resume(lab: Lab) -> str:
    straight = run(lab.engine())
    progress: Progress | None = None
    cuts = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        while progress is None or progress.round < straight.round:
            engine = lab.engine()
            progress = progress or engine.start()
            engine.run(progress, Keep(server=True), lambda _: True)
            checkpoint.save(path, progress, {})
            progress, refusal = checkpoint.load(path, {}, torch.device("cpu"))
            if progress is None:
                raise Broken(f"the checkpoint cannot be loaded: {refusal}")
            cuts += 1
    gap = distance(numbers(straight), numbers(progress))
    require(gap == 0, f"a difference of {gap:.1e} after {cuts} interruptions")
    return f"{cuts} interruptions"


# ---------- clients


@check(
    "client states are isolated", "the same upload of a client whoever trained before it; unvisited clients unchanged"
)
def _isolated(lab: Lab) -> str:
    results = []
    for before in ([], [0], [0, 2]):
        engine = lab.engine()
        progress = engine.start()
        server = clone(progress.server)
        for i in before:
            visit(engine, progress, [i])
        progress.server, progress.round = server, 0
        kept = clone(progress.clients)
        _, upload = visit(engine, progress, [1])
        gap = max([0.0, *(distance(kept[i], progress.clients[i]) for i in kept)])
        require(gap == 0, f"an unvisited client changed by {gap:.1e}")
        results.append((upload, progress.clients.get(1)))
    gap = max(distance(results[0], other) for other in results[1:])
    require(gap == 0, f"a difference of {gap:.1e} in client 1 when others train before it")
    return "no difference"


@check("what a client keeps matters", "another personal model, or at least another upload, from another state")
def _kept(lab: Lab) -> str:
    engine = lab.engine()
    progress = run(engine)
    if not progress.clients:
        return "clients keep nothing"
    i = min(progress.clients)
    own = set(progress.clients[i]) & set(engine.method.task.network.shapes)
    other = dataclasses.replace(progress, clients=clone(progress.clients))
    for name, value in other.clients[i].items():
        if value.is_floating_point() and (not own or name in own):
            other.clients[i][name] = value + 0.1 * torch.randn(value.shape, generator=rng()).to(value)
    changed = distance(models(engine, progress)[i], models(engine, other)[i]) > 0
    if own:
        require(changed, f"the personal model does not depend on the kept {', '.join(sorted(own))}")
        return f"{len(own)} parameters are the client's own"
    runs = [dataclasses.replace(p, clients=dict(p.clients)) for p in (progress, other)]
    uploads = [visit(engine, p, [i])[1] for p in runs]
    require(changed or distance(*uploads) > 0, f"neither depends on {', '.join(progress.clients[i])}")
    return "another model" if changed else "another upload"


@check("padded and short batches change nothing", "the same results with -1 added to every batch, float64, to 1e-12")
def _padding(lab: Lab) -> str:
    engine = lab.engine(**DOUBLE)
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
                plain, padded = (
                    function(row(message, i), state, rows) for rows in (batches, F.pad(batches, (0, 3), value=-1))
                )
                worst = max(worst, distance(plain, padded))
                require(worst <= EXACT, f"{function.__name__} differs by {worst:.1e} on a batch of {batches.shape[1]}")
    return f"differences up to {worst:.1e}"


@check("a client with one sample, with one batch, and a cohort of one work", "finite numbers everywhere")
def _small(lab: Lab) -> str:
    engine = lab.engine(sizes=(1, 8, 20, 9), clients_per_round=1)
    progress = engine.start()
    for ids in ([0], [1], [2], [0, 3], [0]):
        visit(engine, progress, ids)
        require(finite([progress.server, progress.clients]), f"numbers that are not finite after clients {ids}")
    made = models(engine, progress)
    require(finite(made) and finite([logits(engine, model) for model in made]), "a personal model that is not finite")
    return "clients of 1, 8, 20 and 9 samples"


# ---------- the server and the personal models


@check("the server changes after a round", "another server state than before")
def _server(lab: Lab) -> str:
    engine = lab.engine()
    progress = engine.start()
    before = clone(progress.server)
    visit(engine, progress, [0, 2])
    gap = distance(before, progress.server)
    require(gap > 0, "the same state")
    return f"changes up to {gap:.1e}"


def _trained(lab: Lab) -> tuple[Engine, Progress, list[Tree], list[Tree]]:
    """A run, and the personal models before and after it."""

    def make() -> tuple[Engine, Progress, list[Tree], list[Tree]]:
        engine = lab.engine()
        progress = engine.start()
        before = clone(models(engine, progress))
        for ids in ([0, 1], [2, 3]):
            visit(engine, progress, ids)
        return engine, progress, before, models(engine, progress)

    result: tuple[Engine, Progress, list[Tree], list[Tree]] = lab.once("trained", make)
    return result


@check("the personal model is complete", "finite scores [B, classes]; all parameters, where `predict` is not replaced")
def _complete(lab: Lab) -> str:
    engine, _, _, after = _trained(lab)
    shapes = {name: torch.Size(shape) for name, shape in engine.method.task.network.shapes.items()}
    for i, model in enumerate(after):
        if type(engine.method).predict is Method.predict:
            found = {name: value.shape for name, value in model.items()}
            missing, extra = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys())
            require(not missing, f"the model of client {i} lacks {', '.join(missing)}")
            require(not extra, f"the model of client {i} has {', '.join(extra)} besides")
            require(found == shapes, f"the model of client {i} has other shapes")
        scores = logits(engine, model)
        require(scores.shape == (20, CLASSES), f"scores of shape {list(scores.shape)} for 20 images")
        require(finite(scores), f"scores of client {i} that are not finite")
    return f"{len(after)} models of {len(after[0])} tensors"


@check(
    "the personal model is the one scored", "scores that depend on the model given to `predict`, and on nothing else"
)
def _scored(lab: Lab) -> str:
    engine, _, _, after = _trained(lab)
    fresh = lab.engine()
    for i, model in enumerate(after):
        used = logits(engine, model)
        require(distance(used, logits(fresh, clone(model))) == 0, f"a fresh instance scores client {i} otherwise")
        empty = {name: torch.zeros_like(value) for name, value in model.items()}
        require(distance(used, logits(engine, empty)) > 0, f"a model of zeros scores as that of client {i}")
    return "scores follow the model"


@check("training changes the scores", "other scores of every visited client's model than before the first round")
def _moved(lab: Lab) -> str:
    engine, _, before, after = _trained(lab)
    gaps = [distance(logits(engine, a), logits(engine, b)) for a, b in zip(before, after, strict=True)]
    require(min(gaps) > 0, f"client {gaps.index(min(gaps))} scores as the server's initial model")
    return f"changes of {min(gaps):.1e} and more"


@check("what is fitted for one client is its own", "different models, where clients keep something or adapt")
def _own(lab: Lab) -> str:
    engine, progress, _, after = _trained(lab)
    adapts = type(engine.method).client_personalize is not Method.client_personalize
    if not (progress.clients or adapts or engine.method.personalize_draw.steps):
        return "clients neither keep nor adapt anything"
    gap = min(distance(a, b) for i, a in enumerate(after) for b in after[:i])
    require(gap > 0, "two clients have the same model")
    return f"differences of {gap:.1e} and more"


@check(
    "the method learns the synthetic task better than chance", "test accuracy 0.15 above 1 / classes, at the defaults"
)
def _learns(lab: Lab) -> str:
    engine = lab.engine(short=False, visits=100, evaluate_every=50)
    progress = run(engine)
    with torch.no_grad():
        clients = engine.clients
        scores = Scores.of(
            [
                score(engine.method, model, clients.images, clients.labels, rows)
                for model, rows in zip(models(engine, progress), clients.test, strict=True)
            ]
        )
    seen = f"accuracy {scores.pooled:.2f} after 100 visits"
    require(scores.pooled >= 1 / CLASSES + 0.15, seen)
    return seen


# ---------- held-out rows and unseen clients


@check("validation and test rows are never read", "equal servers, states and models whatever the held-out rows are")
def _tripwire(lab: Lab) -> str:
    results = []
    for held_out in (0, 1):
        engine = lab.engine(held_out=held_out)
        progress = run(engine)
        unseen = lab.engine(held_out=held_out, unseen=True)
        adapt(progress.best_server, unseen, engine.rounds)
        visit(engine, progress, [0, 1])
        results.append((progress.server, progress.clients, models(engine, progress)))
    gap = distance(*results)
    require(gap == 0, f"a difference of {gap:.1e} with other held-out rows")
    return "no difference"


@check("each image is scored for itself", "the same scores alone, among others, and in any order, float64, to 1e-12")
def _alone(lab: Lab) -> str:
    engine = lab.engine(**DOUBLE)
    progress = engine.start()
    visit(engine, progress, [0, 1])
    task, images = engine.method.task, engine.clients.images[:20]
    images = (images.to(task.dtype) / 255 - task.mean) / task.std
    with torch.no_grad():
        for model in models(engine, progress)[:2]:
            together = engine.method.predict(model, images)
            alone = torch.cat([engine.method.predict(model, image[None]) for image in images])
            turned = engine.method.predict(model, images.flip(0)).flip(0)
            gap = max(distance(alone, together), distance(turned, together))
            require(gap <= EXACT, f"differences of {gap:.1e} in other company")
    return "no difference"


@check("unseen clients work", "finite scores before and after their visits, and complete messages for them")
def _unseen(lab: Lab) -> str:
    engine = lab.engine()
    progress = run(engine)
    unseen = lab.engine(unseen=True)
    found = adapt(progress.best_server, unseen, engine.rounds)
    assert found is not None  # nothing stops it
    losses = [row["val_loss"] for row in found["history"]]
    require(finite(torch.tensor(losses)), f"losses {losses}")
    total = [len(found["best"]["test"][key]) for key in ("correct", "total", "loss")]
    require(total == [len(UNSEEN)] * 3, f"{total[0]} scored clients of {len(UNSEEN)}")
    return f"losses from {losses[0]:.2f} to {losses[-1]:.2f}"


@check("a server that admits unseen clients forgets nothing", "the same messages to the training clients as before")
def _admits(lab: Lab) -> str:
    engine = lab.engine()
    progress = run(engine)
    with torch.no_grad():
        admitted = engine.method.server_admit(progress.server, len(UNSEEN), rng())
    if admitted is None:
        return "the server is not told of them"
    unseen = lab.engine(unseen=True)
    other = Progress(server=admitted, round=engine.rounds)
    for i in unseen.clients.ids:
        visit(unseen, other, [i])
    cohort = engine.cohort(list(engine.clients.ids), progress.round)
    with torch.no_grad():
        before, after = (engine.method.server_send(server, cohort) for server in (progress.server, other.server))
    gap = distance(before, after)
    require(gap == 0, f"a difference of {gap:.1e} after {len(UNSEEN)} visits to unseen clients")
    return f"no difference after {len(UNSEEN)} visits"
