"""Data sets: what they hold, and what they say of a file that is missing, damaged or foreign. Nothing is downloaded."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedbench.dataset import Cache, Data, Form, data_root
from fedbench.datasets.cifar10 import CIFAR10
from fedbench.datasets.cifar100 import CIFAR100
from fedbench.datasets.digits import Digits
from fedbench.datasets.fashion_mnist import FashionMNIST
from fedbench.datasets.mnist import MNIST
from fedbench.datasets.omniglot import Omniglot, shrink
from fedbench.errors import BadInput
from fedbench.partitions import split
from fedbench.plugins import parse_partition

USUAL = {  # class: file name, shape of one stored image, classes
    CIFAR10: ("cifar10", (32, 32, 3), 10),
    CIFAR100: ("cifar100", (32, 32, 3), 100),
    MNIST: ("mnist", (28, 28), 10),
    FashionMNIST: ("fashion-mnist", (28, 28), 10),
}
ALL = (*USUAL, Digits, Omniglot)


def usual_arrays(shape: tuple[int, ...], classes: int, train: int = 70, test: int = 30) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": rng.integers(0, classes, train, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": rng.integers(0, classes, test),
    }


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision without internet."""
    import torchvision.datasets

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("Network is unreachable")

    for name in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "Omniglot"):
        monkeypatch.setattr(torchvision.datasets, name, refuse)


# ---------------------------------------------------------------- what they hold


@pytest.mark.parametrize("dataset", USUAL)
def test_usual_sets_are_views_with_test_rows_behind_training_rows(dataset: Any, tmp_path: Path) -> None:
    name, shape, classes = USUAL[dataset]
    arrays = usual_arrays(shape, classes)
    np.savez(tmp_path / f"{name}.npz", **arrays)
    data = dataset().load(tmp_path)
    stored = np.concatenate([arrays["x_train"], arrays["x_test"]])
    wanted = stored.transpose(0, 3, 1, 2) if len(shape) == 3 else stored[:, None]
    assert data.images.dtype == torch.uint8
    assert np.array_equal(data.images.numpy(), wanted)
    assert data.images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(data.labels.numpy(), np.concatenate([arrays["y_train"], arrays["y_test"]]))
    assert data.test is not None
    assert data.test.tolist() == [False] * 70 + [True] * 30
    assert data.classes == classes
    assert len(data.mean) == len(data.std) == wanted.shape[1]


def test_digits_need_no_file(tmp_path: Path) -> None:
    data = Digits().load(tmp_path / "nowhere")
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.test is None
    assert int(data.images.max()) == 255  # ink 16 of 16
    scaled = data.images.double() / 255
    assert float(scaled.mean()) == pytest.approx(data.mean[0], abs=1e-4)
    assert float(scaled.std()) == pytest.approx(data.std[0], abs=1e-4)


@pytest.mark.parametrize("dataset", ALL)
def test_every_set_says_what_it_is_and_has_a_partition_that_can_be_read(dataset: Any) -> None:
    assert dataset.title
    assert dataset.source
    assert dataset.network
    assert dataset.__doc__
    assert parse_partition(None, dataset).name == dataset.partition


def test_digits_by_default_give_ten_clients_of_two_classes() -> None:
    """70 / 15 / 15 % of the samples are for training / validation / test, within one row per block of 20."""
    data = Digits().load(Path())
    for text in ("classes:spare=0", "iid"):
        partition = split(
            data, parse_partition(text, Digits), Digits().default_clients(data), 42, Digits.validation_rows
        )
        assert partition.clients == 10
        parts = (partition.train, partition.validation, partition.test)
        sizes = [sum(len(rows) for rows in part) / partition.samples for part in parts]
        assert sizes == pytest.approx([0.7, 0.15, 0.15], abs=0.02)
    assert partition.used == 1


# ---------------------------------------------------------------- omniglot


def omniglot_arrays() -> dict[str, Any]:
    """Two alphabets, of 2 and of 3 characters, 20 drawings each; every drawing has its label's number of ink rows."""
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    images = np.full((100, 105, 105), 255, np.uint8)
    for label in range(5):
        images[20 * label : 20 * (label + 1), : 15 * label] = 0  # 15 large rows are 4 small ones
    alphabet, character = (np.repeat(np.array(pairs, np.uint8)[:, k], 20) for k in (0, 1))
    drawer = np.tile(np.arange(20, dtype=np.uint8), 5)
    names = np.array(["Alpha", "Beta"])
    return {"images": images, "alphabet": alphabet, "character": character, "drawer": drawer, "alphabet_names": names}


