"""Small results that are committed beside the tests come out again, bit for bit: whatever moves a number is seen here.

They were made, on an AMD and on an Intel processor, by

    fedbench run --methods fedavg,pfedhn --seeds 42 --visits 20 --evaluate-every 5 --device cpu \\
        --set fedavg.local.steps=5 --set pfedhn.local.steps=5
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench import storage
from fedbench.runs.provenance import software
from fedbench.runs.verify import verify

DATA = Path(__file__).parent.parent / "data"
DECIDE = ("torch", "numpy", "scikit-learn")  # packages whose versions may move bits


@pytest.mark.parametrize("method", ["fedavg", "pfedhn"])
@pytest.mark.parametrize("processor", ["amd", "intel"])
def test_a_committed_result_comes_out_again(processor: str, method: str) -> None:
    path = DATA / processor / f"{method}.json"
    verdict = verify(path)
    if verdict.processors:
        pytest.skip("bits cannot be expected to be equal: made by {}, and this is {}".format(*verdict.processors))
    if not verdict.equal:
        stored = storage.read(path).provenance["software"]
        changed = [f"{name} {software()[name]}" for name in DECIDE if software()[name] != stored[name]]
        if changed:
            pytest.skip(f"bits cannot be expected to be equal: made with other versions than {', '.join(changed)}")
    assert verdict.equal, str(verdict)
