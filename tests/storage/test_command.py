"""The command that makes a run: what a shell reads of it is the spec, and nothing else."""

from __future__ import annotations

import shlex

from fedbench.storage import Spec
from fedbench.storage.command import command


def spec(**changes: object) -> Spec:
    facts = {
        "method": "fedavg",
        "params": {"local.lr": 0.01, "decay": None, "note": "x; rm -rf ~ #"},
        "dataset": "digits",
        "network": "lenet-8*25,lenet*25",
        "partition": "classes:per_client=2,spare=$(id)",
        "clients": 50,
        "seed": 42,
        "visits": 100,
        "evaluate_every": 50,
    }
    return Spec.model_validate({**facts, **changes})


def test_a_shell_reads_what_the_spec_says() -> None:
    words = shlex.split(command(spec(), [42, 27]))
    assert words[:2] == ["fedbench", "run"]
    options = list(zip(words[2::2], words[3::2], strict=True))
    assert ("--partition", "classes:per_client=2,spare=$(id)") in options
    assert ("--network", "lenet-8*25,lenet*25") in options
    assert ("--seeds", "42,27") in options
    assert [value for name, value in options if name == "--set"] == [
        "fedavg.local.lr=0.01",
        "fedavg.decay=none",
        "fedavg.note=x; rm -rf ~ #",
    ]


def test_hyperparameters_with_their_usual_values_can_be_left_out() -> None:
    text = command(spec(novel_clients=2, adapt_visits=5), [42], {"local.lr": 0.01}, keep_models=True)
    assert "--novel-clients 2 --adapt-visits 5" in text
    assert "--keep-models" in text
    assert text.count("--set") == 1
