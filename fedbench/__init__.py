"""fedbench: personalized federated learning, compared at equal effort, with numbers that reproduce bit for bit.

`import fedbench` is light: torch and pandas are imported when something that needs them is first used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["BadInput", "load_results"]

if TYPE_CHECKING:
    from fedbench.errors import BadInput
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


def __getattr__(name: str) -> Any:
    if name == "load_results":
        from fedbench.storage import load_results

        return load_results
    if name == "BadInput":
        from fedbench.errors import BadInput

        return BadInput
    raise AttributeError(f"module 'fedbench' has no attribute {name!r}")