def test_omniglot_has_one_label_a_character_and_one_client_an_alphabet(tmp_path: Path) -> None:
    np.savez(tmp_path / "omniglot.npz", **omniglot_arrays())
    data = Omniglot().load(tmp_path)
    assert data.images.shape == (100, 1, 28, 28)
    assert data.labels.tolist() == [label for label in range(5) for _ in range(20)]
    assert data.classes == 5
    assert data.group_names == ("Alpha", "Beta")
    for label in range(5):
        image = data.images[20 * label, 0]
        assert bool((image[: 4 * label] == 255).all())  # ink is high
        assert bool((image[4 * label :] == 0).all())
    assert Omniglot().default_clients(data) == 2
    partition = split(data, parse_partition(None, Omniglot), 2, 42, Omniglot.validation_rows)
    assert partition.histogram(data.labels, 5).tolist() == [[14, 14, 0, 0, 0], [0, 0, 14, 14, 14]]
    assert [len(rows) for rows in partition.validation] == [len(rows) for rows in partition.test] == [6, 9]


def test_omniglot_drawings_shrink_by_areas() -> None:
    """A small pixel is the mean of 3.75 x 3.75 large ones, so mean ink is kept and one dot of ink spreads as area.

    Large pixel (3, 3) spans [3, 4]; the border between small pixels 0 and 1 is at 3.75: it lies to 3/4 in the first
    and to 1/4 in the second. Its ink of 255 gives the four small pixels 255 * (3/4, 1/4) x (3/4, 1/4) / 3.75**2.
    """
    drawing = np.full((1, 105, 105), 255, np.uint8)
    drawing[0, 3, 3] = 0
    share = np.array([0.75, 0.25])
    assert np.array_equal(shrink(drawing)[0, :2, :2], np.rint(255 * np.outer(share, share) / 3.75**2))
    noise = np.random.default_rng(0).choice([0, 255], (3, 105, 105)).astype(np.uint8)
    exact = np.kron(255.0 - noise, np.ones((4, 4))).reshape(3, 28, 15, 28, 15).mean(axis=(2, 4))
    assert np.array_equal(shrink(noise), np.rint(exact))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"character": np.zeros(99, np.uint8)}, "differ in length"),
        ({"alphabet": np.full(100, 2)}, r"alphabet must be 0 \.\. 1"),
        (
            {"images": np.zeros((100, 28, 28), np.uint8)},
            r"images is uint8 \[100, 28, 28\] and must be uint8 \[\*, 105, 105\]",
        ),
    ],
)
def test_omniglot_says_what_is_wrong_with_its_file(change: Any, words: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "omniglot.npz", **(omniglot_arrays() | change))
    with pytest.raises(BadInput, match=words):
        Omniglot().load(tmp_path)


