"""The engine: bytes, schedules, selection, unseen clients, loop against vmap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import finished, problem
from torch import Tensor

from fedbench import plugins
from fedbench.method import Cohort, Method
from fedbench.runs.prepare import load_data
from fedbench.seeds import torch_stream
from fedbench.training import Keep, adapt
from fedbench.training.scoring import score
from fedbench.tree import Tree

ALL = plugins.names("method")


def test_every_visit_of_the_budget_is_made_and_no_more() -> None:
    """12 visits with 5 clients a round are rounds of 5, 5 and 2."""
    progress = finished(problem("fedavg"))
    assert (progress.round, progress.visits, progress.steps) == (3, 12, 36)


def test_it_looks_at_validation_on_the_grid_and_at_the_end() -> None:
    """One client a round, every 5 of 12 visits: at 0, 5, 10 and, off the grid, 12."""
    assert [row["visits"] for row in finished(problem("pfedhn")).history] == [0, 5, 10, 12]


def test_validation_chooses_the_round_strictly() -> None:
    """The best row is the first with the greatest validation accuracy, and its test scores are of that round."""
    ready = problem("fedavg-ft")
    progress = finished(ready)
    best = max(progress.history, key=lambda row: row["val_accuracy"])  # max keeps the first of equals
    assert progress.best is not None
    assert progress.best["round"] == best["round"]
    engine, clients = ready.engine, ready.engine.clients
    models = engine.models(replace(progress, server=progress.best_server, clients={}, round=best["round"]))
    scored = [
        score(engine.method, model, clients.images, clients.labels, rows)
        for model, rows in zip(models, clients.test, strict=True)
    ]
    assert progress.best["test"]["correct"] == [correct for correct, _, _ in scored]


def test_pooled_validation_accuracy_chooses_and_the_best_test_accuracy_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two clients with 10 and 90 validation rows, three looks with made-up scores.

    Pooled validation accuracy is 0.30, 0.55, 0.50, the clients' mean 0.57, 0.48, 0.72; on test the first is best.
    Pooled chooses the second look, whose test scores are stored; the third is not read on test at all.
    """
    validation = [[(9, 10), (21, 90)], [(4, 10), (51, 90)], [(10, 10), (40, 90)]]
    test = [[(9, 10), (9, 10)], [(5, 10), (5, 10)]]
    ready = problem("fedavg", {"clients_per_round": 2}, clients=2, visits=4, evaluate_every=2)
    scores = iter([pair for looks in zip(validation, [*test, []], strict=True) for look in looks for pair in look])

    def made_up(*args: Any) -> tuple[int, int, float]:
        correct, total = next(scores)
        return correct, total, 1.0

    monkeypatch.setattr("fedbench.training.engine.score", made_up)
    progress = finished(ready)
    assert [row["val_accuracy"] for row in progress.history] == [0.30, 0.55, 0.50]
    assert [row["val_client_mean"] for row in progress.history] == pytest.approx([0.5667, 0.4833, 0.7222], abs=1e-4)
    assert progress.best is not None
    assert progress.best["visits"] == 2
    assert progress.best["test"]["correct"] == [5, 5]
    assert list(scores) == []


