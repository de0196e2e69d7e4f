"""Tables, statistics and figures from stored results. Nothing here imports torch, but `figures.partitions`."""

from __future__ import annotations

from fedbench.reporting.compose import Claim, Report, experiment_report, gather, report

__all__ = ["Claim", "Report", "experiment_report", "gather", "report"]