def test_omniglot_download_reads_the_folders_of_alphabets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torchvision unpacks images_background/ALPHABET/characterNN/NNNN_DD.png and images_evaluation likewise."""
    import torchvision.datasets
    from PIL import Image

    def unpack(root: Path, background: bool, download: bool) -> None:
        folder = Path(root) / "omniglot-py" / ("images_background" if background else "images_evaluation")
        for character in (1, 2):
            place = folder / ("Zulu" if background else "Atlantean") / f"character{character:02}"
            place.mkdir(parents=True)
            for drawer in (1, 2, 3):
                Image.new("1", (105, 105), color=1).save(place / f"{character:04}_{drawer:02}.png")

    monkeypatch.setattr(torchvision.datasets, "Omniglot", unpack)
    data = Omniglot().load(tmp_path)
    assert data.group_names == ("Atlantean", "Zulu")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert int(data.images.max()) == 0  # paper only
    with np.load(tmp_path / "omniglot.npz") as archive:
        assert archive["drawer"].tolist() == [0, 1, 2] * 4
        assert archive["images"].shape == (12, 105, 105)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["omniglot.npz"]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("dataset", [*USUAL, Omniglot])
def test_a_missing_file_without_network_says_what_to_put_where(dataset: Any, tmp_path: Path, no_network: Any) -> None:
    name = "omniglot" if dataset is Omniglot else USUAL[dataset][0]
    with pytest.raises(BadInput) as caught:
        dataset().load(tmp_path / "data")
    message = str(caught.value)
    assert str(tmp_path / "data" / f"{name}.npz") in message
    assert "OSError: Network is unreachable" in message
    assert ("images uint8 [*, 105, 105]" if dataset is Omniglot else "x_train uint8 [*, ") in message
    assert "--data-root or FEDBENCH_DATA" in message
    assert isinstance(caught.value.__cause__, OSError)
    assert not [path for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"]  # nothing half-made is left


@pytest.mark.parametrize("dataset", USUAL)
def test_a_download_makes_the_file_once_and_it_is_read_from_there(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    name, shape, classes = USUAL[dataset]
    arrays, calls = usual_arrays(shape, classes), []

    def fetch(root: Path, train: bool, download: bool) -> SimpleNamespace:
        assert download
        calls.append(train)
        (Path(root) / "raw").write_text("what a download leaves behind")
        split = "train" if train else "test"
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        # torchvision holds arrays and lists for CIFAR, tensors for MNIST
        data, targets = (images, labels.tolist()) if len(shape) == 3 else map(torch.from_numpy, (images, labels))
        return SimpleNamespace(data=data, targets=targets)

    monkeypatch.setattr(torchvision.datasets, dataset.__name__, fetch)
    first, second = dataset().load(tmp_path), dataset().load(tmp_path)
    assert sorted(calls) == [False, True]
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [f"{name}.npz"]


def test_two_at_once_download_once(tmp_path: Path) -> None:
    calls = []

    def fetch(scratch: Path) -> dict[str, np.ndarray]:
        calls.append(scratch)
        time.sleep(0.2)
        return {"a": np.arange(3)}

    def read(_: int) -> list[int]:
        return Cache(tmp_path, "toy", {"a": Form("integer", (None,))}, fetch).read("a").tolist()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read, range(3))) == [[0, 1, 2]] * 3
    assert len(calls) == 1


def whole(path: Path) -> bytes:
    np.savez(path, **usual_arrays((28, 28), 10))
    return path.read_bytes()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b[:40], lambda b: b"", lambda b: b"<html>404</html>", flipped],
    ids=["half", "head only", "empty", "a web page", "one byte flipped"],
)
def test_a_damaged_file_is_named_with_the_remedy(damage: Any, tmp_path: Path, no_network: Any) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(damage(whole(path)))
    with pytest.raises(
        BadInput, match=r"mnist\.npz cannot be used: it is damaged .*Delete it.*x_train uint8 \[\*, 28, 28\]"
    ) as caught:
        MNIST().load(tmp_path)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_test": None}, "it has no array called 'x_test'"),
        (
            {"x_train": np.zeros((70, 32, 32, 3), np.uint8)},
            r"x_train is uint8 \[70, 32, 32, 3\] and must be uint8 \[\*, 28, 28\]",
        ),
        ({"x_train": np.zeros((70, 28, 28))}, r"x_train is float64 \[70, 28, 28\] and must be uint8"),
        ({"y_train": np.zeros((70, 1), np.uint8)}, r"y_train is uint8 \[70, 1\] and must be integer \[\*\]"),
        ({"y_train": np.zeros(69, np.uint8)}, "x_train has 70 images and y_train 69 labels"),
        ({"y_test": np.full(30, 10)}, r"its labels must be 0 \.\. 9"),
        ({"y_train": np.array([None] * 70)}, "it is damaged or not an npz archive .*Object arrays cannot be loaded"),
    ],
)
def test_a_foreign_file_is_named_with_what_is_wrong(change: Any, words: Any, tmp_path: Path, no_network: Any) -> None:
    arrays = usual_arrays((28, 28), 10) | change
    np.savez(tmp_path / "mnist.npz", **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(BadInput, match=rf"mnist\.npz cannot be used: {words}.*Delete it"):
        MNIST().load(tmp_path)


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    with (tmp_path / "mnist.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BadInput, match="it is a single array and not an npz archive"):
        MNIST().load(tmp_path)


def test_data_root_is_the_option_else_the_environment_else_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path))
    assert data_root(Path("here")) == Path("here")
    assert data_root(None) == tmp_path
    monkeypatch.setenv("FEDBENCH_DATA", "~/sets")
    assert data_root() == Path.home() / "sets"
    monkeypatch.delenv("FEDBENCH_DATA")
    assert data_root().parts[-2:] == ("fedbench", "data")


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": torch.zeros(4, 1, 2, 2)}, r"images must be uint8 \[M, c, h, w\], not torch.float32 \[4, 1, 2, 2\]"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be torch.int64 \[4\].*\[3\]"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, r"labels must be 0 \.\. 2, not 0 \.\. 3"),
        ({"test": torch.zeros(4)}, r"test must be torch.bool \[4\]"),
        ({"group": torch.tensor([0, 1, 2, 2]), "group_names": ("a", "b")}, r"group must be 0 \.\. 1, not 0 \.\. 2"),
        ({"mean": (0.5, 0.5)}, "one value for each of 1 channels"),
    ],
)
def test_data_whose_parts_disagree_says_which(change: Any, words: Any) -> None:
    good: dict[str, Any] = {
        "images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 2, 0]),
        "classes": 3,
        "mean": (0.0,),
        "std": (1.0,),
    }
    Data(**good)
    with pytest.raises(BadInput, match=words):
        Data(**(good | change))
