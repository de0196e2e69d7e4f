"""`fedbench list`: what there is, with its settings and where it comes from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench import plugins
from fedbench.dataset import Dataset
from fedbench.errors import BadInput
from fedbench.method import Method
from fedbench.plugins import Hyperparameter

if TYPE_CHECKING:
    from fedbench.runs.tuning import Tuned


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head in ("name", "title"), overflow="fold")
    return table


def _hyperparameters(found: Iterable[Hyperparameter]) -> Table:
    table = _table("name", "type", "default", "meaning")
    for parameter in found:
        default = Text(str(parameter.default).lower())
        table.add_row(parameter.name, Text(parameter.type), default, Text(parameter.meaning))
    return table


def methods_table() -> RenderableType:
    """One row a method, and the hyperparameters: those of all methods once, then each method's own."""
    table = _table("name", "title", "paper")
    found: dict[str, dict[str, Hyperparameter]] = {}
    for name in plugins.names("method"):
        try:
            cls = plugins.find_method(name).cls
            table.add_row(name, cls.title, Text(cls.paper))
            found[name] = {parameter.name: parameter for parameter in plugins.hyperparameters(cls)}
        except BadInput as error:  # a broken installed plug-in must not hide the others
            table.add_row(name, "-", Text(str(error).splitlines()[-1], style="red"))
    common = {parameter.name: parameter for parameter in plugins.hyperparameters(Method)}
    parts: list[RenderableType] = [table, "", Text("Hyperparameters of every method", style="bold")]
    parts.append(_hyperparameters(common.values()))
    for name, mine in found.items():
        own = [p for p in mine.values() if p.name not in common or p.default != common[p.name].default]
        if own:
            parts += ["", Text(f"{name}: its own, and its other defaults", style="bold"), _hyperparameters(own)]
    return Group(*parts)


def method_details(name: str) -> RenderableType:
    """Title, paper, hyperparameters and the module's docstring of one method."""
    plugin = plugins.find_method(name)
    about = inspect.cleandoc(sys.modules[plugin.cls.__module__].__doc__ or "")
    head = Text(f"{plugin.name}: {plugin.cls.title}", style="bold")
    table = _hyperparameters(plugins.hyperparameters(plugin.cls))
    return Group(head, Text(plugin.cls.paper), "", table, "", Text(about))


def datasets_table() -> Table:
    """One row a data set."""
    table = _table("name", "title", "network", "clients", "partition", "source")
    for name in plugins.names("dataset"):
        try:
            cls = plugins.find_dataset(name).cls
            table.add_row(name, cls.title, *_defaults(cls), Text(cls.source))
        except BadInput as error:
            table.add_row(name, "-", "-", "-", "-", Text(str(error).splitlines()[-1], style="red"))
    return table


def _defaults(cls: type[Dataset]) -> tuple[str, str, str]:
    return cls.network, "one a group" if cls.clients is None else str(cls.clients), cls.partition


def dataset_details(name: str) -> RenderableType:
    """Title, source, defaults and the module's docstring of one data set."""
    plugin = plugins.find_dataset(name)
    about = inspect.cleandoc(sys.modules[plugin.cls.__module__].__doc__ or "")
    network, clients, partition = _defaults(plugin.cls)
    facts = Text(f"network {network}, clients {clients}, partition {partition}, unless asked for others")
    head = Text(f"{plugin.name}: {plugin.cls.title}", style="bold")
    return Group(head, Text(plugin.cls.source), facts, "", Text(about))


def tuned_table(found: Iterable[Tuned]) -> Table:
    """What a search chose for each method, and what it cost."""
    table = _table("method", "chosen", "validation, %", "settings tried", "trials", "visits")
    for each in found:
        chosen = ", ".join(f"{name}={value}" for name, value in each.settings.items())
        visits = f"{each.visits:,}" + (" (each rung anew)" if each.anew else "")
        trials = f"{each.trials}" + (f" ({each.failed} failed)" if each.failed else "")
        table.add_row(each.method, Text(chosen), f"{100 * each.score:.2f}", str(each.points), trials, visits)
    return table
