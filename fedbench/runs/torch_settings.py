"""torch's settings that hold for a whole process and decide bits: set for a run, and put back after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch


class Setting(NamedTuple):
    """How a setting is read and written, and what it is for a run; None leaves it alone."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    wanted: Any


def _attribute(owner: Any, name: str, wanted: Any) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), wanted)


def _flushes_denormals() -> bool:
    """Whether results below the least normal number become 0; torch has no way to ask."""
    return bool((torch.tensor([2.0**-127], dtype=torch.float32, device="cpu") * 1.0)[0] == 0)


SETTINGS: dict[str, Setting] = {
    "the number of torch's threads": Setting(torch.get_num_threads, torch.set_num_threads, 1),
    # use_deterministic_algorithms(True), but for its import of the compiler: a second, and 160 MB
    "torch's deterministic mode": Setting(
        torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 2
    ),  # 2: what is not deterministic is an error
    "torch's default type": Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    "torch's default device": Setting(torch.get_default_device, torch.set_default_device, torch.device("cpu")),
    "torch's precision of matrix products": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"
    ),
    "torch's flushing of denormal numbers": Setting(_flushes_denormals, torch.set_flush_denormal, False),
    "the switch torch.backends.mkldnn.enabled": _attribute(torch.backends.mkldnn, "enabled", True),
    "the switch torch.backends.mkldnn.deterministic": _attribute(torch.backends.mkldnn, "deterministic", False),
    "the switch torch.backends.cudnn.enabled": _attribute(torch.backends.cudnn, "enabled", True),
    "the switch torch.backends.cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark", None),
    "the switch torch.backends.cudnn.deterministic": _attribute(torch.backends.cudnn, "deterministic", None),
}
# read only where they are set: asking for them mixes badly with torch's newer way to say the same
ON_CUDA: dict[str, Setting] = {
    "the switch torch.backends.cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark", False),
    "the switch torch.backends.cuda.matmul.allow_tf32": _attribute(torch.backends.cuda.matmul, "allow_tf32", False),
    "the switch torch.backends.cudnn.allow_tf32": _attribute(torch.backends.cudnn, "allow_tf32", False),
}


def torch_settings() -> dict[str, Any]:
    """What torch's settings are now, by name."""
    return {name: setting.get() for name, setting in SETTINGS.items()}


@contextlib.contextmanager
def set_up_torch(device: torch.device) -> Iterator[None]:
    """While inside, one thread and deterministic algorithms: what makes the bits of a run its spec's alone.

    Every switch that decides bits is set, whatever a plug-in, a notebook or the run before has made of it; afterwards
    all are as they were.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, when the first kernel is wanted
    settings = {**SETTINGS, **(ON_CUDA if device.type == "cuda" else {})}
    before = {name: setting.get() for name, setting in settings.items()}
    try:
        for setting in settings.values():
            if setting.wanted is not None and setting.get() != setting.wanted:
                setting.set(setting.wanted)
        yield
    finally:
        for name, setting in settings.items():
            if setting.get() != before[name]:
                setting.set(before[name])
