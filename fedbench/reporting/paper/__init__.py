"""Parts of a report that single experiments of the paper have: one file each, found by the name in `extras`.

They need more than the scores of runs: partitions, kept models, the data. What they say beside tables and figures are
numbers that the rules of claims may name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.reporting.paper.material import Material, Part

if TYPE_CHECKING:
    from fedbench.runs.plan import Plan


def parts(plan: Plan, *, data_root: Path | None = None, download: bool = True) -> Part:
    """Everything that the `extras` of an experiment make of the results of a `plan`, together."""
    material = Material(plan, data_root, download)
    together = Part(values=material.values(), places=material.places())
    for extra in dict.fromkeys(plan.experiment.extras):
        module = import_module(f"fedbench.reporting.paper.{extra.replace('-', '_')}")
        together.add(module.part(material))
    return together


__all__ = ["Material", "Part", "parts"]
