"""MNIST: 70,000 handwritten digits, 28 x 28 grey; 10,000 of them for testing.

The normalisation and the 10,000 validation images are those of the first public version of the official repository of
Shamsian et al. 2021 (github.com/AvivSham/pFedHN), whose network for MNIST is a perceptron with 100 hidden units.
"""

from __future__ import annotations

from pathlib import Path

from fedbench.dataset import Data, Dataset, train_and_test


class MNIST(Dataset):
    """MNIST, two classes per client."""

    title = "MNIST"
    source = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, 1998"
    network = "mnist-mlp"

    def load(self, root: Path) -> Data:
        """`root/mnist.npz`, images stored as [M, 28, 28]; the file that Keras distributes has this form."""
        return train_and_test(root, "mnist", "MNIST", (28, 28), (0.1307,), (0.3081,), classes=10)
