"""The command that makes the runs of a spec."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fedbench.storage.spec import Spec


def command(
    spec: Spec, seeds: Sequence[int], params: Mapping[str, Any] | None = None, keep_models: bool = False
) -> str:
    """The command that makes the runs of `spec` under `seeds`, quoted for a shell: a spec may come from a stranger.

    It sets the hyperparameters `params`, by default all of them. Plug-ins are named, for a spec tells no files.
    """
    words = ["fedbench", "run", "--methods", spec.method, "--dataset", spec.dataset, "--clients", str(spec.clients)]
    words += ["--partition", spec.partition, "--network", spec.network]
    words += ["--visits", str(spec.visits), "--evaluate-every", str(spec.evaluate_every)]
    if spec.novel_clients:
        words += ["--novel-clients", str(spec.novel_clients), "--adapt-visits", str(spec.adapt_visits)]
    words += ["--seeds", ",".join(map(str, seeds)), "--device", spec.device]
    if keep_models:
        words.append("--keep-models")
    for name, value in (spec.params if params is None else params).items():
        words += ["--set", f"{spec.method}.{name}={'none' if value is None else value}"]
    return shlex.join(words)
