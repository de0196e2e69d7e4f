"""The contract of a data set: samples in memory, once a process, and what a partition may know of them.

A data set that no library ships is cached as one file, `ROOT/NAME.npz`, made by a download the first time, and put
there by hand on a machine without internet. `Cache` reads it; `train_and_test` is all that a usual set of images needs.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from fedbench.errors import BadInput

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """All samples of one data set. M samples, channels c, height h, width w. Raises BadInput where parts disagree."""

    images: Tensor  # [M, c, h, w] uint8
    labels: Tensor  # [M] int64, 0 .. classes - 1
    classes: int
    mean: tuple[float, ...]  # per channel, of images scaled to [0, 1]
    std: tuple[float, ...]
    test: Tensor | None = None  # [M] bool, the data set's own test rows; None where it has no test split of its own
    group: Tensor | None = None  # [M] int64, the natural group (writer, alphabet, ...) of every sample, 0 .. groups - 1
    group_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("images", "labels", "test", "group"):
            given: object = getattr(self, name)
            if not (isinstance(given, Tensor) or (given is None and name in ("test", "group"))):
                how = f"torch.from_numpy({name})" if isinstance(given, np.ndarray) else f"torch.as_tensor({name})"
                raise BadInput(f"{name} must be a torch tensor, not a {type(given).__name__}: write {how}")
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise BadInput(f"images must be uint8 [M, c, h, w], not {self.images.dtype} {list(self.images.shape)}")
        if isinstance(self.classes, bool) or not isinstance(self.classes, (int, np.integer)) or self.classes < 1:
            raise BadInput(f"classes must be a whole number of at least 1, not {self.classes!r}")
        rows, channels = self.images.shape[:2]
        for name, dtype in (("labels", torch.int64), ("test", torch.bool), ("group", torch.int64)):
            part: Tensor | None = getattr(self, name)
            if part is not None and (part.dtype != dtype or part.shape != (rows,)):
                raise BadInput(f"{name} must be {dtype} [{rows}], one per image, not {part.dtype} {list(part.shape)}")
        for name, part, count in (("labels", self.labels, self.classes), ("group", self.group, self.groups)):
            if part is not None and rows and not 0 <= int(part.min()) <= int(part.max()) < count:
                raise BadInput(f"{name} must be 0 .. {count - 1}, not {int(part.min())} .. {int(part.max())}")
        for name in ("mean", "std"):
            values: object = getattr(self, name)
            example = f"({', '.join(['0.5'] * channels)},)" if channels < 4 else "(0.5, ...)"
            try:
                numbers = [float(value) for value in values]  # type: ignore[attr-defined]
            except (TypeError, ValueError):
                raise BadInput(
                    f"{name} must be a number for each channel, e.g. {example}, not {values!r:.100}"
                ) from None
            if not all(map(math.isfinite, numbers)) or (name == "std" and not all(number > 0 for number in numbers)):
                what = "positive and finite" if name == "std" else "finite"
                raise BadInput(f"{name} must be {what}, e.g. {example}, not {values}")
            object.__setattr__(self, name, tuple(numbers))  # a list, an array or a tensor as well
        if not len(self.mean) == len(self.std) == channels:
            raise BadInput(f"mean {self.mean} and std {self.std} must have one value for each of {channels} channels")

    @property
    def groups(self) -> int:
        """The number of natural groups; 0 where there are none."""
        if self.group is None or not len(self.group):
            return 0
        return len(self.group_names) or int(self.group.max()) + 1


class Dataset(ABC):
    """Where the samples of one data set come from. A data set file defines one subclass."""

    title: ClassVar[str]
    source: ClassVar[str]  # paper or home page
    network: ClassVar[str]  # the name of the network used unless the user asks for another
    clients: ClassVar[int | None] = 10  # how many unless the user asks for another number; None: one for each group
    partition: ClassVar[str] = "classes"  # how samples are spread unless the user asks for another way
    classes_per_client: ClassVar[int] = 2  # of the `classes` partition
    cached: ClassVar[bool] = True  # whether `load` reads root/NAME.npz; False: the samples are always there
    validation_rows: ClassVar[int] = 10_000  # taken from the training rows; unused where `Data.test` is None

    @abstractmethod
    def load(self, root: Path) -> Data:
        """The samples, read from `root/NAME.npz`, which is made by a download the first time.

        Raises BadInput, saying which file to put where, when there is no file and no network, and when the file
        is damaged.
        """

    def default_clients(self, data: Data) -> int:
        """How many clients there are unless the user asks for another number."""
        return data.groups if self.clients is None else self.clients


def data_root(option: Path | None = None) -> Path:
    """The folder of cached data sets: `option`, else the environment's FEDBENCH_DATA, else the user's cache folder.

    Raises BadInput where `~` stands for a home folder that there is not.
    """
    chosen = option or os.environ.get("FEDBENCH_DATA") or platformdirs.user_cache_path("fedbench") / "data"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        whose = "--data-root" if option else "the environment's FEDBENCH_DATA"
        raise BadInput(f"{whose} {str(chosen)!r} cannot be a path: {str(error).lower()}; choose another") from None


class Form(NamedTuple):
    """What an array of a cached file must look like; None stands for any length."""

    kind: Literal["uint8", "integer", "text"]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.kind} [{', '.join('*' if size is None else str(size) for size in self.shape)}]"

    def fits(self, array: npt.NDArray[Any]) -> bool:
        """Whether `array` has this kind and shape."""
        kinds = {"uint8": array.dtype == np.uint8, "integer": array.dtype.kind in "iu", "text": array.dtype.kind == "U"}
        sizes = zip(self.shape, array.shape, strict=False)
        return kinds[self.kind] and len(self.shape) == array.ndim and all(a in (None, b) for a, b in sizes)


@dataclass(frozen=True)
class Cache:
    """The arrays of `root/NAME.npz`, read one at a time, so that an array can be freed before the next one is read."""

    root: Path
    name: str
    forms: Mapping[str, Form]
    download: Callable[[Path], Arrays]  # the arrays, fetched with the help of an empty scratch folder

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / f"{self.name}.npz"

    def read(self, key: str) -> npt.NDArray[Any]:
        """One array, of the form that `forms` says.

        Raises BadInput when the file is missing and cannot be downloaded, and when it is damaged or another file.
        """
        if not self.path.exists():
            self._make()
        try:
            archive = np.load(self.path, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise self.unusable("it is a single array and not an npz archive")
            with archive:
                if key not in archive:
                    raise self.unusable(f"it has no array called {key!r}")
                array: npt.NDArray[Any] = archive[key]
        except BadInput:
            raise
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error, NotImplementedError) as error:
            raise self.unusable(f"it is damaged or not an npz archive ({type(error).__name__}: {error})") from error
        if not self.forms[key].fits(array):
            raise self.unusable(f"{key} is {array.dtype} {list(array.shape)} and must be {self.forms[key]}")
        return array

    def unusable(self, problem: str) -> BadInput:
        """The error for a file that is there and cannot be used."""
        return BadInput(
            f"{self.path} cannot be used: {problem}. Delete it and it is downloaded again, or put a good copy there: "
            f"{self._wanted()}"
        )

    def _wanted(self) -> str:
        return "an npz archive with the arrays " + ", ".join(f"{key} {form}" for key, form in self.forms.items())

    def _make(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{self.name}.lock"):
                if self.path.exists():  # made by another process in the meantime
                    return
                with tempfile.TemporaryDirectory(dir=self.root, prefix=f".{self.name}-") as scratch:
                    part = Path(scratch) / "complete.npz"
                    arrays: Mapping[str, Any] = self.download(Path(scratch))
                    np.savez(part, **arrays)
                    part.replace(self.path)
        except (OSError, RuntimeError, ImportError) as error:  # torchvision raises all three
            raise BadInput(
                f"{self.path} is missing and could not be downloaded ({type(error).__name__}: {error}). Without "
                f"internet, put it there by hand: {self._wanted()}; or name the folder that holds it with "
                "--data-root or FEDBENCH_DATA"
            ) from error


def train_and_test(
    root: Path,
    name: str,
    torchvision: str,
    shape: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: int,
) -> Data:
    """A usual image set: `root/NAME.npz` with x_train, y_train, x_test, y_test; test rows stand behind training rows.

    `shape` is that of one stored image, [h, w] or [h, w, c]; `Data.images` is a view on these images and not a copy.
    `torchvision` names the class of torchvision.datasets that is downloaded where there is no file.
    """

    def download(scratch: Path) -> Arrays:
        from torchvision import datasets

        arrays: Arrays = {}
        for split in ("train", "test"):
            part = getattr(datasets, torchvision)(scratch, train=split == "train", download=True)
            arrays |= {f"x_{split}": np.asarray(part.data), f"y_{split}": np.asarray(part.targets)}
        return arrays

    splits = ("train", "test")
    forms = {f"x_{split}": Form("uint8", (None, *shape)) for split in splits}
    cache = Cache(root, name, forms | {f"y_{split}": Form("integer", (None,)) for split in splits}, download)
    each = [cache.read(f"y_{split}") for split in splits]
    labels = np.concatenate(each).astype(np.int64)
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise cache.unusable(f"its labels must be 0 .. {classes - 1}")
    images = np.empty((len(labels), *shape), np.uint8)
    ends = np.cumsum([0, *map(len, each)])
    for split, start, stop in zip(splits, ends, ends[1:], strict=False):
        part = cache.read(f"x_{split}")
        if len(part) != stop - start:
            raise cache.unusable(f"x_{split} has {len(part)} images and y_{split} {stop - start} labels")
        images[start:stop] = part
        del part  # or the next array is read while this one is still held
    pixels = torch.from_numpy(images)
    return Data(
        images=pixels.permute(0, 3, 1, 2) if len(shape) == 3 else pixels.unsqueeze(1),
        labels=torch.from_numpy(labels),
        classes=classes,
        mean=mean,
        std=std,
        test=torch.arange(len(labels)) >= int(ends[1]),
    )
