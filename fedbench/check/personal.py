"""The server, and the personal models that are scored."""

from __future__ import annotations

import dataclasses
from itertools import combinations, pairwise
from typing import Any

import torch

from fedbench.check.clients import keeps_part_of_the_model
from fedbench.check.comparing import Gap, clone, finite, gap
from fedbench.check.purity import DOUBLE
from fedbench.check.sentence import EXACT, MESSAGES, SAME, check, require
from fedbench.check.subject import AFTER, CLASSES, Subject, logits, models, replaces_predict, run, told_apart, visit
from fedbench.training import Engine, Progress, Scores
from fedbench.training.scoring import score
from fedbench.tree import Tree

WAITS = 8  # visits to a client until its model must have changed; a server may collect uploads first


@check("the server changes after a round", "another server state than before, by more than rounding")
def _server(subject: Subject) -> str:
    engine = subject.engine(**DOUBLE)
    progress = engine.start()
    before = clone(progress.server)
    visit(engine, progress, [0, 2])
    found = gap(before, progress.server)
    require(found.size > EXACT, "the same state", "server_receive")
    return str(found)


def _complete(engine: Engine, made: list[Tree]) -> None:
    """Raise Broken where a personal model is not a full one, or its scores are none."""
    for i, model in zip(engine.clients.ids, made, strict=True):
        method = engine.method_of(i)
        if not replaces_predict(method):
            shapes = {name: torch.Size(shape) for name, shape in method.task.network.shapes.items()}
            found = {name: value.shape for name, value in model.items()}
            missing, extra = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys())
            require(not missing, f"the model of client {i} lacks {', '.join(missing)}", "client_personalize")
            require(not extra, f"the model of client {i} has {', '.join(extra)} besides", "client_personalize")
            require(found == shapes, f"the model of client {i} has other shapes", "client_personalize")
        scores = logits(method, engine, model)
        require(scores.shape == (20, CLASSES), f"scores of shape {list(scores.shape)} for 20 images", "predict")
        require(finite(scores), f"scores of client {i} that are not finite", "predict")


@check("the personal model is complete", "finite scores [B, classes]; all parameters, where `predict` is not replaced")
def _whole(subject: Subject) -> str:
    engine, _, _, after = subject.trained()
    _complete(engine, after)
    return f"{len(after)} models of {len(after[0])} tensors"


@check(
    "the personal model is the one scored", "scores that depend on the model given to `predict`, and on nothing else"
)
def _scored(subject: Subject) -> str:
    engine, _, _, after = subject.trained()
    fresh = subject.engine(dtype=torch.float64)
    for i, model in enumerate(after):
        used = logits(engine.method, engine, model)
        found = gap(used, logits(fresh.method, fresh, clone(model)))
        require(found.size == 0, f"a fresh instance scores client {i} otherwise: {found}", "predict")
        empty = {name: torch.zeros_like(value) for name, value in model.items()}
        found = gap(used, logits(engine.method, engine, empty))
        require(found.size > 0, f"a model of zeros scores as that of client {i}", "predict")
    return "scores follow the model"


@check(
    "training changes the scores",
    "other scores of every visited client's model than before the first round",
    (MESSAGES, SAME),
)
def _moved(subject: Subject) -> str:
    engine, progress, before, after = subject.trained()
    found = _moves(engine, before, after)
    if min(found) <= EXACT:  # a server may wait for more uploads than these
        progress = dataclasses.replace(progress, clients=clone(progress.clients))
        for _ in range(WAITS):
            visit(engine, progress, [0, 1, 2, 3])
        found = _moves(engine, before, models(engine, dataclasses.replace(progress, round=AFTER)))
    require(min(found) > EXACT, f"client {found.index(min(found))} scores as the server's initial model")
    return f"changes of {min(found):.1e} and more"


def _moves(engine: Engine, before: list[Tree], after: list[Tree]) -> list[float]:
    """How far each client's scores are from those before."""
    method = engine.method
    return [gap(logits(method, engine, a), logits(method, engine, b)).size for a, b in zip(before, after, strict=True)]


