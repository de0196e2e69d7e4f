"""The form of a result: what a run leaves behind, checked on reading."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fedbench.errors import BadInput
from fedbench.storage import measures
from fedbench.storage.spec import Spec

Count = Annotated[int, Field(ge=0, le=2**53)]  # what a float still counts exactly
Share = Annotated[float, Field(ge=0, le=1)]
TITLE = 100  # characters of a title
TEXT = 1000  # characters of any other text in a result
DEPTH = 6  # of tables within tables of the provenance


def shown(text: str, most: int = TITLE) -> str:
    """`text` as one printable line of at most so many characters: what tables, terminals and spreadsheets can take."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * most]).split()).lstrip("=+-@")
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def _is_shown(text: str) -> str:
    if text != shown(text):
        raise ValueError(f"must be one printable line of at most {TITLE} characters that begins like a word")
    return text


Title = Annotated[str, AfterValidator(_is_shown)]


def check_plain(value: Any, what: str, depth: int = DEPTH) -> None:
    """Raise ValueError where `value`, of tables, lists and plain values, holds what no machine or person wrote."""
    if depth == 0:
        raise ValueError(f"{what} is nested too deeply")
    if isinstance(value, str) and not (len(value) <= TEXT and value.isprintable()):
        raise ValueError(f"{what} holds a text that is not one printable line of at most {TEXT} characters")
    if isinstance(value, int) and abs(value) > 2**63:
        raise ValueError(f"{what} holds a number beyond 64 bits")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_plain(key, what, depth - 1)
            check_plain(inner, what, depth - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_plain(inner, what, depth - 1)


class TestScores(BaseModel):
    """Per-client test results, in the order of the clients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correct: list[Count]
    total: list[Count] = Field(min_length=1)
    loss: list[float]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not len(self.correct) == len(self.total) == len(self.loss):
            raise ValueError("correct, total and loss must have one value for each client")
        if not all(0 <= c <= t and t > 0 for c, t in zip(self.correct, self.total, strict=True)):
            raise ValueError("a client has at least one test row, and none or up to all of them are correct")
        return self


class Row(BaseModel):
    """What was measured at one evaluation. A run that diverged has losses that are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: Count
    visits: Count
    steps: Count  # gradient steps on clients, all together
    gradients: Count | None = None  # gradient evaluations of all visits, in batches; None in files of format 1
    personalize_gradients: Count | None = None  # those that made the personal models of all clients at this evaluation
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
        return measures.pooled_accuracy(self.test)

    @property
    def client_accuracy(self) -> list[float]:
        """Each client's test accuracy, 0 .. 1."""
        return measures.client_accuracies(self.test)

    @property
    def client_mean(self) -> float:
        """The mean of the clients' test accuracies, 0 .. 1."""
        return measures.client_mean(self.client_accuracy)


class Unseen(BaseModel):
    """Clients that were held out of training: the history of their adaptation, and its best row on validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best: Best
    earlier: list[Best] | None = None  # as in Result
    history: list[HistoryRow]


class Models(BaseModel):
    """The personal models of the chosen round, kept in a file beside the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, Field(pattern=r"^[0-9a-f]{16}\.safetensors$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def check_chosen(best: Best, earlier: list[Best] | None, history: list[HistoryRow]) -> None:
    """Raise ValueError unless `best` is the row of the history that validation chose, and `earlier` those before it."""
    if any(a.visits > b.visits or a.round > b.round for a, b in pairwise(history)):
        raise ValueError("the history does not go on: its visits and rounds must not fall")
    rows: list[Row] = []
    for row in history:
        if not rows or row.val_accuracy > rows[-1].val_accuracy:
            rows.append(row)
    chosen = [*earlier, best] if earlier is not None else [best]
    expected = rows if earlier is not None else rows[-1:]
    if len(chosen) != len(expected) or not all(map(_same_row, chosen, expected)):
        raise ValueError("best must be the row of the history where validation was highest first, earlier those before")


def _same_row(a: Row, b: Row) -> bool:
    values = [[getattr(row, name) for name in Row.model_fields] for row in (a, b)]
    # losses that are no numbers are equal here
    return all(x == y or (x != x and y != y) for x, y in zip(*values, strict=True))


class Result(BaseModel):
    """One finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1, 2] = 2
    spec: Spec
    title: Title  # of the method
    code: str  # hash of the method's source
    dataset_code: str | None = None  # hash of the data set's source
    codes: dict[str, str] = {}  # hashes of the sources of a partition and of networks that are plug-ins, by name
    depends_on_length: bool = False  # the beginning of this run is not a shorter run
    partition: str  # checksum of who holds which rows
    best: Best
    earlier: list[Best] | None = None  # what was best before, in order; None in files of format 1
    unseen: Unseen | None = None
    history: list[HistoryRow] = Field(min_length=1)
    models: Models | None = None
    digest: str  # of the numbers: see `digest`
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not isinstance(self.provenance.get("software", {}), dict):
            raise ValueError("the software of the provenance must be a table of versions")
        for key in ("finished", "cut_from"):
            if not isinstance(self.provenance.get(key, ""), str):
                raise ValueError(f"{key!r} of the provenance must be a text")
        spec = self.spec
        for what, value in (
            ("the spec", spec.model_dump()),
            ("the provenance", self.provenance),
            ("codes", self.codes),
        ):
            check_plain(value, what)
        for what, text in (("network", spec.network), ("partition", spec.partition)):
            if text != shown(text, TEXT):
                raise ValueError(f"the {what} of the spec must begin like a word")
        check_chosen(self.best, self.earlier, self.history)
        if self.unseen:
            check_chosen(self.unseen.best, self.unseen.earlier, self.unseen.history)
        novel = spec.novel_clients
        for best, clients in ((self.best, spec.clients - novel), (self.unseen and self.unseen.best, novel)):
            if best and len(best.test.total) != clients:
                raise ValueError(f"test scores of {len(best.test.total)} clients, where the spec has {clients}")
        return self

    @property
    def samples(self) -> str | None:
        """The fingerprint of the samples that it was made of; None where that was not recorded."""
        found = self.provenance.get("samples")
        return found if isinstance(found, str) else None

    def at(self, visits: int) -> Result:
        """The result that a run of so many `visits` would have stored, to the bit.

        Its seconds are those of this run until then, its provenance names this run as `cut_from`. Raises BadInput
        where that cannot be known: beyond the end, off the grid of evaluations, for a method that depends on the
        length of the run, where unseen clients joined at the end, and for files of format 1.
        """
        if visits == self.spec.visits:
            return self
        at = f"the run {self.spec.identity} of {self.spec.method} cannot be cut at {visits} visits: "
        if self.depends_on_length:
            raise BadInput(at + "the method depends on the length of the run; run it for that length")
        if self.unseen is not None:
            raise BadInput(at + "unseen clients joined at the end; run it for that length")
        if self.earlier is None:
            raise BadInput(at + "the file is of an older format, without the scores on the way; run it again")
        if visits > self.spec.visits:
            raise BadInput(at + f"it ended after {self.spec.visits}; run it for that length")
        place = next((i for i, row in enumerate(self.history) if 0 < row.visits == visits), None)
        if place is None:
            grid = [str(row.visits) for row in self.history if row.visits]
            some = grid if len(grid) <= 4 else [*grid[:2], "...", grid[-1]]
            raise BadInput(at + f"it was evaluated at {', '.join(some)}; name one of these")
        reached = [best for best in (*self.earlier, self.best) if best.visits <= visits]
        cut = self.model_copy(
            update={
                "spec": self.spec.model_copy(update={"visits": self.history[place].visits}),
                "best": reached[-1],
                "earlier": reached[:-1],
                "history": self.history[: place + 1],
                "models": None,
                "provenance": {**self.provenance, "cut_from": self.spec.identity},
            }
        )
        return cut.model_copy(update={"digest": digest(cut.model_dump(mode="json"))})

    @property
    def last(self) -> HistoryRow:
        """The end of the run."""
        return self.history[-1]

    @property
    def diverged(self) -> bool:
        """Whether the run ended with a loss that is no number."""
        return not (math.isfinite(self.last.val_loss) and math.isfinite(self.last.train_loss))


# what the digest leaves out: times and machines, hashes of sources, and what depends on options that change no number
NO_NUMBERS = frozenset({"seconds", "provenance", "dataset_code", "codes", "depends_on_length", "models", "digest"})
LATER = frozenset({"gradients", "personalize_gradients", "earlier"})  # keys that files of format 1 do not have


def digest(payload: dict[str, Any]) -> str:
    """SHA-256 of a result's numbers, its spec and its code: all but what NO_NUMBERS names.

    The spec counts whole, for a hyperparameter may have any name.
    """
    counted = {**_timeless(payload), "spec": payload["spec"]}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _timeless(value: Any) -> Any:
    # most values are numbers, which are not worth a call
    if isinstance(value, dict):
        return {
            k: _timeless(v) if isinstance(v, (dict, list)) else v
            for k, v in value.items()
            if k not in NO_NUMBERS and not (v is None and k in LATER)
        }
    return [_timeless(v) if isinstance(v, (dict, list)) else v for v in value]


class Failure(BaseModel):
    """A run that ended with an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: Spec
    details: str  # the traceback, or one sentence
    title: Title | None = None  # of the method, where it is known

    @property
    def message(self) -> str:
        """The last line of the details."""
        lines = self.details[-10_000:].strip().splitlines()
        return shown(lines[-1], 300) if lines else "an error without a message"
