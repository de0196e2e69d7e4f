"""CIFAR-100: 60,000 colour photographs of 100 kinds of things, 32 x 32; 600 of a kind, 100 of them for testing.

The normalisation, the ten classes per client and the 40,000 / 10,000 / 10,000 images for training / validation / test
are those of the official repository of Shamsian et al. 2021 (github.com/AvivSham/pFedHN). Labels are the fine ones.
"""

from __future__ import annotations

from pathlib import Path

from fedbench.dataset import Data, Dataset, train_and_test


class CIFAR100(Dataset):
    """CIFAR-100, ten classes per client."""

    title = "CIFAR-100"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009; cs.toronto.edu/~kriz/cifar.html"
    network = "lenet"
    classes_per_client = 10

    def load(self, root: Path) -> Data:
        """`root/cifar100.npz`, images stored as [M, 32, 32, 3]."""
        return train_and_test(
            root, "cifar100", "CIFAR100", (32, 32, 3), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), classes=100
        )
