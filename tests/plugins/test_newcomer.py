"""A newcomer's method: Ditto, written from the README and the template of a new method alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedbench
from fedbench import plugins
from fedbench.check import run_checks

DITTO = '''\
"""Ditto: every client keeps a model of its own, tied to the global one that FedAvg trains.

Li et al., ICML 2021, algorithm 1: w as in FedAvg; v, which begins as w, on F_i(v) + (lam / 2) ||v - w||^2.

Departures from the paper

1. v takes as many steps as w, on batches of its own.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedbench import tree
from fedbench.local import descend, train
from fedbench.method import Draw, Method


@dataclass(frozen=True, kw_only=True)
class Ditto(Method):
    title = "Ditto"
    paper = "Li et al., Ditto: Fair and Robust Federated Learning Through Personalization, ICML 2021"

    lam: Annotated[float, Field(ge=0, description="weight of the tie to the global model")] = 0.1

    def server_init(self, rng):
        return self.task.init(rng)

    def server_send(self, server, cohort):
        return tree.expand(server, len(cohort.ids))

    def server_welcome(self, server, cohort):
        return tree.expand(server, len(cohort.ids))

    def client_init(self, welcome, rng):
        return welcome

    @property
    def train_draw(self):
        return Draw(2 * self.local.steps, self.local.batch_size)

    @property
    def steps_per_visit(self):
        return 2 * self.local.steps

    def client_train(self, message, state, batches):
        def gradient(model, rows):
            return tree.add_scaled(self.task.grad(model, rows), tree.sub(model, message), self.lam)

        first, second = batches.tensor_split(2)
        personal, _ = descend(self.local, gradient, state, second)
        return train(self.task, self.local, message, first)[0], personal

    def client_personalize(self, message, state, batches):
        return state

    def server_receive(self, server, cohort, upload):
        return tree.average(upload, cohort.weight)
'''


def test_ditto_takes_less_than_60_lines() -> None:
    assert len(DITTO.splitlines()) < 60


@pytest.mark.slow
def test_ditto_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "ditto.py").write_text(DITTO)
    results = run_checks(plugins.find_method(str(tmp_path / "ditto.py")))
    assert [str(result) for result in results if result.status != "holds"] == []


def test_ditto_runs(tmp_path: Path) -> None:
    """And beats FedAvg on clients of two classes each, as a personal model must."""
    (tmp_path / "ditto.py").write_text(DITTO)
    scores = fedbench.run(
        methods=[str(tmp_path / "ditto.py"), "fedavg"],
        seeds=[42],
        visits=20,
        evaluate_every=10,
        jobs=1,
        settings={"all.local.steps": 10},
        results=tmp_path / "results",
    )
    found = scores.frame.set_index("method")
    means = found["client_mean"].to_dict()
    assert means["ditto"] > means["fedavg"]
    assert found["gradients"].to_dict() == {"ditto": 400, "fedavg": 200}  # 20 visits of 10 steps, on two models or one
