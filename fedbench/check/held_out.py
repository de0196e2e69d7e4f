"""Held-out rows, which are never read, and clients that join later."""

from __future__ import annotations

import torch

from fedbench.check.comparing import finite, gap
from fedbench.check.purity import DETERMINED, DOUBLE
from fedbench.check.sentence import EXACT, MESSAGES, SAME, check, require
from fedbench.check.subject import HELD_OUT, UNSEEN, Subject, models, rng, run, visit
from fedbench.training import Progress, adapt


@check(
    "validation and test rows are never read",
    "equal servers, states and models whatever the held-out rows are",
    DETERMINED,
)
def _tripwire(subject: Subject) -> str:
    results = []
    for held_out in (0, 1):
        engine = subject.engine(held_out=held_out)
        progress = run(engine)
        unseen = subject.engine(held_out=held_out, unseen=True)
        adapt(progress.best_server, unseen, engine.rounds)
        visit(engine, progress, [0, 1])
        results.append((progress.server, progress.clients, models(engine, progress)))
    found = gap(*results)
    require(found.size == 0, f"with other held-out rows: {found}")
    return "no difference"


@check("each image is scored for itself", "the same scores alone, among others, and in any order, float64, to 1e-12")
def _alone(subject: Subject) -> str:
    engine = subject.engine(**DOUBLE)
    progress = engine.start()
    visit(engine, progress, [0, 1])
    task, images = engine.method.task, engine.clients.images[:HELD_OUT]
    images = (images.to(task.dtype) / 255 - task.mean) / task.std
    with torch.no_grad():
        for model in models(engine, progress)[:2]:
            together = engine.method.predict(model, images)
            alone = torch.cat([engine.method.predict(model, image[None]) for image in images])
            turned = engine.method.predict(model, images.flip(0)).flip(0)
            for found in (gap(alone, together), gap(turned, together)):
                require(found.size <= EXACT, f"in other company: {found}", "predict")
    return "no difference"


@check("unseen clients work", "finite scores before and after their visits, and complete messages for them")
def _unseen(subject: Subject) -> str:
    engine = subject.engine()
    progress = run(engine)
    unseen = subject.engine(unseen=True)
    found = adapt(progress.best_server, unseen, engine.rounds)
    assert found is not None  # nothing stops it
    losses = [row["val_loss"] for row in found["history"]]
    require(finite(torch.tensor(losses)), f"losses {losses}")
    total = [len(found["best"]["test"][key]) for key in ("correct", "total", "loss")]
    require(total == [len(UNSEEN)] * 3, f"{total[0]} scored clients of {len(UNSEEN)}")
    return f"losses from {losses[0]:.2f} to {losses[-1]:.2f}"


@check(
    "a server that admits unseen clients forgets nothing",
    "the same messages to the training clients as before",
    (MESSAGES, SAME),
)
def _admits(subject: Subject) -> str:
    engine = subject.engine()
    progress = run(engine)
    with torch.no_grad():
        admitted = engine.method.server_admit(progress.server, len(UNSEEN), rng())
    if admitted is None:
        return "the server is not told of them"
    unseen = subject.engine(unseen=True)
    other = Progress(server=admitted, round=engine.rounds)
    for i in unseen.clients.ids:
        visit(unseen, other, [i])
    cohort = engine.cohort(list(engine.clients.ids), progress.round)
    with torch.no_grad():
        before, after = (engine.method.server_send(server, cohort) for server in (progress.server, other.server))
    found = gap(before, after)
    seen = f"after {len(UNSEEN)} visits to unseen clients, a message to a training client: {found}"
    require(found.size == 0, seen, "server_admit")
    return f"no difference after {len(UNSEEN)} visits"
