"""Unseen clients join a trained server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from fedbench.method import State
from fedbench.seeds import torch_stream
from fedbench.training.engine import Engine, Keep, Progress

LOOKS = 4  # evaluations after the first, at equal distances


@torch.no_grad()
def adapt(
    server: State, engine: Engine, first_round: int, tick: Callable[[Progress], bool] = lambda _: False
) -> dict[str, Any] | None:
    """Unseen clients join `server`, which stays as it is but for what it learns of them.

    `engine` is one of the unseen clients. They are visited `adapt_visits` times each, one after the other, and scored
    before, three times on the way, and after; validation chooses among these as it does in training. Rounds are
    numbered from `first_round`. None where `tick`, called once for every visit to all of them, says to stop.
    """
    ids, visits = list(engine.clients.ids), engine.schedule.adapt_visits
    engine.rounds = first_round
    progress, learns = admit(server, engine)
    looks = {round(visits * part / LOOKS) for part in range(LOOKS + 1)}
    for done in range(visits + 1):
        progress.round = first_round + done
        if done in looks:
            engine.evaluate(progress, Keep())
        if done == visits:
            break
        if tick(progress):
            return None
        began = time.perf_counter()
        for i in ids:
            groups = engine.visit(progress, [i], first_round + done)
            if learns:
                engine.receive(progress, groups)
        progress.seconds += time.perf_counter() - began
        if not learns and not progress.clients:
            break  # nothing is kept anywhere: more visits would change nothing
    return {"best": progress.best, "earlier": progress.improvements[:-1], "history": progress.history}


def admit(server: State, engine: Engine) -> tuple[Progress, bool]:
    """The start of an adaptation, and whether the server learns about the clients of `engine`."""
    count, rng = len(engine.clients.ids), torch_stream(engine.seed, "admit")
    if engine.one_server:
        admitted = engine.method.server_admit(server, count, rng)
        return Progress(server=server if admitted is None else admitted), admitted is not None
    each = [method.server_admit(state, count, rng) for method, state in zip(engine.methods, server, strict=True)]
    learns = all(state is not None for state in each)
    return Progress(server=each if learns else server), learns
