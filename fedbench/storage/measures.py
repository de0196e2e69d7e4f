"""What is derived from a result: accuracy, fairness, traffic and effort. Every measure is computed here, and only here.

Accuracies are shares, 0 .. 1, and traffic is in bytes; who prints them chooses percent and megabytes. The functions are
pure, on parts of the schema or on plain sequences of one value a client [N].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbench.storage.schema import Result, Row, TestScores

MEGABYTE = 1e6  # bytes


# ---------------------------------------------------------------- accuracy


def pooled_accuracy(scores: TestScores) -> float:
    """The share of all test rows that are classified correctly: clients count by their number of rows."""
    return sum(scores.correct) / sum(scores.total)


def client_accuracies(scores: TestScores) -> list[float]:
    """Each client's test accuracy [N]."""
    return [correct / total for correct, total in zip(scores.correct, scores.total, strict=True)]


def client_mean(accuracies: Sequence[float]) -> float:
    """The mean over clients, each of which counts alike."""
    return sum(accuracies) / len(accuracies)


def client_std(accuracies: Sequence[float]) -> float:
    """The sample standard deviation over clients (n - 1 in the denominator); 0 for a single client."""
    if len(accuracies) < 2:
        return 0.0
    mean = client_mean(accuracies)
    return math.sqrt(math.fsum((accuracy - mean) ** 2 for accuracy in accuracies) / (len(accuracies) - 1))


def worst_client(accuracies: Sequence[float]) -> float:
    """The accuracy of the client that is served worst."""
    return min(accuracies)


def worst_tenth(accuracies: Sequence[float]) -> float:
    """The mean over the worst tenth of the clients: N // 10 of them, and at least one."""
    count = max(1, len(accuracies) // 10)
    return sum(sorted(accuracies)[:count]) / count


def jain_index(accuracies: Sequence[float]) -> float:
    """Jain's fairness index, (sum a)^2 / (N sum a^2): 1 where all clients are served alike, 1/N where only one is.

    Source: Jain, Chiu, Hawe, A Quantitative Measure of Fairness and Discrimination, DEC-TR-301, 1984. 1 where every
    accuracy is 0, for then all are served alike.
    """
    squares = sum(accuracy**2 for accuracy in accuracies)
    return sum(accuracies) ** 2 / (len(accuracies) * squares) if squares else 1.0


# ---------------------------------------------------------------- traffic and effort


def bytes_moved(row: Row) -> int:
    """All traffic until this row, in both directions, with what joining clients were sent once."""
    return row.bytes_down + row.bytes_up + row.bytes_welcome


def bytes_per_visit(row: Row) -> float:
    """Messages and uploads of one visit, without what a joining client is sent once."""
    return (row.bytes_down + row.bytes_up) / max(1, row.visits)


def gradients_per_visit(row: Row) -> float | None:
    """Gradient evaluations, in batches, of one visit; None in files of format 1, and before the first visit."""
    return None if row.gradients is None or not row.visits else row.gradients / row.visits


def gradients_per_personalization(row: Row, clients: int) -> float | None:
    """Gradient evaluations, in batches, that make one client's personal model; None in files of format 1."""
    return None if row.personalize_gradients is None else row.personalize_gradients / clients


def trained_clients(result: Result) -> int:
    """The clients that take part in training: all but those held out."""
    return result.spec.clients - result.spec.novel_clients
