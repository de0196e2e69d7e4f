"""Trees that do not fit are refused where they meet, and arithmetic leaves its arguments alone."""

from __future__ import annotations

import pytest
import torch

from fedbench import tree
from fedbench.tree import Tree


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (
            [{}, {"a": torch.ones(2)}],
            r"trees 0 and 1 cannot be stacked: 'a' is absent in the one and \[2\] torch.float32",
        ),
        ([{"a": torch.ones(2)}, {}], "'a' is .* in the one and absent in the other"),
        ([{"a": torch.ones(2)}, {"a": torch.ones(2)}, {"b": torch.ones(2)}], "trees 0 and 2 .*: 'a' is"),
        ([{"a": torch.ones(2)}, {"a": torch.ones(3)}], r"'a' is \[2\] .* and \[3\]"),
        ([{"a": torch.ones(2)}, {"a": torch.ones(2).double()}], r"\[2\] torch.float32 .* \[2\] torch.float64"),
        ([{"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}], "'b' is absent in the one"),
    ],
    ids=["first-empty", "second-empty", "third-other-name", "shape", "type", "one-more"],
)
def test_trees_that_do_not_fit_are_not_stacked(others: list[Tree], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tree.stack(others)


def test_stack_and_row_are_inverse() -> None:
    """The order of the names is that of the first tree, whatever that of the others is."""
    trees = [
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)},
        {"b": torch.tensor(4), "a": torch.tensor([5.0, 6.0])},
    ]
    stacked = tree.stack(trees)
    assert list(stacked) == ["a", "b"]
    for place, original in enumerate(trees):
        back = tree.row(stacked, place)
        assert back.keys() == original.keys()
        assert all(torch.equal(back[name], value) for name, value in original.items())
    assert tree.stack([{}, {}]) == {}


def test_an_average_of_whole_numbers_is_refused() -> None:
    """In whose type every weight below 1 is 0."""
    with pytest.raises(ValueError, match=r"'steps' holds torch\.int64"):
        tree.average({"steps": torch.tensor([3, 5])}, torch.tensor([0.5, 0.5]))


def test_an_expanded_tensor_counts_in_full() -> None:
    """A broadcast is one copy in memory and C messages on the wire: 3 clients of 4 bytes x 5."""
    assert tree.nbytes(tree.expand({"w": torch.zeros(5)}, 3)) == 3 * 4 * 5