def test_test_rows_are_read_only_where_validation_improved(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = problem("fedavg")
    looked = []
    first_of_test = ready.engine.clients.test[0]

    def spy(method: Method, model: Tree, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[int, int, float]:
        if rows is ready.engine.clients.validation[0] or rows is first_of_test:
            looked.append("test" if rows is first_of_test else "validation")
        return score(method, model, images, labels, rows)

    monkeypatch.setattr("fedbench.training.engine.score", spy)
    progress = finished(ready)
    best, improved = -1.0, 0
    for row in progress.history:
        improved += row["val_accuracy"] > best
        best = max(best, row["val_accuracy"])
    assert looked.count("validation") == len(progress.history)
    assert looked.count("test") == improved


@pytest.mark.parametrize("method", ALL)
def test_loop_and_vmap_agree(method: str) -> None:
    """The same plug-in code lifted by a loop (fast path) and by vmap over 3 clients (plain path), float64."""
    settings = {"clients_per_round": 4}
    loop = finished(problem(method, settings, dtype="float64"))
    lifted = finished(problem(method, settings, dtype="float64", width=3))
    for a, b in zip(loop.history, lifted.history, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-9)
    assert loop.clients.keys() == lifted.clients.keys()
    for client, state in loop.clients.items():
        for name, value in state.items():
            torch.testing.assert_close(value, lifted.clients[client][name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["exact", "hf"])
def test_per_fedavg_variants_run_under_vmap(variant: str) -> None:
    settings = {"variant": variant, "clients_per_round": 3}
    loop = finished(problem("per-fedavg", settings, dtype="float64"))
    lifted = finished(problem("per-fedavg", settings, dtype="float64", width=3))
    assert loop.history[-1]["val_loss"] == pytest.approx(lifted.history[-1]["val_loss"], rel=1e-7)


def test_going_on_from_any_round_gives_the_same_bits() -> None:
    """A run stopped after each round and continued equals one that was not."""
    ready = problem("pfedhn-pc")
    straight = finished(ready)
    stopped = ready.engine.start()
    for _ in range(100):
        if ready.engine.run(stopped, Keep(server=True), lambda _: True) and stopped.round == ready.engine.rounds:
            break
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in straight.history]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in stopped.history] == timeless
    assert stopped.best == straight.best
    for state, other in ((stopped.server, straight.server), (stopped.clients, straight.clients)):
        leaves, others = torch.utils._pytree.tree_leaves(state), torch.utils._pytree.tree_leaves(other)
        assert all(torch.equal(a, b) for a, b in zip(leaves, others, strict=True))


def test_no_method_sees_rows_of_unseen_clients_or_of_validation_and_test() -> None:
    """The images of the task are the training rows of the training clients, and nothing else."""
    ready = problem("fedavg", novel_clients=2, adapt_visits=2)
    assert ready.unseen is not None
    expected = sum(len(rows) for rows in ready.partition.train[:4])
    assert len(ready.engine.method.task.images) == expected
    assert len(ready.unseen.method.task.images) == sum(len(rows) for rows in ready.partition.train[4:])
    assert ready.engine.method.task.clients == ready.unseen.method.task.clients == 4
    data, rows = load_data("digits", Path("unused")), ready.partition
    assert torch.equal(ready.engine.method.task.images, data.images[torch.cat(rows.train[:4])])
    clients = ready.engine.clients
    for part, held_out in ((rows.validation, clients.validation), (rows.test, clients.test)):
        for mine, places in zip(part[:4], held_out, strict=True):
            assert torch.equal(clients.images[places], data.images[mine])
            assert torch.equal(clients.labels[places], data.labels[mine])
    assert clients.images.data_ptr() != ready.engine.method.task.images.data_ptr()


@pytest.mark.parametrize("method", ALL)
def test_what_a_method_holds_is_on_the_device_of_the_task(method: str) -> None:
    """On the meta device, which every machine has: what server and clients begin with has moved there."""
    built = problem(method).engine.method
    task = replace(
        built.task, **{name: getattr(built.task, name).to("meta") for name in ("images", "labels", "mean", "std")}
    )
    moved = replace(built, task=task)
    cohort = Cohort(torch.tensor([0]), torch.ones(1), 0, 1)
    welcome = built.server_welcome(built.server_init(torch_stream(0, "a")), cohort)
    states = (
        moved.server_init(torch_stream(0, "a")),
        moved.client_init({name: value[0].to("meta") for name, value in welcome.items()}, torch_stream(0, "b")),
    )
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(states) if isinstance(leaf, torch.Tensor)]
    assert {leaf.device.type for leaf in leaves} == {"meta"}


@pytest.mark.parametrize("method", ALL)
def test_unseen_clients_do_not_modify_the_trained_server(method: str) -> None:
    """Adaptation works on states of its own: every tensor of the server that it starts from keeps its bits."""
    ready = problem(method, novel_clients=2, adapt_visits=3)
    assert ready.unseen is not None
    progress = finished(ready)
    before = torch.utils._pytree.tree_map(
        lambda value: value.clone() if hasattr(value, "clone") else value, progress.best_server
    )
    adapted = adapt(progress.best_server, ready.unseen, ready.engine.rounds)
    same = torch.utils._pytree.tree_map(
        lambda a, b: torch.equal(a, b) if hasattr(a, "clone") else a == b, before, progress.best_server
    )
    assert all(torch.utils._pytree.tree_leaves(same))
    assert adapted is not None
    assert len(adapted["best"]["test"]["correct"]) == 2
    assert adapted["history"][0]["visits"] == 0


def test_unseen_clients_are_scored_at_the_look_that_validation_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five looks in four visits with made-up scores of one client: 2, 6, 5, 6, 4 of 10 rows; the second is the best.

    Test rows are read where validation was better than ever, at the first two looks: 9 and 3 of 10.
    """
    ready = problem("local", novel_clients=1, adapt_visits=4)
    assert ready.unseen is not None
    start = ready.engine.start()
    scores = iter([2, 9, 6, 3, 5, 6, 4])
    monkeypatch.setattr("fedbench.training.engine.score", lambda *args: (next(scores), 10, 1.0))
    adapted = adapt(start.server, ready.unseen, ready.engine.rounds)
    assert adapted is not None
    assert [row["val_accuracy"] for row in adapted["history"]] == [0.2, 0.6, 0.5, 0.6, 0.4]
    assert (adapted["best"]["visits"], adapted["best"]["test"]["correct"]) == (1, [3])
    assert [row["visits"] for row in adapted["earlier"]] == [0]
    assert list(scores) == []
