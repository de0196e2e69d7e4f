"""Random streams: their first numbers are pinned, for all stored results rest on them; and names alone decide them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.seeds import numpy_stream, torch_stream

KEYS = st.lists(st.one_of(st.integers(0, 100), st.sampled_from(["a", "b", "cohort"])), max_size=3).map(tuple)


def test_the_first_numbers_of_numpy_streams() -> None:
    """A change here moves every result there is."""
    assert numpy_stream(42, "cohort", 0).integers(0, 2**32, 4).tolist() == [
        751679893,
        2636562631,
        3238559199,
        730323148,
    ]
    assert numpy_stream(42, "batches", 3, 1).permutation(8).tolist() == [7, 4, 0, 5, 1, 2, 6, 3]
    assert numpy_stream(0).random(2).tolist() == [0.36896391177704235, 0.6178396225133795]


def test_the_first_numbers_of_torch_streams() -> None:
    """A change here moves every result there is."""
    found = torch.randint(2**31, (4,), generator=torch_stream(42, "server"))
    assert found.tolist() == [211314952, 282542632, 1460607057, 1989737143]
    found = torch.randint(2**31, (4,), generator=torch_stream(42, "client", 7))
    assert found.tolist() == [971960363, 221878437, 937739633, 349145595]
    assert torch.rand(1, generator=torch_stream(0, "server"), dtype=torch.float64).item() == 0.9586560473123376


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**40), key=KEYS, other_seed=st.integers(0, 2**40), other_key=KEYS)
def test_equal_names_give_equal_numbers_and_others_others(
    seed: int, key: tuple[str | int, ...], other_seed: int, other_key: tuple[str | int, ...]
) -> None:
    same = (seed, key) == (other_seed, other_key)
    draws = [
        numpy_stream(first, *rest).integers(0, 2**62, 2).tolist()
        for first, rest in ((seed, key), (other_seed, other_key))
    ]
    assert (draws[0] == draws[1]) == same
    streams = [torch_stream(seed, *key), torch_stream(other_seed, *other_key)]
    tensors = [torch.randint(2**62, (2,), generator=stream) for stream in streams]
    assert torch.equal(tensors[0], tensors[1]) == same


@pytest.mark.parametrize("parts", [(1, "12"), (11, "2"), (1, 12), (1, "1", "2"), (1, "1", 2)])
def test_neighbouring_parts_of_a_name_do_not_run_together(parts: tuple[int, str | int]) -> None:
    assert numpy_stream(*parts).integers(0, 2**62) != numpy_stream(1, 1, 2).integers(0, 2**62)


def test_no_stream_touches_the_global_ones() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state()  # noqa: NPY002
    numpy_stream(1, "a").random(10)
    torch.rand(10, generator=torch_stream(1, "a"))
    assert (before[0] == np.random.get_state(legacy=False)["state"]["key"]).all()  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())
