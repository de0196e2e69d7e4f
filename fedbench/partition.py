"""Who holds which rows: the clients' training, validation and test rows, drawn from one seed.

Every kind of partition is a matrix of shares, one row a client and one column a *stratum* (a class or a natural group),
that is used for training, validation and test rows alike: a client's three parts have the same label shares, up to
rounding. Letters: N clients, S strata, M samples.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from pydantic import Field
from scipy.special import log_softmax, softmax
from torch import Tensor

from fedbench.dataset import Data, Dataset
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.seeds import numpy_stream

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of every client: int64 row numbers into Data, ascending, one tensor a client; no row occurs twice."""

    train: tuple[Tensor, ...]
    validation: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    samples: int  # M, those that nobody holds included

    @property
    def clients(self) -> int:
        """The number of clients, N."""
        return len(self.train)

    @property
    def used(self) -> float:
        """The share of the samples that some client holds, 0 .. 1."""
        return sum(len(rows) for part in (self.train, self.validation, self.test) for rows in part) / self.samples

    def checksum(self) -> str:
        """SHA-256 of all row numbers and of who holds them, in hex."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for rows in part:
                digest.update(len(rows).to_bytes(8, "little") + rows.numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def histogram(self, labels: Tensor, classes: int) -> Tensor:
        """Training rows of each client and class, [N, classes] int64."""
        return torch.stack([torch.bincount(labels[rows], minlength=classes) for rows in self.train])


# ---------------------------------------------------------------- kinds


@dataclass(frozen=True)
class Kind(ABC):
    """A way to spread samples over clients; its fields are its settings, `str` the text that it is parsed from."""

    name: ClassVar[str]

    def __str__(self) -> str:
        settings = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return f"{self.name}:{settings}" if settings else self.name

    def strata(self, data: Data) -> Ints:
        """The stratum of every sample, [M]: its class, unless a kind says otherwise."""
        return data.labels.numpy()

    @abstractmethod
    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """The share of every stratum that each client holds, [N, S]; a column sums to 1 at most."""

    def counts(self, shares: Floats, rows: Ints, split: str) -> Ints:
        """How many of the `rows` [S] of a split every client holds, [N, S]: `shares * rows`, rounded."""
        return apportion(shares, rows, self.least(split))

    def least(self, split: str) -> int:
        """The rows that a client must have of a split."""
        return 1


@pydantic.dataclasses.dataclass(frozen=True)
class Classes(Kind):
    """Every client holds shares of a few classes (Shamsian et al. 2021, after pFedMe; the official repository's rule).

    Every class is cut into floor(C * N / classes) + spare shares, U[low, high] and then normalised. The clients in
    order pick C classes one at a time, uniformly among those with most shares left, and take the last share left of
    each. Of k rows of a class a client gets floor(k * share).

    The paper's wording leaves no share over (`spare=0`). The official code cuts one more share per class than clients
    take and leaves it unused (`spare=1`); so did the authors' logged runs, whose numbers of test rows
    `seeding=legacy` gives exactly: it draws shares and classes from numpy's legacy stream, as they did. Which rows
    make up a share is drawn from this package's own streams in both cases.
    """

    name: ClassVar[str] = "classes"
    per_client: Annotated[int, Field(ge=1, description="classes per client, C")]
    spare: Annotated[int, Field(ge=0, description="shares of every class that nobody gets")] = 1
    low: Annotated[float, Field(gt=0, allow_inf_nan=False, description="least share before normalisation")] = 0.4
    high: Annotated[float, Field(gt=0, allow_inf_nan=False, description="greatest share before normalisation")] = 0.6
    seeding: Annotated[Literal["keyed", "legacy"], Field(description="where shares and classes are drawn from")] = (
        "keyed"
    )

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} must not be above high = {self.high}")

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """See the class. A client never gets the same class twice."""
        if self.per_client > data.classes:
            raise BadInput(f"per_client = {self.per_client} is more than the {data.classes} classes of the data set")
        cuts = self.per_client * clients // data.classes + self.spare
        if cuts * data.classes < self.per_client * clients:
            taken = self.per_client * clients / data.classes
            raise BadInput(
                f"{clients} clients of {self.per_client} classes take {taken:g} shares of each of {data.classes}; "
                "with spare = 0 this must be a whole number: use spare=1 or another number of clients"
            )
        rng = _legacy(seed) if self.seeding == "legacy" else numpy_stream(seed, "partition", "classes")
        drawn = np.stack([rng.uniform(self.low, self.high, size=cuts) for _ in range(data.classes)])
        drawn /= drawn.sum(axis=1, keepdims=True)
        left = np.full(data.classes, cuts)
        shares = np.zeros((clients, data.classes))
        for own in shares:
            for _ in range(self.per_client):
                free = np.where(
                    own == 0, left, -1
                )  # its own classes may lead again where C does not divide the classes
                chosen = rng.choice(np.flatnonzero(free == free.max()))
                left[chosen] -= 1
                own[chosen] = drawn[chosen, left[chosen]]
        return shares

    def counts(self, shares: Floats, rows: Ints, split: str) -> Ints:
        """Rounded down; what is left over belongs to nobody."""
        return np.floor(rows * shares).astype(np.int64)


@pydantic.dataclasses.dataclass(frozen=True)
class Dirichlet(Kind):
    """Client i draws label shares p_i ~ Dir(alpha, ..., alpha); of class c it gets the share p_ic / sum_j p_jc.

    So Shamsian et al. 2021 draw their clients for the experiment with unseen ones. All rows are used. As sum_j p_jc is
    at most N, a client's rows are, before rounding, at least one N-th of the rarest class's: nothing has to be drawn
    again, however small alpha. Should a client still have fewer than `min_rows`, it gets rows of the clients that hold
    most, in its own label shares.
    """

    name: ClassVar[str] = "dirichlet"
    alpha: Annotated[float, Field(ge=1e-3, le=1e6, description="concentration; the smaller, the fewer classes")] = 0.5
    min_rows: Annotated[int, Field(ge=1, description="training rows of a client at least")] = 10

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """See the class. Logarithms, as small alphas underflow: log Gamma(a) = log Gamma(a + 1) + log(U) / a."""
        rng = numpy_stream(seed, "partition", "dirichlet")
        size = (clients, data.classes)
        gamma = np.log(rng.standard_gamma(self.alpha + 1, size)) + np.log(1 - rng.random(size)) / self.alpha
        return np.asarray(softmax(log_softmax(gamma, axis=1), axis=0), dtype=np.float64)

    def least(self, split: str) -> int:
        """`min_rows` of the training rows, 1 of the others."""
        return self.min_rows if split == "train" else 1


@pydantic.dataclasses.dataclass(frozen=True)
class Group(Kind):
    """A client is a natural group (a writer, an alphabet) and holds all its rows.

    Fewer clients than groups: the seed draws which groups take part, and nobody holds the others' rows. Clients are in
    the order of the groups.
    """

    name: ClassVar[str] = "group"

    def strata(self, data: Data) -> Ints:
        """The group of every sample."""
        if data.group is None:
            raise BadInput(
                "the partition 'group' needs natural groups and this data set has none; use classes, dirichlet or iid"
            )
        return data.group.numpy()

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """One group a client."""
        if clients > data.groups:
            raise BadInput(
                f"{clients} clients are more than the {data.groups} groups; ask for at most {data.groups} clients"
            )
        chosen = numpy_stream(seed, "partition", "group").choice(data.groups, clients, replace=False)
        return np.eye(data.groups)[np.sort(chosen)]


@pydantic.dataclasses.dataclass(frozen=True)
class IID(Kind):
    """Every client holds an equal share of every class; all rows are used and totals differ by at most one row."""

    name: ClassVar[str] = "iid"

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        """1 / N."""
        return np.full((clients, data.classes), 1 / clients)


KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Classes, Dirichlet, Group, IID)}


def parse_partition(text: str | None, dataset: type[Dataset] | Dataset) -> Kind:
    """The kind that `text` names: `NAME` or `NAME:FIELD=VALUE,FIELD=VALUE`; without text the data set's own.

    Raises BadInput for an unknown name or field and for a value that cannot be.
    """
    text = text or dataset.partition
    name, colon, settings = text.partition(":")
    if canonical(name) not in KINDS:
        raise unknown_name("partition", name, KINDS)
    kind = KINDS[canonical(name)]
    known = [field.name for field in fields(kind)]
    given: dict[str, Any] = {"per_client": dataset.classes_per_client} if kind is Classes else {}
    for item in settings.split(",") if colon else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value) or not known:
            usage = f"write FIELD=VALUE with a field of {kind.name}: {', '.join(known) or 'it has none'}"
            raise BadInput(f"in the partition {text!r}, {item!r} cannot be read; {usage}")
        if key.replace("-", "_") not in known:
            raise unknown_name(f"field of the partition {kind.name!r}", key, known)
        given[key.replace("-", "_")] = value
    try:
        return kind(**given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where} = {first['input']}: " if where else ""
        raise BadInput(f"the partition {text!r} cannot be: {what}{first['msg']}") from error


# ---------------------------------------------------------------- dealing


def split(data: Data, kind: Kind, clients: int, seed: int, validation_rows: int) -> Partition:
    """Deals the samples to `clients` clients. The same arguments give the same partition on every machine.

    Where the data set has test rows of its own, `validation_rows` of the others are drawn for validation; elsewhere
    70 / 15 / 15 % of every stratum and class are for training / validation / test. Raises BadInput where the setting
    is impossible.
    """
    samples = len(data.labels)
    if clients < 1:
        raise BadInput(f"there must be at least 1 client, not {clients}")
    if clients > samples:
        raise BadInput(f"{clients} clients cannot share {samples} samples; ask for fewer clients")
    strata = kind.strata(data)
    shares = kind.shares(data, clients, seed)
    parts: list[tuple[Tensor, ...]] = []
    for name, pool in zip(SPLITS, _pools(data, strata, seed, validation_rows), strict=True):
        counts = kind.counts(shares, np.bincount(strata[pool], minlength=shares.shape[1]), name)
        totals = counts.sum(axis=1)
        poorest = int(totals.argmin())
        if totals[poorest] < kind.least(name):
            raise BadInput(
                f"client {poorest} of {clients} would hold {totals[poorest]} of the {len(pool)} {name} rows, and must "
                f"hold at least {kind.least(name)} (partition {kind}); ask for fewer clients or for another partition"
            )
        parts.append(_deal(pool, strata, counts, numpy_stream(seed, "partition", name)))
    return Partition(parts[0], parts[1], parts[2], samples)


def _pools(data: Data, strata: Ints, seed: int, validation_rows: int) -> Sequence[Ints]:
    """The training, validation and test rows of all clients together."""
    rng = numpy_stream(seed, "partition", "pools")
    if data.test is not None:
        test = data.test.numpy()
        rest = rng.permutation(np.flatnonzero(~test))
        if not 0 < validation_rows < len(rest):
            raise BadInput(
                f"validation_rows = {validation_rows} must be 1 .. {len(rest) - 1}, one less than the training rows"
            )
        return rest[validation_rows:], rest[:validation_rows], np.flatnonzero(test)
    rows = rng.permutation(len(strata))
    rows = rows[np.lexsort((data.labels.numpy()[rows], strata[rows]))]  # like beside like, otherwise in random order
    place = np.arange(len(rows)) % 20  # of every 20 neighbours 14 are for training, 3 for validation, 3 for test
    validation, test = np.isin(place, (3, 10, 16)), np.isin(place, (6, 13, 19))
    return rows[~(validation | test)], rows[validation], rows[test]


def _deal(pool: Ints, strata: Ints, counts: Ints, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Shuffles the pool and hands every client, in order, its `counts` [N, S] consecutive rows of every stratum."""
    rows = rng.permutation(pool)
    rows = rows[np.argsort(strata[rows], kind="stable")]
    clients = len(counts)
    nobody = np.bincount(strata[pool], minlength=counts.shape[1]) - counts.sum(axis=0)
    owner = np.repeat(np.tile(np.arange(clients + 1), counts.shape[1]), np.vstack([counts, nobody]).T.ravel())
    held = rows[np.argsort(owner, kind="stable")]
    return tuple(torch.from_numpy(np.sort(own)) for own in np.split(held, counts.sum(axis=1).cumsum())[:clients])


def apportion(shares: Floats, rows: Ints, least: int) -> Ints:
    """`shares * rows` [N, S] in whole rows: down or up, so that columns keep their sums and clients nearly theirs.

    A client whose total is below `least` is then filled up, in its own label shares, from the clients that hold most,
    as far as the rows go round.
    """
    exact = shares * rows
    counts = np.floor(exact + 1e-9).astype(np.int64)
    fraction = exact - counts
    owed = fraction.sum(axis=1)
    for stratum in range(len(rows)):  # the rows that rounding down left over, to those whom it cost most so far
        over = round(fraction[:, stratum].sum())
        ranking = np.argsort(np.where(fraction[:, stratum] > 1e-9, -owed, np.inf), kind="stable")[:over]
        counts[ranking, stratum] += 1
        owed[ranking] -= 1
    for poor in np.flatnonzero(counts.sum(axis=1) < least):
        target = exact[poor] * (least / exact[poor].sum()) if exact[poor].any() else exact[poor]
        for _ in range(least - counts[poor].sum()):
            give = np.where(counts.sum(axis=1, keepdims=True) > least, counts, 0)
            wish = np.where((shares[poor] > 0) & give.any(axis=0), target - counts[poor], -np.inf)
            stratum = int(wish.argmax())
            if wish[stratum] == -np.inf:
                break
            counts[give[:, stratum].argmax(), stratum] -= 1
            counts[poor, stratum] += 1
    return counts


def _legacy(seed: int) -> np.random.RandomState:
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed = {seed} cannot be used with seeding=legacy, which needs 0 .. {2**32 - 1}")
    return np.random.RandomState(seed)


# ---------------------------------------------------------------- looking at it


def table(partition: Partition, data: Data) -> pd.DataFrame:
    """One row a client: how many training, validation and test rows, and how many training rows of every class."""
    import pandas as pd

    sizes = {name: [len(rows) for rows in getattr(partition, name)] for name in SPLITS}
    counts = partition.histogram(data.labels, data.classes).numpy()
    frame = pd.DataFrame(sizes | {f"class {c}": counts[:, c] for c in range(data.classes)})
    return frame.rename_axis("client")


def summary(partition: Partition, data: Data) -> str:
    """A few lines to print: the share of the data that is used; min, mean and max over clients and over classes."""
    counts = partition.histogram(data.labels, data.classes).numpy()
    lines = {f"{name} rows of a client": [len(rows) for rows in getattr(partition, name)] for name in SPLITS}
    lines |= {"classes of a client": (counts > 0).sum(axis=1), "clients of a class": (counts > 0).sum(axis=0)}
    lines |= {"train rows of a class": counts.sum(axis=0)}
    head = f"{partition.clients} clients hold {partition.used:.1%} of {partition.samples} samples"
    body = [f"{name:<25} {min(v):>7} {np.mean(v):>9.1f} {max(v):>7}" for name, v in lines.items()]
    columns = f"{'':<25} {'min':>7} {'mean':>9} {'max':>7}"
    return "\n".join([head, columns, *body, f"checksum {partition.checksum()}"])


def picture(partition: Partition, data: Data, path: Path) -> None:
    """Saves a picture of who holds what: clients across, classes upwards, the number of training rows as colour.

    The file's suffix names the format (.png, .pdf, .svg). Raises BadInput for a suffix that matplotlib cannot write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = partition.histogram(data.labels, data.classes).numpy().T
    width = min(10.0, max(4.5, 1.5 + 0.3 * partition.clients))
    height = min(6.0, max(3.0, 1.0 + 0.3 * data.classes))
    figure = Figure(figsize=(width + 1, height), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise BadInput(f"{path} cannot be written: its suffix must be one of {', '.join(sorted(formats))}")
    axes = figure.add_subplot()
    shown = np.ma.masked_equal(counts, 0)
    edges = [np.arange(size + 1) - 0.5 for size in reversed(counts.shape)]
    few = max(counts.shape) <= 50
    mesh = axes.pcolormesh(*edges, shown, cmap="YlGnBu", vmin=0, edgecolors="white" if few else "none", linewidth=0.8)
    for axis, name in ((axes.xaxis, "client"), (axes.yaxis, "class")):
        axis.set_major_locator(MaxNLocator(nbins=12, integer=True, steps=[1, 2, 5, 10]))
        axis.set_label_text(name)
    axes.set_title(f"{partition.clients} clients hold {partition.used:.1%} of the samples", fontsize="medium")
    figure.colorbar(mesh, ax=axes, label="training rows (white: none)", pad=0.02)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
