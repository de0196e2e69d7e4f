"""Results on disk: one JSON file a run, complete or absent, and read without executing anything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedbench.errors import BadInput
from fedbench.spec import Scalar, Spec

if TYPE_CHECKING:
    import pandas as pd

WORK = ".work"  # the folder inside the results that holds checkpoints, locks, progress and errors of runs


Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class TestScores(BaseModel):
    """Per-client test results, in the order of the clients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correct: list[int]
    total: list[int] = Field(min_length=1)
    loss: list[float]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not len(self.correct) == len(self.total) == len(self.loss):
            raise ValueError("correct, total and loss must have one value for each client")
        if not all(0 <= c <= t and t > 0 for c, t in zip(self.correct, self.total, strict=True)):
            raise ValueError("a client has at least one test row, and none or up to all of them are correct")
        return self


class Row(BaseModel):
    """What was measured at one look at the validation data. A run that diverged has losses that are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: Count
    visits: Count
    steps: Count  # gradient steps on clients, all together
    bytes_down: Count  # messages to clients
    bytes_up: Count  # uploads from clients
    bytes_welcome: Count  # what clients were sent once, when they joined
    train_loss: float  # of the personal models, on one batch of each client
    val_loss: float  # mean over clients
    val_accuracy: Share  # pooled over samples: what chooses the round
    val_client_mean: Share  # mean over clients


class HistoryRow(Row):
    """A row of the history; seconds count the run's own time, whatever number of times it was interrupted."""

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Best(Row):
    """The round that validation chose, and the test rows, which were read at that round."""

    test: TestScores

    @property
    def accuracy(self) -> float:
        """Test accuracy pooled over samples, 0 .. 1."""
        return sum(self.test.correct) / sum(self.test.total)

    @property
    def client_accuracy(self) -> list[float]:
        """Each client's test accuracy, 0 .. 1."""
        return [c / t for c, t in zip(self.test.correct, self.test.total, strict=True)]

    @property
    def client_mean(self) -> float:
        """The mean of the clients' test accuracies, 0 .. 1."""
        return sum(self.client_accuracy) / len(self.client_accuracy)


class Unseen(BaseModel):
    """Clients that were held out of training: the history of their adaptation, and its best look on validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best: Best
    history: list[HistoryRow]


class Result(BaseModel):
    """One finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    spec: Spec
    title: str  # of the method
    code: str  # hash of the method's source
    dataset_code: str | None = None  # hash of the data set's source
    partition: str  # checksum of who holds which rows
    best: Best
    unseen: Unseen | None = None
    history: list[HistoryRow] = Field(min_length=1)
    digest: str  # of everything above but the seconds
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not isinstance(self.provenance.get("software", {}), dict):
            raise ValueError("the software of the provenance must be a table of versions")
        novel = self.spec.novel_clients
        for best, clients in ((self.best, self.spec.clients - novel), (self.unseen and self.unseen.best, novel)):
            if best and len(best.test.total) != clients:
                raise ValueError(f"test scores of {len(best.test.total)} clients, where the spec has {clients}")
        return self

    @property
    def last(self) -> HistoryRow:
        """The end of the run."""
        return self.history[-1]

    @property
    def diverged(self) -> bool:
        """Whether the run ended with a loss that is no number."""
        return not (math.isfinite(self.last.val_loss) and math.isfinite(self.last.train_loss))


NO_NUMBERS = frozenset({"seconds", "provenance", "dataset_code", "digest"})


def digest(payload: dict[str, Any]) -> str:
    """SHA-256 of a result's numbers: all but what NO_NUMBERS names."""
    return hashlib.sha256(json.dumps(_timeless(payload), sort_keys=True).encode()).hexdigest()


def _timeless(value: Any) -> Any:
    # most values are numbers, which are not worth a call
    if isinstance(value, dict):
        return {k: _timeless(v) if isinstance(v, (dict, list)) else v for k, v in value.items() if k not in NO_NUMBERS}
    return [_timeless(v) if isinstance(v, (dict, list)) else v for v in value]


