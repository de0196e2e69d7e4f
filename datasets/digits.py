"""Digits: 1,797 handwritten digits, 8 x 8 grey, which scikit-learn ships: the one data set that needs no download.

It has no test split of its own. Shamsian et al. 2021 do not use it; it is here for first steps and for tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedbench.dataset import Data, Dataset


class Digits(Dataset):
    """Handwritten digits, two classes per client."""

    title = "Digits"
    source = "Alpaydin, Kaynak, Optical recognition of handwritten digits, UCI, 1998; sklearn.datasets.load_digits"
    network = "mlp-digits"
    cached = False

    def load(self, root: Path) -> Data:
        """The samples; `root` is not looked at. Ink of 0 .. 16 becomes 0 .. 255."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        return Data(
            images=torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1),
            labels=torch.from_numpy(digits.target.astype(np.int64)),
            classes=10,
            mean=(0.3053,),
            std=(0.3759,),
        )
