"""The checks of a partition: the built-in ones pass, and each check catches one that is wrong in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import pytest
import torch
from pydantic import Field

from fedbench import plugins
from fedbench.check import kinds, partitions
from fedbench.check.partitions import KIT, Bench
from fedbench.dataset import Data
from fedbench.partition import Floats, Ints, Kind
from fedbench.partitions import IID, Partition, split
from fedbench.plugins import Plugin
from fedbench.plugins.new import new

WRONG: list[tuple[str, str, type[Kind]]] = []  # broken sentence, part of what is seen, kind


def wrong(sentence: str, seen: str) -> Callable[[type[Kind]], type[Kind]]:
    """Make the decorated class a kind of partition that breaks `sentence`."""

    def register(cls: type[Kind]) -> type[Kind]:
        made: Any = pydantic.dataclasses.dataclass(frozen=True)(cls)
        made.name = "wrong"
        WRONG.append((sentence, seen, made))
        return made

    return register


@wrong("rows can be dealt", "columns that sum to 1 at most")
class TooMuch(IID):
    """A matrix of rows that sum to 1, instead of columns."""

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        return np.full((clients, data.classes), 1 / data.classes)


@wrong("settings have a meaning", "skew has no description")
class NoMeaning(IID):
    """Everyone the same."""

    skew: float = 1.0


@wrong("the text form is read back", "'wrong:skew=1' from 'wrong:skew=2'")
class Rounded(IID):
    """Everyone the same."""

    skew: Annotated[float, Field(description="how much")] = 1.5

    def __str__(self) -> str:
        return f"wrong:skew={round(self.skew)}" if self.skew == 1.5 else "wrong:skew=1"


@wrong("it is keyed by the seed", "other rows from the same seed")
class GlobalGenerator(IID):
    """Draws from numpy's global generator."""

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        weight = np.random.random((clients, data.classes)) + 1  # noqa: NPY002
        return np.asarray(weight / weight.sum(axis=0), dtype=np.float64)


@wrong("rows can be dealt", "a row for each client")
class TenOnly(IID):
    """Right for the number of clients that its author had."""

    def shares(self, data: Data, clients: int, seed: int) -> Floats:
        return np.full((10, data.classes), 1 / 10)


@wrong("the data is left alone", "test were modified")
class Leaks(IID):
    """Makes training rows of all test rows but one."""

    def strata(self, data: Data) -> Ints:
        if data.test is not None:
            data.test[1:600] = True
        return data.labels.numpy()


@wrong("splits are apart", "a row is tested on that is no test row")
class AlsoLeaks(Leaks):
    """The same: the rows that were for testing are known from before."""


@wrong("the data is left alone", "labels were modified")
class Sorts(IID):
    """Sorts the labels in place."""

    def strata(self, data: Data) -> Ints:
        labels = data.labels.numpy()
        labels.sort()
        return labels


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Kind]], Bench]:
    """A bench for a class that no text finds."""

    def made(cls: type[Kind]) -> Bench:
        plugin = Plugin("wrong", cls, "wrong", "0")
        monkeypatch.setattr("fedbench.plugins.texts.find_partition", lambda text: plugin)
        return Bench(plugin)

    return made


@pytest.mark.parametrize(("sentence", "seen", "cls"), WRONG, ids=[cls.__name__ for _, _, cls in WRONG])
def test_a_wrong_partition_is_caught_by_the_check_meant_for_it(
    sentence: str, seen: str, cls: type[Kind], found: Callable[[type[Kind]], Bench]
) -> None:
    result = KIT.run(found(cls), sentence)
    assert result.status == "fails"
    assert seen in result.seen


@pytest.mark.parametrize("name", plugins.names("partition"))
def test_built_in_partitions_pass(name: str) -> None:
    results = kinds.each_check("partition", name)
    assert [str(result) for result in results if result.status != "holds"] == []


SETS = '''
"""Shares in the order of a set."""
from typing import Annotated, Any
import numpy as np
import pydantic
from pydantic import Field
from fedbench.partition import Kind

@pydantic.dataclasses.dataclass(frozen=True)
class Sets(Kind):
    """More for some."""
    most: Annotated[int, Field(ge=2, description="how much more")]
    fixed: Annotated[int | None, Field(description="how much more, for all")] = None

    def shares(self, data: Any, clients: int, seed: int) -> Any:
        words = [str(i) for i in range(clients)]
        weights = [self.fixed or self.most ** (int(word) % 3) for word in WORDS]
        return np.tile(np.array(weights)[:, None] / sum(weights), (1, data.classes))
'''


@pytest.mark.parametrize(("words", "status"), [("words", "holds"), ("{*words}", "fails")])
def test_an_order_that_is_that_of_a_set_is_caught(words: str, status: str, tmp_path: Path) -> None:
    """Of a partition with a setting that has no default: what is tried stands behind the file."""
    file = tmp_path / "sets.py"
    file.write_text(SETS.replace("in WORDS", f"in {words}"))
    (lacking,) = kinds.each_check("partition", str(file))
    assert "lacks most, which has no default: write" in lacking.seen
    text = f"{file}:most=3"
    assert kinds.kinds_of(text) == ["partition"]
    results = {result.sentence: result for result in kinds.each_check("partition", text)}
    assert [name for name, result in results.items() if result.status == "fails"] == (
        [] if status == "holds" else ["a fresh process deals the same"]
    )
    kinds.Case("partition", text, "rows can be dealt")()
    assert "fixed=None" in str(plugins.parse_partition(text, partitions.Small))


def test_a_new_partition_passes_as_it_stands(tmp_path: Path) -> None:
    file, _ = new("partition", "mine", tmp_path)
    results = kinds.each_check("partition", str(file))
    assert [str(result) for result in results if result.status != "holds"] == []


# What dealing itself decides no kind can break, whose shares are looked at before: such a check is tried on dealing
# that is wrong.
DEALT: list[tuple[str, str, Callable[[Partition, Data], dict[str, Any]]]] = [
    ("rows are disjoint", "a train row is there twice", lambda p, d: {"train": (p.train[0], *p.train[:-1])}),
    ("splits are apart", "a row is in two splits", lambda p, d: {"validation": p.train}),
    (
        "splits are apart",
        "a row is tested on that is no test row",
        lambda p, d: {} if d.test is None else {"test": p.train, "train": p.test},
    ),
    (
        "every client holds rows",
        "client 1 has 0 test rows",
        lambda p, d: {"test": (p.test[0], p.test[0][:0], *p.test[2:])},
    ),
]


@pytest.mark.parametrize(("sentence", "seen", "spoil"), DEALT, ids=[seen for _, seen, _ in DEALT])
def test_dealing_that_is_wrong_is_caught(
    sentence: str, seen: str, spoil: Callable[[Partition, Data], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deal = split

    def spoilt(data: Data, *arguments: Any) -> Partition:
        made = deal(data, *arguments)
        parts = {name: getattr(made, name) for name in ("train", "validation", "test")}
        return Partition(**{**parts, **spoil(made, data)}, samples=made.samples)

    monkeypatch.setattr(partitions, "split", spoilt)
    result = KIT.run(Bench(plugins.find_partition("iid")), sentence)
    assert result.status == "fails"
    assert seen in result.seen


def test_every_check_bites() -> None:
    tried = {sentence for sentence, _, _ in [*WRONG, *DEALT]}
    assert tried | {"a fresh process deals the same"} == set(KIT.sentences)


def test_the_synthetic_data_have_classes_of_unequal_size() -> None:
    counts = torch.bincount(partitions.synthetic(True).labels)
    assert counts.max() > 2 * counts.min()
