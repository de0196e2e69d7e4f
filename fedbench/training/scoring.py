"""Scores of personal models on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedbench.method import Method
from fedbench.task import normalise
from fedbench.tree import Tree

IMAGES_AT_ONCE = 500  # rows that are scored in one forward pass; part of what fixes the bits


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Per-client results of one scoring, in the order of the clients."""

    correct: list[int]
    total: list[int]
    loss: list[float]  # mean cross-entropy of each client

    @staticmethod
    def of(parts: Sequence[tuple[int, int, float]]) -> Scores:
        """From what `score` says of each client."""
        correct, total, loss = zip(*parts, strict=True)
        return Scores(correct=list(correct), total=list(total), loss=list(loss))

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


def score(method: Method, model: Tree, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[int, int, float]:
    """Correct rows, all rows and mean cross-entropy of `model` on the `rows` of held-out `images` and `labels`."""
    task, correct, loss = method.task, 0, 0.0
    for part in torch.split(rows, IMAGES_AT_ONCE):
        logits = method.predict(model, normalise(images[part], task.mean, task.std))
        # a diverged model is right about nothing, where argmax would make its NaNs class 0
        correct += int(((logits.argmax(1) == labels[part]) & logits.isfinite().all(1)).sum())
        loss += float(F.cross_entropy(logits, labels[part], reduction="sum"))
    return correct, len(rows), loss / len(rows)
