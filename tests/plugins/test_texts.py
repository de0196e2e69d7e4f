"""Texts that name plug-ins and settings are parsed, never evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench import plugins
from fedbench.errors import BadInput
from fedbench.plugins import find_network, parse_partition

CODE = "__import__('os').system('touch bitten')"


def test_text_that_looks_like_code_is_only_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions, networks, hyperparameters and names are parsed, never evaluated."""
    monkeypatch.chdir(tmp_path)
    dataset, fedavg = plugins.find_dataset("digits").cls, plugins.find_method("fedavg")
    for refuse in (
        lambda: parse_partition(f"classes:per_client={CODE}", dataset),
        lambda: parse_partition(CODE, dataset),
        lambda: find_network(CODE),
        lambda: plugins.configure(fedavg, {"local.lr": CODE}),
        lambda: plugins.configure(fedavg, {CODE: "1"}),
        lambda: plugins.find_method(CODE),
    ):
        with pytest.raises(BadInput):
            refuse()
    assert not (tmp_path / "bitten").exists()
