"""The checks of a data set: the template passes, and each check catches a data set that is wrong in its way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from fedbench import plugins
from fedbench.check import kinds
from fedbench.check.datasets import KIT, Bench
from fedbench.dataset import Data, Dataset
from fedbench.plugins import Plugin
from fedbench.plugins.new import new


def samples() -> Data:
    """400 images of 4 classes with noise, of two writers."""
    rng = torch.Generator().manual_seed(1)
    return Data(
        images=torch.randint(256, (400, 1, 8, 8), generator=rng, dtype=torch.uint8),
        labels=torch.arange(400) % 4,
        classes=4,
        mean=(0.5,),
        std=(0.29,),
        test=torch.arange(400) >= 300,
        group=torch.arange(400) // 4 % 2,
        group_names=("a", "b"),
    )


class Right(Dataset):
    title, source, network = "Right", "made up", "mlp-digits"
    cached = False
    validation_rows = 100

    def load(self, root: Path) -> Data:
        return samples()


WRONG: list[tuple[str, str, type[Dataset]]] = []  # broken sentence, part of what is seen, data set


def wrong(sentence: str, seen: str) -> Callable[[type[Dataset]], type[Dataset]]:
    def register(cls: type[Dataset]) -> type[Dataset]:
        WRONG.append((sentence, seen, cls))
        return cls

    return register


@wrong("the samples can be loaded", "returns a NoneType")
class Nothing(Right):
    def load(self, root: Path) -> Data:
        return None  # type: ignore[return-value]


@wrong("the samples can be loaded", "nothing to tell apart")
class OneClass(Right):
    def load(self, root: Path) -> Data:
        return replace(samples(), labels=torch.zeros(400, dtype=torch.int64), classes=1)


@wrong("title and source are given", "source is ' '")
class NoSource(Right):
    source = " "


@wrong("every class has samples", "no samples of the classes 4")
class EmptyClass(Right):
    def load(self, root: Path) -> Data:
        return replace(samples(), classes=5)


@wrong("every class has samples", "no samples of the classes 3")
class OnlyInTheTest(Right):
    """The last class is one of the test rows only: nobody can learn it."""

    def load(self, root: Path) -> Data:
        data = samples()
        return replace(data, test=(data.labels == 3) | (torch.arange(400) >= 300))


@wrong("the images use the range of uint8", "pixels 0 .. 1: were images of 0 .. 1 made whole numbers")
class Truncated(Right):
    """Floats of 0 .. 1, turned into bytes without a factor of 255."""

    def load(self, root: Path) -> Data:
        data = samples()
        return replace(data, images=(data.images / 255).round().to(torch.uint8))


@wrong("the images use the range of uint8", "all images are the same")
class SameImage(Right):
    def load(self, root: Path) -> Data:
        data = samples()
        return replace(data, images=data.images[:1].expand_as(data.images))


@wrong("mean and std are those of the images", "has mean 0.50")
class InBytes(Right):
    """Mean and deviation of 0 .. 255."""

    def load(self, root: Path) -> Data:
        return replace(samples(), mean=(127.5,), std=(73.9,))


@wrong("test rows are some of the rows", "400 of 400 rows are for testing")
class AllTest(Right):
    def load(self, root: Path) -> Data:
        return replace(samples(), test=torch.ones(400, dtype=torch.bool))


@wrong("test rows are some of the rows", "validation_rows = 300 of 300 training rows")
class AllValidation(Right):
    validation_rows = 300


@wrong("groups are numbered from 0 and none is empty", "group 2 has no samples")
class EmptyGroup(Right):
    def load(self, root: Path) -> Data:
        return replace(samples(), group_names=("a", "b", "c"))


@wrong("groups are numbered from 0 and none is empty", "asks for a client a group")
class NoGroups(Right):
    partition = "group"

    def load(self, root: Path) -> Data:
        return replace(samples(), group=None, group_names=())


@wrong("same bits twice", "other images the second time")
class Augmented(Right):
    """Noise from the global generator."""

    def load(self, root: Path) -> Data:
        return replace(samples(), images=torch.randint(256, (400, 1, 8, 8), dtype=torch.uint8))


@wrong("what is called cached is read from its file", "write `cached = False`")
class NotCached(Right):
    cached = True


@wrong("its own network takes the images", "too small for the network lenet")
class TooSmall(Right):
    network = "lenet"


@wrong("its own network takes the images", "too small for the network lenet")
class SomeTooSmall(Right):
    """Two networks, of which one takes the images."""

    network = "mlp-digits*5,lenet*5"


@wrong("its own partition can be made", "400 samples")
class TooManyClients(Right):
    clients = 500


def bench(cls: type[Dataset]) -> Bench:
    return Bench(Plugin("wrong", cls, "wrong", "0"), Path())


@pytest.mark.parametrize(("sentence", "seen", "cls"), WRONG, ids=[cls.__name__ for _, _, cls in WRONG])
def test_a_wrong_data_set_is_caught_by_the_check_meant_for_it(sentence: str, seen: str, cls: type[Dataset]) -> None:
    result = KIT.run(bench(cls), sentence)
    assert result.status == "fails"
    assert seen in result.seen


# in processes of their own, which find the data set by file
IN_A_PROCESS = ["loading does without torch's compiler", "a fresh process loads the same"]


def test_every_check_bites() -> None:
    assert {sentence for sentence, _, _ in WRONG} | set(IN_A_PROCESS) == set(KIT.sentences)


def test_a_data_set_that_is_right_passes() -> None:
    results = [KIT.run(bench(Right), sentence) for sentence in KIT.sentences if sentence not in IN_A_PROCESS]
    assert [str(result) for result in results if result.status != "holds"] == []


def test_nothing_more_is_said_of_a_data_set_that_cannot_be_loaded() -> None:
    assert [result.status for result in KIT.each(bench(Nothing))] == ["fails"]


def _file(folder: Path, edit: Callable[[str], str] = str) -> Plugin:
    file, _ = new("dataset", "mine", folder)
    file.write_text(edit(file.read_text()))
    return plugins.find_dataset(str(file))


@pytest.mark.slow
def test_a_new_data_set_passes_as_it_stands(tmp_path: Path) -> None:
    results = kinds.each_check("dataset", _file(tmp_path).where)
    assert [str(result) for result in results if result.status != "holds"] == []


@pytest.mark.slow
def test_a_data_set_that_imports_the_compiler_is_caught(tmp_path: Path) -> None:
    plugin = _file(tmp_path, lambda text: re.sub("(?m)^import torch$", "import torch\nimport torch._dynamo", text))
    result = KIT.run(Bench(plugin, tmp_path), IN_A_PROCESS[0])
    assert result.status == "fails"
    assert "torch._dynamo" in result.seen


def test_an_order_that_is_that_of_a_set_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a data set prints is no answer, and a module of the current folder is not the one that is meant."""
    (tmp_path / "torch.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    words = "['one', 'three', 'five', 'fifteen', 'eighteen']"
    for name, order, status in (("lists", words, "holds"), ("sets", f"{{*{words}}}", "fails")):
        line = f"        print('loading', end='')\n        images[0, 0, 0, :5] = [len(word) for word in {order}]\n"
        edit = partial(re.sub, "(?m)^        return Data", f"{line}        return Data")
        plugin = _file(tmp_path / name, edit)
        result = KIT.run(Bench(plugin, tmp_path), IN_A_PROCESS[1])
        assert (result.status, "order that of a set" in result.seen) == (status, status == "fails"), str(result)
