"""The committed results were made by the committed code, and are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedbench
from fedbench import plugins, storage

ROOT = Path(fedbench.__file__).resolve().parent.parent / "results"
FOLDERS = [ROOT, ROOT / storage.TRIALS, ROOT / "ablations"]


@pytest.mark.parametrize("method", sorted({path.parent.name for folder in FOLDERS for path in storage.files(folder)}))
def test_committed_results_are_whole_current_and_of_committed_sources(method: str) -> None:
    """A change of a method or a data set that computes something else leaves none of its results behind."""
    results = [
        (path, storage.read_in_place(path))
        for folder in FOLDERS
        for path in storage.files(folder)
        if path.parent.name == method
    ]
    assert results
    for path, result in results:
        assert result.code == plugins.find_method(method).code, path
        assert result.dataset_code == plugins.find_dataset(result.spec.dataset).code, path
        assert result.provenance["uncommitted_changes"] is False, path
        assert result.provenance["commit"], path
        assert not result.diverged, path
