"""Plug-ins: found by name or file, their code hash, hyperparameters and text forms, and files to start from."""

from fedbench.plugins.calls import default_clients, load, network, stated_clients
from fedbench.plugins.finding import (
    Plugin,
    find,
    find_dataset,
    find_method,
    find_network,
    find_partition,
    names,
    refresh,
)
from fedbench.plugins.guard import guarded, place, said, shown, trace
from fedbench.plugins.settings import Hyperparameter, Scalar, build, configure, hyperparameters, sane
from fedbench.plugins.texts import Networks, listed, parse_networks, parse_partition, partition_file, partition_plugin

__all__ = [
    "Hyperparameter",
    "Networks",
    "Plugin",
    "Scalar",
    "build",
    "configure",
    "default_clients",
    "find",
    "find_dataset",
    "find_method",
    "find_network",
    "find_partition",
    "guarded",
    "hyperparameters",
    "listed",
    "load",
    "names",
    "network",
    "parse_networks",
    "parse_partition",
    "partition_file",
    "partition_plugin",
    "place",
    "refresh",
    "said",
    "sane",
    "shown",
    "stated_clients",
    "trace",
]
