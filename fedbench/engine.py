"""Rounds: cohorts, client states, bytes, evaluation, selection on validation, unseen clients.

The engine owns everything that a method must not decide for itself. What a run has reached is a `Progress`: tensors and
plain data, so that a checkpoint is that and no more, and going on from it gives the bits of never having stopped.

Letters: N training clients, C clients of a cohort, K local steps, B samples of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench import tree
from fedbench.method import Cohort, Draw, Method, State
from fedbench.seeds import numpy_stream, torch_stream
from fedbench.task import normalise
from fedbench.tree import Tree

SCORED_TOGETHER = 16  # clients whose messages the server makes at once for scoring; part of what fixes the bits
IMAGES_AT_ONCE = 500  # rows that are scored in one forward pass


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The rows of some clients: training rows number the images of the method's task, held-out rows `images`."""

    ids: range
    train: Sequence[np.ndarray]  # int64 [m_i] for every client
    validation: Sequence[Tensor]  # int64 [.]
    test: Sequence[Tensor]
    images: Tensor  # [., c, h, w] uint8, the held-out ones
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run is and when it looks at validation data; in client visits."""

    visits: int
    evaluate_every: int
    adapt_visits: int = 0  # visits to each unseen client after training
    width: int = 1  # clients that are trained at once by `vmap`; 1 is a plain loop


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Per-client results of one scoring, in the order of the clients."""

    correct: list[int]
    total: list[int]
    loss: list[float]  # mean cross-entropy of each client

    @property
    def pooled(self) -> float:
        """Accuracy over all samples of all clients."""
        return sum(self.correct) / sum(self.total)

    @property
    def client_mean(self) -> float:
        """The mean of the clients' accuracies."""
        return float(np.mean([c / t for c, t in zip(self.correct, self.total, strict=True)]))

    @property
    def mean_loss(self) -> float:
        """The mean of the clients' losses."""
        return float(np.mean(self.loss))


@dataclass(kw_only=True)
class Progress:
    """What a run has reached; everything that a checkpoint holds."""

    server: State
    clients: dict[int, Tree] = field(default_factory=dict)  # what joined clients keep
    round: int = 0
    visits: int = 0
    steps: int = 0  # gradient steps on clients
    bytes_down: int = 0  # messages
    bytes_up: int = 0  # uploads
    bytes_welcome: int = 0  # first contacts
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None  # the round that validation chose, with its test scores
    best_server: State = None  # the server of that round, kept only where unseen clients will need it


