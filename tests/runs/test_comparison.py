"""Whether results can be written is known before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench import storage
from fedbench.errors import BadInput
from fedbench.runs.comparison import check_writable


def test_results_that_cannot_be_written_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match=r"results cannot be written to .*file.*; choose another --results"):
        check_writable(tmp_path / "file" / "results")


def test_looking_whether_results_can_be_written_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that looks at the same time may have taken the trial file away."""
    original = storage.write_bytes

    def write_bytes(path: Path, content: bytes) -> None:
        original(path, content)
        path.unlink()

    monkeypatch.setattr("fedbench.storage.disk.write_bytes", write_bytes)
    check_writable(tmp_path)
