"""Tables, statistics and figures from stored results. Only `figures.partitions` and `paper` import torch."""

from __future__ import annotations

from fedbench.reporting.compose import Claim, Report, experiment_report, gather, report

__all__ = ["Claim", "Report", "experiment_report", "gather", "report"]
