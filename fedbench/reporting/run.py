"""What a report needs of one result: the scores of its clients, its traffic, its history, its origin."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedbench import storage
from fedbench.storage import Result, TestScores, measures
from fedbench.storage.spec import Spec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Test accuracy of some clients, in percent."""

    client: Floats  # [N]
    pooled: float  # over all their samples
    samples: Floats  # [N], test rows of each client

    @staticmethod
    def of(scores: TestScores) -> Scores:
        """The scores that belong to counts of correct rows."""
        client = 100 * np.array(measures.client_accuracies(scores))
        return Scores(client, 100 * measures.pooled_accuracy(scores), np.array(scores.total, dtype=float))

    @property
    def client_mean(self) -> float:
        """The mean over clients."""
        return float(measures.client_mean(self.client.tolist()))

    @property
    def worst_tenth(self) -> float:
        """The mean over the worst tenth of the clients, at least one."""
        return float(measures.worst_tenth(self.client.tolist()))

    @property
    def worst_client(self) -> float:
        """The accuracy of the worst client."""
        return float(measures.worst_client(self.client.tolist()))

    @property
    def client_std(self) -> float:
        """The sample standard deviation over clients."""
        return float(measures.client_std(self.client.tolist()))

    @property
    def jain_index(self) -> float:
        """Jain's fairness index, 1/N .. 1."""
        return float(measures.jain_index(self.client.tolist()))


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run. Accuracies are in percent, traffic in megabytes (10^6 bytes)."""

    spec: Spec
    path: Path
    title: str  # of the method
    code: str  # hash of the method's source
    dataset_code: str | None  # hash of the data set's source
    codes: Mapping[str, str]  # hashes of the sources of a partition and of networks that are plug-ins, by name
    partition: str  # checksum of who holds which rows
    provenance: Mapping[str, Any]
    seen: Scores
    unseen: Scores | None
    best_visits: int
    best_megabytes: float  # moved until the chosen round
    megabytes: float  # moved in the whole run
    megabytes_per_visit: float  # messages and uploads, without what a joining client is sent once
    seconds: float
    gradients: float | None  # evaluations of the whole run, in batches; None: not recorded (format 1)
    gradients_per_visit: float | None
    gradients_to_personalize: float | None  # that make one client's personal model, at the chosen round
    diverged: bool  # its last losses are no numbers
    # visits, megabytes, seconds, gradients (where recorded); accuracy (validation, pooled), client_mean (validation);
    # and, where recorded, test_accuracy and test_client_mean: of the round that validation had chosen by then
    history: Mapping[str, Floats]
    whole_seconds: float = 0.0  # of the run that is stored, of which this may be the beginning
    whole_visits: int = 0  # likewise
    beside: bool = False  # other runs of the same machine overlapped with it in time

    def version(self, package: str) -> str:
        """The version of a package that it was made with."""
        return str(self.provenance.get("software", {}).get(package, "unknown"))

    @property
    def samples(self) -> str | None:
        """The fingerprint of the samples that it was made of, as far as it is recorded."""
        found = self.provenance.get("samples")
        return found if isinstance(found, str) else None

    @property
    def machine(self) -> str:
        """The processor or the graphics card, as far as it is recorded."""
        host = self.provenance.get("host", {})
        host = host if isinstance(host, Mapping) else {}
        device = self.provenance.get("device", "unknown device")
        return str(host.get("processor", "unknown processor") if device == "cpu" else device)

    @property
    def commit(self) -> str:
        """The commit of the sources; "not recorded" outside a checkout."""
        return str(self.provenance.get("commit") or "not recorded")

    @property
    def uncommitted(self) -> bool:
        """Whether the sources had changes that no commit holds."""
        return bool(self.provenance.get("uncommitted_changes"))

    def scores(self, unseen: bool) -> Scores | None:
        """The scores of the clients that were held out of training, or of the others."""
        return self.unseen if unseen else self.seen


def _history(result: Result) -> dict[str, Floats]:
    rows = result.history
    history = {
        "visits": np.array([row.visits for row in rows], dtype=float),
        "megabytes": np.array([measures.bytes_moved(row) / measures.MEGABYTE for row in rows]),
        "seconds": np.array([row.seconds for row in rows]),
        "accuracy": np.array([100 * row.val_accuracy for row in rows]),
        "client_mean": np.array([100 * row.val_client_mean for row in rows]),
    }
    if all(row.gradients is not None for row in rows):
        history["gradients"] = np.array([row.gradients for row in rows], dtype=float)
    if result.earlier is not None:
        bests = [*result.earlier, result.best]
        # the place of the last improvement that is not later than each row
        chosen = np.searchsorted([best.visits for best in bests], history["visits"], side="right") - 1
        history["test_accuracy"] = 100 * np.array([best.accuracy for best in bests])[chosen]
        history["test_client_mean"] = 100 * np.array([best.client_mean for best in bests])[chosen]
    return history


@cache
def title_in_code(method: str) -> str | None:
    """The title that a built-in method's source gives it, read without importing it; None for other methods."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        found = importlib.util.find_spec(f"fedbench.methods.{method.replace('-', '_')}")
        for node in ast.walk(ast.parse(Path(str(found and found.origin)).read_text())):
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["title"]:
                return str(ast.literal_eval(node.value))
    return None


def read(path: Path) -> Run:
    """The run stored at `path`. Raises BadInput for a file that is no complete result, or lies in another's place."""
    return run_of(storage.read_in_place(path), path)


def run_of(result: Result, path: Path) -> Run:
    """What a report needs of a `result` that is stored at `path`."""
    best, last = result.best, result.last
    return Run(
        spec=result.spec,
        path=path,
        title=title_in_code(result.spec.method) or result.title,
        code=result.code,
        dataset_code=result.dataset_code,
        codes=result.codes,
        partition=result.partition,
        provenance=result.provenance,
        seen=Scores.of(best.test),
        unseen=Scores.of(result.unseen.best.test) if result.unseen else None,
        best_visits=best.visits,
        best_megabytes=measures.bytes_moved(best) / measures.MEGABYTE,
        megabytes=measures.bytes_moved(last) / measures.MEGABYTE,
        megabytes_per_visit=measures.bytes_per_visit(last) / measures.MEGABYTE,
        seconds=last.seconds,
        whole_seconds=last.seconds,
        whole_visits=result.spec.visits,
        gradients=last.gradients,
        gradients_per_visit=measures.gradients_per_visit(last),
        gradients_to_personalize=measures.gradients_per_personalization(best, measures.trained_clients(result)),
        diverged=result.diverged,
        history=_history(result),
    )
