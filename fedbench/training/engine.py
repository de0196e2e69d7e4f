"""Rounds: cohorts, client states, effort and bytes, evaluation, selection on validation.

The engine owns everything that a method must not decide for itself. What a run has reached is a `Progress`: tensors and
plain data, so that a checkpoint is that and no more, and going on from it gives the bits of never having stopped.

Clients may have different networks. There is then a method object for each network, and every cohort that a method
sees is of one network: a round's clients are grouped. A method that is not `mixed` keeps a server state for each
network; one that is `mixed` has one state for all.

Letters: N training clients, C clients of a cohort, K local steps, B samples of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.method import Cohort, Draw, Method, State
from fedbench.seeds import numpy_stream, torch_stream
from fedbench.training.federation import Clients
from fedbench.training.lift import lift
from fedbench.training.scoring import Scores, score
from fedbench.tree import Tree

SCORED_TOGETHER = 16  # clients whose messages the server makes at once for scoring; part of what fixes the bits
KEPT_WHILE_SCORED = 256e6  # bytes of personal models that are kept between their validation and their test


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is and when it looks at validation data; in client visits."""

    visits: int
    evaluate_every: int
    adapt_visits: int = 0  # visits to each unseen client after training
    width: int = 1  # clients that are trained at once by `vmap`; 1 is a plain loop


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What is kept of the round that validation chose, beside its scores."""

    server: bool = False  # the server's state, which unseen clients join
    models: bool = False  # the personal models, and the embeddings of a server that has some


@dataclass(kw_only=True)
class Progress:
    """What a run has reached; everything that a checkpoint holds."""

    server: State
    clients: dict[int, Tree] = field(default_factory=dict)  # what joined clients keep
    round: int = 0
    visits: int = 0
    steps: int = 0  # gradient steps on clients
    gradients: int = 0  # gradient evaluations on clients, in batches
    bytes_down: int = 0  # messages
    bytes_up: int = 0  # uploads
    bytes_welcome: int = 0  # first contacts
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    improvements: list[dict[str, Any]] = field(default_factory=list)  # rows better than ever, with their test scores
    best_server: State = None  # of the last improvement, with `Keep.server`
    best_models: dict[str, Any] | None = None  # of the last improvement, with `Keep.models`: `models` and `embeddings`

    @property
    def best(self) -> dict[str, Any] | None:
        """The round that validation chose, with its test scores."""
        return self.improvements[-1] if self.improvements else None


class Group(tuple[int, Cohort, Tree, Tree]):
    """The clients of a round that have one network: its place, the cohort, its messages and its uploads, stacked."""

    __slots__ = ()


class Engine:
    """Runs one method on one federation. All randomness is keyed by `seed` and purpose.

    `methods` is the method, or one object of it for each network that clients have.
    """

    def __init__(self, methods: Method | Sequence[Method], clients: Clients, schedule: Schedule, seed: int) -> None:
        self.methods: tuple[Method, ...] = (
            tuple(methods) if isinstance(methods, (list, tuple)) else (cast(Method, methods),)
        )
        self.method = self.methods[0]  # for all that does not depend on the network
        self.clients, self.schedule, self.seed = clients, schedule, seed
        self.one_server = len(self.methods) == 1 or self.method.mixed
        self.cohort_size = min(self.method.clients_per_round, len(clients.ids))
        self.rounds = -(-schedule.visits // self.cohort_size)
        self.device, self.dtype = self.method.task.device, self.method.task.dtype

    # ------------------------------------------------------------ the run

    def start(self) -> Progress:
        """The state before the first round."""
        if self.one_server:
            return Progress(server=self.method.server_init(torch_stream(self.seed, "server")))
        return Progress(
            server=[m.server_init(torch_stream(self.seed, "server", k)) for k, m in enumerate(self.methods)]
        )

    @torch.no_grad()
    def run(self, progress: Progress, keep: Keep, tick: Callable[[Progress], bool]) -> bool:
        """Run `progress` to the end, in place; `tick` is called after every round and stops the run by returning True.

        Returns whether the end was reached.
        """
        if not progress.history:
            self.evaluate(progress, keep)
        while progress.round < self.rounds:
            began, before = time.perf_counter(), progress.visits
            self.round(progress)
            due = progress.visits // self.schedule.evaluate_every > before // self.schedule.evaluate_every
            progress.seconds += time.perf_counter() - began
            if due or progress.round == self.rounds:
                self.evaluate(progress, keep)
            if tick(progress):
                return False
        return True

    def round(self, progress: Progress) -> None:
        """One round: choose the clients, send, train, receive."""
        size = min(self.cohort_size, self.schedule.visits - progress.visits)
        drawn = numpy_stream(self.seed, "cohort", progress.round).choice(len(self.clients.ids), size, replace=False)
        groups = self.visit(progress, [self.clients.ids[i] for i in drawn], progress.round)
        self.receive(progress, groups)
        progress.round += 1

    def visit(self, progress: Progress, ids: Sequence[int], round_: int) -> list[Group]:
        """The clients `ids` are sent their messages and train; their states change, and their effort is counted."""
        groups = []
        for k, mine in self.by_network(ids):
            method, server = self.methods[k], self.server(progress.server, k)
            cohort = self.cohort(mine, round_)
            states, welcomed = self.states(server, progress.clients, cohort, k)
            message = method.server_send(server, cohort)
            batches = [self.batches("train", method.train_draw, round_, i) for i in mine]
            answers = lift(method.client_train, message, states, batches, self.schedule.width)
            for i, (_, state) in zip(mine, answers, strict=True):
                if state:
                    progress.clients[i] = state
                else:
                    progress.clients.pop(i, None)
            upload = tree.stack([upload for upload, _ in answers])
            progress.visits += len(mine)
            progress.steps += len(mine) * method.steps_per_visit
            progress.gradients += len(mine) * method.gradients_per_visit
            progress.bytes_welcome += welcomed
            progress.bytes_down += tree.nbytes(message)
            progress.bytes_up += tree.nbytes(upload)
            groups.append(Group((k, cohort, message, upload)))
        return groups

    def receive(self, progress: Progress, groups: Sequence[Group]) -> None:
        """The server learns from the uploads of a round."""
        for k, cohort, _, upload in groups:
            new = self.methods[k].server_receive(self.server(progress.server, k), cohort, upload)
            if self.one_server:
                progress.server = new
            else:
                progress.server = [new if i == k else old for i, old in enumerate(progress.server)]

    # ------------------------------------------------------------ what a method is given

    def server(self, state: State, network: int) -> State:
        """The server's state for the clients with this network."""
        return state if self.one_server else state[network]

    def by_network(self, ids: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """The clients `ids` grouped by their network, in the order of the networks."""
        for k in range(len(self.methods)):
            if mine := [i for i in ids if self.clients.network_of(i) == k]:
                yield k, mine

    def cohort(self, ids: Sequence[int], round_: int) -> Cohort:
        """Clients of one network as the server sees them."""
        counts = torch.tensor([len(self.rows(i)) for i in ids], dtype=self.dtype)
        weight = (counts / counts.sum()).to(self.device)
        shares = torch.stack([self.class_shares(i) for i in ids])
        return Cohort(torch.tensor(list(ids), device=self.device), weight, round_, self.rounds, shares)

    def rows(self, client: int) -> np.ndarray:
        """The training rows of a client."""
        return self.clients.train[client - self.clients.ids.start]

    def class_shares(self, client: int) -> Tensor:
        """The share of each class among the training rows of a client, [classes]."""
        task, rows = self.method.task, torch.from_numpy(self.rows(client))
        counts = torch.bincount(task.labels[rows.to(self.device)], minlength=task.classes)
        return counts.to(self.dtype) / len(rows)

    def states(self, server: State, kept: dict[int, Tree], cohort: Cohort, network: int = 0) -> tuple[list[Tree], int]:
        """What each client of the cohort keeps, and the bytes that welcomed those who keep nothing yet."""
        method, ids, sent = self.methods[network], cohort.ids.tolist(), 0
        states = [kept.get(i, {}) for i in ids]
        if not all(states):
            welcome = method.server_welcome(server, cohort)
            for place, i in enumerate(ids):
                if not states[place]:
                    mine = tree.row(welcome, place)
                    states[place] = method.client_init(mine, torch_stream(self.seed, "client", i))
                    sent += tree.nbytes(mine)
        return states, sent

    def batches(self, purpose: str, draw: Draw, round_: int, client: int) -> Tensor:
        """Row numbers [K, B]: each batch a fresh draw without replacement, all rows where there are fewer than B."""
        rows = self.rows(client)
        size = min(draw.size, len(rows))
        if not draw.steps:
            return torch.empty((0, size), dtype=torch.int64, device=self.device)
        rng = numpy_stream(self.seed, purpose, round_, client)
        picked = np.stack([rng.permutation(len(rows))[:size] for _ in range(draw.steps)])
        return torch.from_numpy(rows[picked]).to(self.device)

    # ------------------------------------------------------------ evaluation

    def models(self, progress: Progress, ids: Sequence[int] | None = None) -> Iterator[Tree]:
        """The personal model of every client (or of the clients `ids`), in order, made without changing anything."""
        ids = list(self.clients.ids if ids is None else ids)
        for first in range(0, len(ids), SCORED_TOGETHER):
            together = ids[first : first + SCORED_TOGETHER]
            made: dict[int, Tree] = {}
            for k, mine in self.by_network(together):
                method, server = self.methods[k], self.server(progress.server, k)
                cohort = self.cohort(mine, progress.round)
                states, _ = self.states(server, progress.clients, cohort, k)
                message = method.server_send(server, cohort)
                batches = [self.batches("personalize", method.personalize_draw, progress.round, i) for i in mine]
                models = lift(method.client_personalize, message, states, batches, self.schedule.width)
                made.update(zip(mine, models, strict=True))
            yield from (made[i] for i in together)

    def method_of(self, client: int) -> Method:
        """The method object of the client's network."""
        return self.methods[self.clients.network_of(client)]

    def evaluate(self, progress: Progress, keep: Keep) -> None:
        """Add a row to the history; the test rows are read only where validation is strictly better than ever."""
        began = time.perf_counter()
        clients, found, losses = self.clients, [], []
        models: list[Tree] = []
        size = 0
        for place, (i, model) in enumerate(zip(clients.ids, self.models(progress), strict=True)):
            found.append(score(self.method_of(i), model, clients.images, clients.labels, clients.validation[place]))
            losses.append(self._train_loss(i, model, progress.round))
            size += tree.nbytes(model)
            if size <= KEPT_WHILE_SCORED or keep.models:
                models.append(model)
        validation = Scores.of(found)
        row = {
            "round": progress.round,
            "visits": progress.visits,
            "steps": progress.steps,
            "gradients": progress.gradients,
            "personalize_gradients": sum(self.method_of(i).gradients_to_personalize for i in clients.ids),
            "bytes_down": progress.bytes_down,
            "bytes_up": progress.bytes_up,
            "bytes_welcome": progress.bytes_welcome,
            "train_loss": float(np.mean(losses)),
            "val_loss": validation.mean_loss,
            "val_accuracy": validation.pooled,
            "val_client_mean": validation.client_mean,
        }
        if progress.best is None or validation.pooled > progress.best["val_accuracy"]:
            again = models if len(models) == len(clients.ids) else self.models(progress)  # too many to be kept
            test = [
                score(self.method_of(i), model, clients.images, clients.labels, rows)
                for i, model, rows in zip(clients.ids, again, clients.test, strict=True)
            ]
            progress.improvements.append({**row, "test": asdict(Scores.of(test))})
            progress.best_server = progress.server if keep.server else None
            # none rather than those of a round before, which a run that kept them may have left here
            progress.best_models = {"models": models, "embeddings": self._embeddings(progress)} if keep.models else None
        progress.seconds += time.perf_counter() - began
        progress.history.append({**row, "seconds": round(progress.seconds, 3)})

    def _embeddings(self, progress: Progress) -> Tensor | None:
        return self.method.server_embeddings(progress.server) if self.one_server else None

    def _train_loss(self, client: int, model: Tree, round_: int) -> float:
        """Loss of a personal model on one batch of the client's training rows, for the record."""
        method = self.method_of(client)
        rows = self.batches("train-loss", Draw(1, method.local.batch_size), round_, client)[0]
        images, labels = method.task.batch(rows)
        return float(F.cross_entropy(method.predict(model, images), labels))
