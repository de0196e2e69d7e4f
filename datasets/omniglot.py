"""Omniglot: handwritten characters of 50 alphabets, 20 drawings of each of 1,623 characters. A client is an alphabet.

In the experiment of Shamsian et al. 2021 there are 50 clients with one alphabet each, 70 / 15 / 15 % of whose drawings
are for training / validation / test; the output layer has one unit for every character of the data set, as the authors
answered in their repository (github.com/AvivSham/pFedHN). What is unsure: the size of their images and their
normalisation are not published. Here a drawing is 28 x 28, a size common for Omniglot, with ink high; mean and standard
deviation were measured on eight alphabets (those of the two published small background sets).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedbench.dataset import Arrays, Cache, Data, Dataset, Form

FORMS = {
    "images": Form("uint8", (None, 105, 105)),  # 0 ink, 255 paper
    "alphabet": Form("integer", (None,)),
    "character": Form("integer", (None,)),  # within its alphabet
    "drawer": Form("integer", (None,)),
    "alphabet_names": Form("text", (None,)),
}


def shrink(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Drawings [M, 105, 105] on paper of 255 to [M, 28, 28] with ink of 255, by averaging areas.

    A small pixel covers 105 / 28 = 15 / 4 large ones along each side. In quarters of a large pixel every overlap is a
    whole number 0 .. 4 and they sum to 15, so the sum over an area is a whole number of at most 255 * 15**2 < 2**24:
    exact in float32 in any order of summation, hence the same on every machine. 15**2 is odd: halves do not occur.
    """
    small, large = np.arange(28)[:, None], np.arange(105)
    overlap = np.minimum(4 * (large + 1), 15 * (small + 1)) - np.maximum(4 * large, 15 * small)
    weight = overlap.clip(min=0).astype(np.float32)  # [28, 105]
    out = np.empty((len(images), 28, 28), np.uint8)
    for start in range(0, len(images), 256):
        ink = (255 - images[start : start + 256]).astype(np.float32)
        out[start : start + 256] = np.rint(weight @ ink @ weight.T / 225)
    return out


def download(scratch: Path) -> Arrays:
    """All 50 alphabets, read from the picture files that torchvision fetches into `scratch`."""
    from PIL import Image
    from torchvision import datasets

    for background in (True, False):
        datasets.Omniglot(scratch, background=background, download=True)
    files = sorted(scratch.glob("omniglot-py/images_*/*/*/*.png"), key=lambda file: file.parts[-3:])
    names, alphabet = np.unique([file.parts[-3] for file in files], return_inverse=True)
    return {
        "images": np.stack([np.asarray(Image.open(file).convert("L")) for file in files]),
        "alphabet": alphabet,
        "character": np.array([int(file.parts[-2].removeprefix("character")) - 1 for file in files]),
        "drawer": np.array([int(file.stem.split("_")[1]) - 1 for file in files]),
        "alphabet_names": names,
    }


class Omniglot(Dataset):
    """Omniglot, one alphabet per client."""

    title = "Omniglot"
    source = "Lake, Salakhutdinov, Tenenbaum, Science 350, 2015; github.com/brendenlake/omniglot"
    network = "omniglot"
    clients = None
    partition = "group"

    def load(self, root: Path) -> Data:
        """`root/omniglot.npz`, drawings stored as [M, 105, 105]; a label is a pair (alphabet, character)."""
        cache = Cache(root, "omniglot", FORMS, download)
        names, drawings = cache.read("alphabet_names"), cache.read("images")
        alphabet, character = (cache.read(key).astype(np.int64) for key in ("alphabet", "character"))
        if not 0 < len(drawings) == len(alphabet) == len(character):
            raise cache.unusable("images, alphabet and character differ in length or are empty")
        if alphabet.min() < 0 or alphabet.max() >= len(names):
            raise cache.unusable(f"alphabet must be 0 .. {len(names) - 1}, one of its alphabet_names")
        pairs, labels = np.unique(np.stack([alphabet, character]), axis=1, return_inverse=True)
        images: npt.NDArray[Any] = shrink(drawings)
        return Data(
            images=torch.from_numpy(images).unsqueeze(1),
            labels=torch.from_numpy(labels.reshape(-1).astype(np.int64)),
            classes=pairs.shape[1],
            mean=(0.0806,),
            std=(0.2334,),
            group=torch.from_numpy(alphabet),
            group_names=tuple(str(name) for name in names),
        )
