"""Tables, statistics and figures from stored results. Only `figures.partitions` and `paper` import torch."""

from __future__ import annotations

from fedbench.reporting.compose import experiment_report, gather, report
from fedbench.reporting.writing import Claim, Report

__all__ = ["Claim", "Report", "experiment_report", "gather", "report"]
