"""Plug-ins: found by name or file, their code hash, hyperparameters and text forms, and files to start from."""

from fedbench.plugins.finding import (
    Plugin,
    find,
    find_dataset,
    find_method,
    find_network,
    find_partition,
    names,
)
from fedbench.plugins.settings import Hyperparameter, Scalar, build, configure, hyperparameters
from fedbench.plugins.texts import Networks, parse_networks, parse_partition, partition_plugin

__all__ = [
    "Hyperparameter",
    "Networks",
    "Plugin",
    "Scalar",
    "build",
    "configure",
    "find",
    "find_dataset",
    "find_method",
    "find_network",
    "find_partition",
    "hyperparameters",
    "names",
    "parse_networks",
    "parse_partition",
    "partition_plugin",
]
