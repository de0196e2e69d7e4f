"""Tables, statistics and figures from stored results. Nothing here imports torch, but `compare` and `partitions`."""

from __future__ import annotations

from fedbench.reporting.report import Report, report

__all__ = ["Report", "report"]
