"""Networks: their sizes as closed forms."""

from __future__ import annotations

import math

import pytest

from fedbench.models import lenet


@pytest.mark.parametrize(
    ("width", "classes", "total"),
    [(8, 10, 62_958), (16, 10, 121_182), (32, 10, 256_830), (8, 100, 70_608), (16, 100, 128_832), (32, 100, 264_480)],
)
def test_lenet_sizes(width: int, classes: int, total: int) -> None:
    """conv 75F + F and 50F^2 + 2F, fc 50F 120 + 120, 120 84 + 84, and the head 84 classes + classes."""
    network = lenet((3, 32, 32), classes, width)
    closed = 75 * width + width + 50 * width**2 + 2 * width + 6000 * width + 120 + 10_164 + 85 * classes
    assert sum(math.prod(s) for s in network.shapes.values()) == closed == total
    assert sum(math.prod(network.shapes[name]) for name in network.head) == 85 * classes