@check(
    "a visit changes the model of the client that was visited",
    "another model of client i after a visit, or a few, to it alone, and another embedding, if any, than after others",
    (MESSAGES, SAME),
)
def _visited(subject: Subject) -> str:
    engine = subject.engine(**DOUBLE)
    embeddings = []
    for i in engine.clients.ids:
        progress = engine.start()
        before = clone(models(engine, progress)[i])
        for _ in range(WAITS):
            visit(engine, progress, [i])
            after = models(engine, dataclasses.replace(progress, round=0))[i]
            found = told_apart(engine, [before], [after])
            if found.size > EXACT:
                break
        require(found.size > EXACT, f"the model of client {i} is the same after a visit to it", "server_receive")
        embeddings.append(engine.method.server_embeddings(progress.server))
    for i, (mine, other) in enumerate(pairwise([*embeddings, embeddings[0]])):
        if mine is not None and other is not None:  # what else moves embeddings, as weight decay, moves them alike
            seen = f"the embedding of client {i} moves no otherwise in a visit to it than in one to another client"
            require(gap(mine[i], other[i]).size > EXACT, seen, "server_receive")
    return f"{len(engine.clients.ids)} clients"


@check(
    "what is fitted for one client is its own",
    "some clients with different models, where models have a part that clients keep, or are fitted to batches",
    (MESSAGES, SAME),
)
def _own(subject: Subject) -> str:
    engine, progress, _, after = subject.trained()
    if not (engine.method.personalize_draw.steps or keeps_part_of_the_model(engine, progress)):
        return "clients keep no part of the model and adapt nothing"
    found = _furthest(engine, after)
    for seed in range(2, 8):  # clients that choose among a few models may all choose the same one
        if found.size <= EXACT:
            engine = subject.engine(seed=seed, dtype=torch.float64)
            progress = engine.start()
            visit(engine, progress, [0, 1, 2, 3])
            found = _furthest(engine, models(engine, progress))
    require(found.size > EXACT, "all clients have the same model", "client_personalize")
    return str(found)


def _furthest(engine: Engine, made: list[Tree]) -> Gap:
    return max((told_apart(engine, [a], [b]) for a, b in combinations(made, 2)), key=lambda found: found.size)


@check("a run of one round works", "finite losses before and after it, and a chosen round")
def _one_round(subject: Subject) -> str:
    progress = run(subject.engine(visits=1, evaluate_every=1, clients_per_round=1))
    losses = [row["val_loss"] for row in progress.history]
    require(len(losses) == 2 and finite(torch.tensor(losses)), f"losses {losses}")
    require(progress.best is not None, "no chosen round")
    return f"losses {losses[0]:.2f} and {losses[1]:.2f}"


@check(
    "clients of several networks are served",
    "a full model of its own network for each client, from one server where the class is `mixed`, else from one a"
    " network; loop equals `vmap`, float64, to 1e-12",
)
def _several(subject: Subject) -> str:
    settings: dict[str, Any] = {**DOUBLE, "several": True, "visits": 8, "clients_per_round": 4}
    ends: list[tuple[Engine, Progress, list[Tree]]] = []
    for width in (1, 2):
        engine = subject.engine(width=width, **settings)
        progress = engine.start()
        for ids in ([0, 1], [0, 1, 2, 3]):
            _round(engine, progress, ids)
        made = models(engine, progress)
        _complete(engine, made)
        ends.append((engine, progress, made))
    (engine, one, some), (_, two, others) = ends
    for found in (gap((one.server, one.clients), (two.server, two.clients)), _scores_apart(engine, some, others)):
        require(found.size <= EXACT, f"loop and vmap: {found}", "client_train")
    return "one server for two networks" if engine.one_server else "a server for each of two networks"


@torch.no_grad()
def _round(engine: Engine, progress: Progress, ids: list[int]) -> None:
    engine.receive(progress, engine.visit(progress, ids, progress.round))
    progress.round += 1


def _scores_apart(engine: Engine, some: list[Tree], others: list[Tree]) -> Gap:
    pairs = zip(engine.clients.ids, some, others, strict=True)
    return max(
        (gap(*(logits(engine.method_of(i), engine, model) for model in pair)) for i, *pair in pairs),
        key=lambda found: found.size,
    )


@check(
    "the method learns the synthetic task better than chance", "test accuracy 0.15 above 1 / classes, at the defaults"
)
def _learns(subject: Subject) -> str:
    engine = subject.engine(short=False, visits=100, evaluate_every=50)
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
