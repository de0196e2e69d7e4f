"""`fedbench list`: what there is, with its settings and where it comes from."""

from __future__ import annotations

import inspect
import sys

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench import registry
from fedbench.errors import BadInput


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head in ("name", "title"), overflow="fold")
    return table


def methods_table() -> Table:
    """One row a method; one that cannot be imported says so."""
    table = _table("name", "title", "paper")
    for name in registry.names("method"):
        try:
            cls = registry.find_method(name).cls
            table.add_row(name, cls.title, Text(cls.paper))
        except Exception as error:  # a broken installed plug-in must not hide the others
            table.add_row(name, "-", Text(f"cannot be imported: {error}", style="red"))
    return table


def method_details(name: str) -> RenderableType:
    """Title, paper, hyperparameters and the module's docstring of one method."""
    plugin = registry.find_method(name)
    table = _table("name", "type", "default", "meaning")
    for parameter in registry.hyperparameters(plugin.cls):
        table.add_row(
            parameter.name, Text(parameter.type), Text(str(parameter.default).lower()), Text(parameter.meaning)
        )
    about = inspect.cleandoc(sys.modules[plugin.cls.__module__].__doc__ or "")
    head = Text(f"{plugin.name}: {plugin.cls.title}", style="bold")
    return Group(head, Text(plugin.cls.paper), "", table, "", Text(about))


def datasets_table() -> Table:
    """One row a data set."""
    table = _table("name", "title", "network", "clients", "partition", "source")
    for name in registry.names("dataset"):
        cls = registry.find_dataset(name).cls
        clients = "groups" if cls.clients is None else str(cls.clients)
        table.add_row(name, cls.title, cls.network, clients, cls.partition, Text(cls.source))
    return table


def dataset_details(name: str) -> RenderableType:
    """Title, source and the module's docstring of one data set."""
    plugin = registry.find_dataset(name)
    about = sys.modules[plugin.cls.__module__].__doc__
    if about is None:
        raise BadInput(f"the data set {name} has no docstring")
    return Group(
        Text(f"{plugin.name}: {plugin.cls.title}", style="bold"), Text(plugin.cls.source), "", Text(about.strip())
    )
