"""FedPer between its two ends: nothing shared, and everything shared."""

from __future__ import annotations

from tiny import (
    run,
    same,
)

from fedbench.methods.fedper import FedPer
from fedbench.methods.local import Local
from fedbench.task import Task


def test_fedper_with_nothing_shared_is_local(task: Task) -> None:
    """The same initial draw of every client, the same batches and steps: bit for bit Local, and nothing travels."""
    _, progress = run(FedPer(task=task, personal_layers=len(task.network.layers)))
    _, expected = run(Local(task=task))
    assert progress.bytes_down == progress.bytes_up == 0
    assert progress.clients.keys() == expected.clients.keys() != set()
    for i, state in expected.clients.items():
        same(progress.clients[i], state)
