"""Results that look like real ones and took no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_results import Maker

from fedbench import storage
from fedbench.storage.spec import Spec, seed_list

TITLES = {"fedavg": "FedAvg", "pfedhn": "pFedHN", "local": "Local", "fedper": "FedPer", "pfedme": "pFedMe"}
VISITS, EVERY = 1000, 50
SKILL = {"fedavg": 0.5, "pfedhn": 0.88, "local": 0.7, "fedper": 0.85, "pfedme": 0.84}


def scores(rng: np.random.Generator, clients: int, skill: float) -> dict[str, Any]:
    total = rng.integers(80, 120, clients)
    return {
        "correct": rng.binomial(total, np.clip(rng.normal(skill, 0.05, clients), 0.05, 0.99)).tolist(),
        "total": total.tolist(),
        "loss": rng.exponential(0.5, clients).tolist(),
    }


def result(
    method: str = "fedavg",
    seed: int = 42,
    *,
    title: str | None = None,
    params: dict[str, Any] | None = None,
    correct: Sequence[int] | None = None,  # of ten test rows each: fixes every client's accuracy
    novel: int = 0,
    code: str = "c0de",
    version: str = "0.1.0",
    partition: str | None = None,  # the checksum
    partition_text: str = "classes:per_client=2,spare=1,low=0.4,high=0.6,seeding=keyed",
    torch: str = "2.6.0",
    modern: bool = True,  # of format 2: with gradient evaluations and the scores on the way
    provenance: dict[str, Any] | None = None,
    depends_on_length: bool = False,
    **spec: Any,
) -> storage.Result:
    """A complete result. Numbers come from a generator that the spec seeds."""
    settings: dict[str, Any] = {
        "dataset": "digits",
        "network": "mlp-digits",
        "partition": partition_text,
        "clients": (len(correct) if correct else 20) + novel,
        "novel_clients": novel,
        "adapt_visits": 20 if novel else 0,
        "visits": VISITS,
        "evaluate_every": EVERY,
        **spec,
    }
    plan = Spec(method=method, params={"local.lr": 0.005, **(params or {})}, seed=seed, **settings)
    rng = np.random.default_rng(int(plan.identity, 16))
    seen, skill = plan.clients - novel, SKILL.get(method, 0.6)
    per_visit = 0 if method == "local" else 484728 if method != "fedper" else 400000

    def row(visits: int) -> dict[str, Any]:
        reached = skill * (1 - np.exp(-4 * visits / plan.visits)) + rng.normal(0, 0.004)
        return {
            "round": visits // 5,
            "visits": visits,
            "steps": 50 * visits,
            **({"gradients": 50 * visits, "personalize_gradients": 0} if modern else {}),
            "bytes_down": per_visit * visits,
            "bytes_up": per_visit * visits,
            "bytes_welcome": 0,
            "train_loss": float(2.3 - reached),
            "val_loss": float(2.3 - reached),
            "val_accuracy": float(np.clip(reached, 0, 1)),
            "val_client_mean": float(np.clip(reached - 0.003, 0, 1)),
        }

    history = [row(visits) for visits in range(0, plan.visits + 1, plan.evaluate_every)]
    timed = [{**entry, "seconds": 0.02 * entry["visits"] + 0.1} for entry in history]
    test: dict[str, Any] = scores(rng, seen, skill)
    if correct is not None:
        test = {"correct": list(correct), "total": [10] * len(correct), "loss": [0.5] * len(correct)}
    improvements = history[:1]
    for each in history:
        if each["val_accuracy"] > improvements[-1]["val_accuracy"]:
            improvements.append(each)
    unseen: dict[str, Any] | None = None
    if novel:
        later = row(20)
        best = max(history[0], later, key=lambda each: each["val_accuracy"])
        looks = [timed[0], {**later, "seconds": 1.0}]
        unseen = {"best": {**best, "test": scores(rng, novel, skill - 0.1)}, "history": looks}
    payload: dict[str, Any] = {
        "format": 2 if modern else 1,
        "spec": plan.model_dump(mode="json"),
        "title": title or TITLES.get(method, method),
        "code": code,
        "partition": partition or f"{plan.dataset}-{plan.clients}-{seed}",
        "best": {**improvements[-1], "test": test},
        "earlier": [{**row, "test": scores(rng, seen, skill * row["val_accuracy"])} for row in improvements[:-1]]
        if modern
        else None,
        "depends_on_length": depends_on_length,
        "unseen": unseen,
        "history": timed,
    }
    made = {
        "finished": "2026-01-01T00:00:00+00:00",
        "software": {"fedbench": version, "python": "3.11.7", "torch": torch},
        "commit": None,
        "host": {"system": "Linux", "machine": "x86_64"},
        "device": "cpu",
        **(provenance or {}),
    }
    clean = storage.Result(**payload, digest="", provenance=made)
    return clean.model_copy(update={"digest": storage.digest(clean.model_dump(mode="json"))})


@pytest.fixture(scope="session")
def make() -> Maker:
    return result


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Five methods, three seeds, with unseen clients."""
    return fill_some(tmp_path / "results")


@pytest.fixture(scope="session")
def some() -> Callable[[Path], Path]:
    return fill_some


def fill_some(root: Path) -> Path:
    for method in TITLES:
        for seed in seed_list(3):
            storage.write(root, result(method, seed, novel=4))
    return root


@pytest.fixture
def many() -> Callable[[Path, int], None]:
    return fill


def fill(root: Path, count: int, every: int = EVERY) -> None:
    """`count` results: 10 methods, 5 seeds, and as many settings as it takes."""
    methods = [*TITLES, *(f"method-{i}" for i in range(5))]
    for number in range(count):
        setting, rest = divmod(number, 50)
        dataset, clients = f"data-{setting % 5}", (10, 25, 50, 100)[setting // 5 % 4]
        path_result = result(
            methods[rest % 10],
            seed_list(5)[rest // 10],
            dataset=dataset,
            clients=clients,
            visits=VISITS * (1 + setting // 20),
            evaluate_every=every,
        )
        path = storage.result_path(root, path_result.spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path_result.model_dump_json(indent=1) + "\n")