class Engine:
    """Runs one method on one federation. All randomness is keyed by `seed` and purpose."""

    def __init__(self, method: Method, clients: Clients, schedule: Schedule, seed: int) -> None:
        self.method, self.clients, self.schedule, self.seed = method, clients, schedule, seed
        self.cohort_size = min(method.clients_per_round, len(clients.ids))
        self.rounds = -(-schedule.visits // self.cohort_size)
        self.device, self.dtype = method.task.device, method.task.dtype

    def start(self) -> Progress:
        """The state before the first round."""
        return Progress(server=self.method.server_init(torch_stream(self.seed, "server")))

    @torch.no_grad()
    def run(self, progress: Progress, keep_server: bool, tick: Callable[[Progress], bool]) -> bool:
        """Run `progress` to the end, in place; `tick` is called after every round and stops the run by returning True.

        `keep_server` keeps the server state of the best round. Returns whether the end was reached.
        """
        if not progress.history:
            self.evaluate(progress, keep_server)
        while progress.round < self.rounds:
            began, before = time.perf_counter(), progress.visits
            self.round(progress)
            due = progress.visits // self.schedule.evaluate_every > before // self.schedule.evaluate_every
            progress.seconds += time.perf_counter() - began
            if due or progress.round == self.rounds:
                self.evaluate(progress, keep_server)
            if tick(progress):
                return False
        return True

    def round(self, progress: Progress) -> None:
        """One round: choose the cohort, send, train, receive."""
        size = min(self.cohort_size, self.schedule.visits - progress.visits)
        drawn = numpy_stream(self.seed, "cohort", progress.round).choice(len(self.clients.ids), size, replace=False)
        cohort = self._cohort([self.clients.ids[i] for i in drawn], progress.round)
        message, upload = self._visit(progress, cohort)
        progress.server = self.method.server_receive(progress.server, cohort, upload)
        progress.round += 1
        progress.visits += size
        progress.steps += size * self.method.steps_per_visit
        progress.bytes_down += tree.nbytes(message)
        progress.bytes_up += tree.nbytes(upload)

    def _visit(self, progress: Progress, cohort: Cohort) -> tuple[Tree, Tree]:
        """The cohort trains and its states change; its messages and uploads, stacked."""
        ids = cohort.ids.tolist()
        states, welcomed = self._states(progress.server, progress.clients, cohort)
        progress.bytes_welcome += welcomed
        message = self.method.server_send(progress.server, cohort)
        batches = [self._batches("train", self.method.train_draw, cohort.round, i) for i in ids]
        uploads, kept = zip(*self._lift(self.method.client_train, message, states, batches), strict=True)
        for i, state in zip(ids, kept, strict=True):
            if state:
                progress.clients[i] = state
            else:
                progress.clients.pop(i, None)
        return message, tree.stack(uploads)

    def _cohort(self, ids: list[int], round_: int) -> Cohort:
        counts = torch.tensor([len(self._rows(i)) for i in ids], dtype=self.dtype)
        return Cohort(
            torch.tensor(ids, device=self.device), (counts / counts.sum()).to(self.device), round_, self.rounds
        )

    def _rows(self, client: int) -> np.ndarray:
        return self.clients.train[client - self.clients.ids.start]

    def _states(self, server: State, kept: dict[int, Tree], cohort: Cohort) -> tuple[list[Tree], int]:
        """What each client of the cohort keeps, and the bytes that welcomed those who keep nothing yet."""
        ids, sent = cohort.ids.tolist(), 0
        states = [kept.get(i, {}) for i in ids]
        if not all(states):
            welcome = self.method.server_welcome(server, cohort)
            for place, i in enumerate(ids):
                if not states[place]:
                    mine = tree.row(welcome, place)
                    states[place] = self.method.client_init(mine, torch_stream(self.seed, "client", i))
                    sent += tree.nbytes(mine)
        return states, sent

    def _batches(self, purpose: str, draw: Draw, round_: int, client: int) -> Tensor:
        """Row numbers [K, B]: each batch a fresh draw without replacement, all rows where there are fewer than B."""
        rows = self._rows(client)
        size = min(draw.size, len(rows))
        rng = numpy_stream(self.seed, purpose, round_, client)
        picked = np.stack([rng.permutation(len(rows))[:size] for _ in range(draw.steps)]) if draw.steps else None
        if picked is None:
            return torch.empty((0, size), dtype=torch.int64, device=self.device)
        return torch.from_numpy(rows[picked]).to(self.device)

    def _lift(
        self, function: Callable[..., Any], message: Tree, states: list[Tree], batches: list[Tensor]
    ) -> Iterator[Any]:
        """`function` on every client of a cohort: a loop, or `vmap` over `width` clients at a time, batches padded."""
        width = self.schedule.width
        if width == 1:
            for i, (state, rows) in enumerate(zip(states, batches, strict=True)):
                yield function(tree.row(message, i), state, rows)
            return
        size = max(rows.shape[1] for rows in batches)
        padded = torch.stack([F.pad(rows, (0, size - rows.shape[1]), value=-1) for rows in batches])
        for first in range(0, len(states), width):
            chunk = slice(first, first + width)
            part = {name: value[chunk] for name, value in message.items()}
            together = torch.func.vmap(function)(part, tree.stack(states[chunk]), padded[chunk])
            for i in range(len(states[chunk])):
                yield torch.utils._pytree.tree_map(lambda value, i=i: value[i].clone(), together)

    def models(self, server: State, kept: dict[int, Tree], round_: int) -> list[Tree]:
        """The personal model of every client, made without changing anything."""
        models: list[Tree] = []
        for first in range(0, len(self.clients.ids), SCORED_TOGETHER):
            ids = list(self.clients.ids[first : first + SCORED_TOGETHER])
            cohort = self._cohort(ids, round_)
            states, _ = self._states(server, kept, cohort)
            message = self.method.server_send(server, cohort)
            batches = [self._batches("personalize", self.method.personalize_draw, round_, i) for i in ids]
            models.extend(self._lift(self.method.client_personalize, message, states, batches))
        return models

    def score(self, models: Sequence[Tree], rows: Sequence[Tensor]) -> Scores:
        """Each model on the rows of its client."""
        scores = Scores(correct=[], total=[], loss=[])
        task = self.method.task
        for model, mine in zip(models, rows, strict=True):
            correct, loss = 0, 0.0
            for part in torch.split(mine, IMAGES_AT_ONCE):
                logits = self.method.predict(model, normalise(self.clients.images[part], task.mean, task.std))
                labels = self.clients.labels[part]
                # a diverged model is right about nothing, where argmax would make its NaNs class 0
                correct += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
                loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            scores.correct.append(correct)
            scores.total.append(len(mine))
            scores.loss.append(loss / len(mine))
        return scores

    def _train_loss(self, models: Sequence[Tree], round_: int) -> float:
        """Mean loss of the personal models on one batch of each client's training rows, for the record."""
        task = self.method.task
        losses = []
        for i, model in zip(self.clients.ids, models, strict=True):
            rows = self._batches("train-loss", Draw(1, self.method.local.batch_size), round_, i)[0]
            images, labels = task.batch(rows)
            losses.append(float(F.cross_entropy(self.method.predict(model, images), labels)))
        return float(np.mean(losses))

    def evaluate(self, progress: Progress, keep_server: bool) -> None:
        """Add a row to the history; the test rows are read only where validation is strictly better than ever."""
        began = time.perf_counter()
        models = self.models(progress.server, progress.clients, progress.round)
        validation = self.score(models, self.clients.validation)
        row = {
            "round": progress.round,
            "visits": progress.visits,
            "steps": progress.steps,
            "bytes_down": progress.bytes_down,
            "bytes_up": progress.bytes_up,
            "bytes_welcome": progress.bytes_welcome,
            "train_loss": self._train_loss(models, progress.round),
            "val_loss": validation.mean_loss,
            "val_accuracy": validation.pooled,
            "val_client_mean": validation.client_mean,
        }
        if progress.best is None or validation.pooled > progress.best["val_accuracy"]:
            test = self.score(models, self.clients.test)
            progress.best = {**row, "test": asdict(test)}
            progress.best_server = progress.server if keep_server else None
        progress.seconds += time.perf_counter() - began
        progress.history.append({**row, "seconds": round(progress.seconds, 3)})

    @torch.no_grad()
    def adapt(
        self, server: State, unseen: Method, clients: Clients, stop: Callable[[], bool] = lambda: False
    ) -> dict[str, Any] | None:
        """Unseen clients join a trained server, which stays as it is but for what it learns of them.

        `unseen` is the method with the task of the `clients`. They are visited `adapt_visits` times each, and scored
        before, three times on the way, and after; validation chooses among these as it does in training. None where
        `stop`, asked once for every visit to all of them, says so.
        """
        engine = Engine(unseen, clients, self.schedule, self.seed)
        engine.rounds = self.rounds
        admitted = unseen.server_admit(server, len(clients.ids), torch_stream(self.seed, "admit"))
        progress = Progress(server=server if admitted is None else admitted)
        visits = self.schedule.adapt_visits
        looks = {round(visits * quarter / 4) for quarter in range(5)}
        for done in range(visits + 1):
            progress.round, progress.visits = self.rounds + done, done * len(clients.ids)
            if done in looks:
                engine.evaluate(progress, keep_server=False)
            if done == visits:
                break
            if stop():
                return None
            began = time.perf_counter()
            for i in clients.ids:
                cohort = engine._cohort([i], self.rounds + done)
                message, upload = engine._visit(progress, cohort)
                progress.steps += unseen.steps_per_visit
                progress.bytes_down += tree.nbytes(message)
                progress.bytes_up += tree.nbytes(upload)
                if admitted is not None:
                    progress.server = unseen.server_receive(progress.server, cohort, upload)
            progress.seconds += time.perf_counter() - began
            if admitted is None and not progress.clients:
                break  # nothing is kept anywhere: more visits would change nothing
        return {"best": progress.best, "history": progress.history}
