"""Small results that are committed beside the tests come out again, bit for bit: whatever moves a number is seen here.

They were made by

    fedbench run --methods fedavg,pfedhn --seeds 42 --visits 20 --evaluate-every 5 --device cpu \\
        --set fedavg.local.steps=5 --set pfedhn.local.steps=5
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench import storage
from fedbench.runs.provenance import instruction_set, software
from fedbench.runs.verify import verify

DATA = Path(__file__).parent.parent / "data"
DECIDE = ("torch", "numpy", "scikit-learn")  # packages whose versions may move bits


@pytest.mark.parametrize("method", ["fedavg", "pfedhn"])
def test_a_committed_result_comes_out_again(method: str) -> None:
    path = DATA / f"{method}.json"
    stored = storage.read(path).provenance
    verdict = verify(path)
    if not verdict.equal:
        was, is_ = stored["host"]["instruction_set"], instruction_set()
        if was != is_:
            pytest.skip(f"bits cannot be expected to be equal: made with {was} instructions, and these are {is_}")
        changed = [f"{name} {software()[name]}" for name in DECIDE if software()[name] != stored["software"][name]]
        if changed:
            pytest.skip(f"bits cannot be expected to be equal: made with other versions than {', '.join(changed)}")
    assert verdict.equal, str(verdict)
