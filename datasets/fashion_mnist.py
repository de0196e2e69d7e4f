"""Fashion-MNIST: 70,000 pictures of 10 kinds of clothes, 28 x 28 grey; 7,000 of a kind, 1,000 of them for testing.

Not in the experiments of Shamsian et al. 2021: network, clients and split are those of MNIST. Mean and standard
deviation are those of its training images.
"""

from __future__ import annotations

from pathlib import Path

from fedbench.dataset import Data, Dataset, train_and_test


class FashionMNIST(Dataset):
    """Fashion-MNIST, two classes per client."""

    title = "Fashion-MNIST"
    source = "Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747; github.com/zalandoresearch/fashion-mnist"
    network = "mnist-mlp"

    def load(self, root: Path) -> Data:
        """`root/fashion-mnist.npz`, images stored as [M, 28, 28]."""
        return train_and_test(root, "fashion-mnist", "FashionMNIST", (28, 28), (0.2860,), (0.3530,), classes=10)
