"""fedbench: personalized federated learning, compared at equal effort, with numbers that reproduce bit for bit.

`import fedbench` is light: torch and pandas are imported when something that needs them is first used.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "Dataset",
    "Method",
    "Report",
    "Scores",
    "Stopped",
    "Untuned",
    "load_embeddings",
    "load_models",
    "load_results",
    "report",
    "reproduce",
    "run",
    "tune",
]

if TYPE_CHECKING:
    from fedbench.api import Scores, Stopped, Untuned, report, reproduce, run, tune
    from fedbench.dataset import Dataset
    from fedbench.errors import BadInput
    from fedbench.method import Method
    from fedbench.reporting import Report
    from fedbench.runs.kept import load_embeddings, load_models
    from fedbench.storage import load_results


def _in_checkout() -> None:
    """Make `methods/` and `datasets/` of a source checkout importable as `fedbench.methods` and `fedbench.datasets`.

    An installed wheel has both inside the package. In a checkout they stand beside it, and must never be importable
    under their own names (a well-known package is called `datasets`), so the folders are not packages themselves.
    """
    root = Path(__file__).resolve().parent.parent
    for name in ("methods", "datasets"):
        if (root / "pyproject.toml").is_file() and (root / name).is_dir():
            module = ModuleType(f"fedbench.{name}")
            module.__path__ = [str(root / name)]
            sys.modules.setdefault(module.__name__, module)
            globals()[name] = sys.modules[module.__name__]


_in_checkout()


# where each public name is defined
HOMES = {
    "BadInput": "fedbench.errors",
    "Dataset": "fedbench.dataset",
    "Method": "fedbench.method",
    "Report": "fedbench.reporting",
    "Scores": "fedbench.api",
    "Stopped": "fedbench.api",
    "Untuned": "fedbench.api",
    "check": "fedbench.check",
    "load_embeddings": "fedbench.runs.kept",
    "load_models": "fedbench.runs.kept",
    "load_results": "fedbench.storage",
    "report": "fedbench.api",
    "reproduce": "fedbench.api",
    "run": "fedbench.api",
    "tune": "fedbench.api",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'fedbench' has no attribute {name!r}")
    home = importlib.import_module(HOMES[name])
    return home if home.__name__ == f"fedbench.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})