class Failure(BaseModel):
    """A run that ended with an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: Spec
    details: str  # the traceback, or one sentence

    @property
    def message(self) -> str:
        """The last line of the details."""
        lines = self.details.strip().splitlines()
        return lines[-1] if lines else "an error without a message"


def result_path(root: Path, spec: Spec) -> Path:
    """Where the result of `spec` belongs."""
    return root / spec.dataset / spec.method / f"{spec.identity}.json"


def work_path(root: Path, spec: Spec, suffix: str) -> Path:
    """A file of a run in the making: `suffix` is lock, checkpoint, progress or error."""
    return root / WORK / f"{spec.identity}.{suffix}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` at the end.

    Whatever happens, the file at `path` is the old one or the whole new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by `tempfile`, whose files only their owner may read: results are shared
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path`, all of it or nothing."""
    with replacing(path) as file:
        file.write(content)


def write(root: Path, result: Result) -> Path:
    """Store `result`; its path."""
    path = result_path(root, result.spec)
    write_bytes(path, (json.dumps(result.model_dump(mode="json"), indent=1) + "\n").encode())
    return path


def read(path: Path) -> Result:
    """The result at `path`. Raises BadInput for a file that is no complete result."""
    try:
        result = Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise BadInput(f"{path} is not a fedbench result: {where}: {problem['msg'].lower()}") from None
    if digest(result.model_dump(mode="json")) != result.digest:
        raise BadInput(f"{path} is damaged or was edited: its numbers do not match its digest")
    return result


def write_failure(root: Path, spec: Spec, details: str) -> None:
    """Keep why the run `spec` failed, until it succeeds; a folder that cannot be written to keeps nothing."""
    failure = Failure(spec=spec, details=details)
    with contextlib.suppress(OSError):
        write_bytes(work_path(root, spec, "error"), (failure.model_dump_json(indent=1) + "\n").encode())


def read_failure(path: Path) -> Failure:
    """The failure at `path`. Raises BadInput for another file."""
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise BadInput(f"{path} is not the record of a failed run") from None


def files(root: Path) -> Iterator[Path]:
    """All result files under `root` (or `root` itself, if it is a file), sorted."""
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise BadInput(f"there are no results in {root}: there is no such folder")
    yield from sorted(path for path in root.glob("*/*/*.json") if WORK not in path.relative_to(root).parts)


def load_results(path: str | Path = "results", level: Literal["runs", "clients", "history"] = "runs") -> pd.DataFrame:
    """Results as a tidy pandas frame.

    `path` is a results folder or one file. A row is a run (`runs`), a client of a run (`clients`: test accuracy at the
    round that validation chose, unseen clients included), or a look at the validation data (`history`). Accuracies are
    0 .. 1, traffic is in bytes. Every row has the run's identity, method, data set, settings and seed; the method's
    hyperparameters are in columns `param.NAME`. Raises BadInput for a file that is no result.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for file in files(Path(path)):
        result = read(file)
        spec = result.spec.model_dump(exclude={"params"})
        params: dict[str, Scalar] = {f"param.{name}": value for name, value in result.spec.params.items()}
        run = {"identity": result.spec.identity, "title": result.title, **spec}
        if level == "runs":
            rows.append({**run, **_summary(result), **params})
        elif level == "history":
            rows += [{**run, **row.model_dump(), **params} for row in result.history]
        else:
            for seen, best in ((True, result.best), (False, result.unseen and result.unseen.best)):
                first = 0 if seen else result.spec.clients - result.spec.novel_clients
                for place, accuracy in enumerate(best.client_accuracy if best else []):
                    measured = {"accuracy": accuracy, "samples": best.test.total[place] if best else 0}
                    rows.append({**run, "client": first + place, "seen": seen, **measured, **params})
    return pd.DataFrame(rows)


def _summary(result: Result) -> dict[str, Any]:
    import numpy as np

    best, last = result.best, result.last
    return {
        "accuracy": best.accuracy,
        "client_mean": best.client_mean,
        "worst_decile": float(np.quantile(best.client_accuracy, 0.1)),
        "client_std": float(np.std(best.client_accuracy)),
        "unseen_accuracy": result.unseen.best.accuracy if result.unseen else None,
        "unseen_client_mean": result.unseen.best.client_mean if result.unseen else None,
        "best_round": best.round,
        "best_visits": best.visits,
        "val_accuracy": best.val_accuracy,
        "bytes_per_visit": (last.bytes_down + last.bytes_up) / max(1, last.visits),
        "bytes": last.bytes_down + last.bytes_up + last.bytes_welcome,
        "steps": last.steps,
        "seconds": last.seconds,
    }
