"""CIFAR-10: 60,000 colour photographs of 10 kinds of things, 32 x 32; 6,000 of a kind, 1,000 of them for testing.

The normalisation and the 40,000 / 10,000 / 10,000 images for training / validation / test are those of the official
repository of Shamsian et al. 2021 (github.com/AvivSham/pFedHN).
"""

from __future__ import annotations

from pathlib import Path

from fedbench.dataset import Data, Dataset, train_and_test


class CIFAR10(Dataset):
    """CIFAR-10, two classes per client."""

    title = "CIFAR-10"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009; cs.toronto.edu/~kriz/cifar.html"
    network = "lenet"

    def load(self, root: Path) -> Data:
        """`root/cifar10.npz`, images stored as [M, 32, 32, 3]."""
        return train_and_test(
            root, "cifar10", "CIFAR10", (32, 32, 3), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), classes=10
        )
