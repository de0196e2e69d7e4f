"""`fedbench list`: what there is, with its settings and where it comes from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedbench import plugins
from fedbench.dataset import Dataset
from fedbench.errors import BadInput
from fedbench.method import Method
from fedbench.models import ALIASES, Network
from fedbench.partition import Kind
from fedbench.plugins import Hyperparameter, Plugin
from fedbench.plugins.space import search_space
from fedbench.search import Grid, LogRange

if TYPE_CHECKING:
    from fedbench.runs.tuning import Tuned


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head in ("name", "title"), overflow="fold")
    return table


def _hyperparameters(found: Iterable[Hyperparameter], space: Mapping[str, Grid | LogRange] | None = None) -> Table:
    heads = ("name", "type", "default", "meaning")
    table = _table(*heads) if space is None else _table(*heads, "searched")
    for parameter in found:
        default = Text(str(parameter.default).lower())
        row: list[RenderableType] = [parameter.name, Text(parameter.type), default, Text(parameter.meaning)]
        table.add_row(*row, *([] if space is None else [Text(_searched(space.get(parameter.name)))]))
    return table


def _searched(dimension: Grid | LogRange | None) -> str:
    """What `fedbench tune` tries of a hyperparameter."""
    if dimension is None:
        return ""
    if isinstance(dimension, Grid):
        return ", ".join(str(value).lower() for value in dimension.values)
    return f"{dimension.low:g} .. {dimension.high:g}"


def methods_table() -> RenderableType:
    """One row a method, and the hyperparameters: those of all methods once, then each method's own."""
    table = _table("name", "title", "paper")
    found: dict[str, dict[str, Hyperparameter]] = {}
    for name in plugins.names("method"):
        try:
            cls = plugins.find_method(name).cls
            table.add_row(name, Text(cls.title), Text(cls.paper))
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
    table = _hyperparameters(plugins.hyperparameters(plugin.cls), search_space(plugin.cls))
    return Group(head, Text(plugin.cls.paper), "", table, "", Text(about))


def datasets_table() -> Table:
    """One row a data set."""
    table = _table("name", "title", "network", "clients", "partition", "source")
    for name in plugins.names("dataset"):
        try:
            cls = plugins.find_dataset(name).cls
            table.add_row(name, Text(cls.title), *map(Text, _defaults(cls)), Text(cls.source))
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
        visits = f"{each.visits:,}" + (" (rungs begun anew)" if each.anew else "")
        trials = f"{each.trials}" + (f" ({each.failed} failed)" if each.failed else "")
        table.add_row(each.method, Text(chosen), f"{100 * each.score:.2f}", str(each.points), trials, visits)
    return table


def partitions_table() -> RenderableType:
    """One row a partition, and the settings of all of them."""
    table = _table("name", "what a client holds")
    settings: list[RenderableType] = []
    for name in plugins.names("partition"):
        try:
            cls = plugins.find_partition(name).cls
            table.add_row(name, Text(_first_sentence(cls)))
            found = plugins.hyperparameters(cls, required=True)
        except BadInput as error:
            table.add_row(name, Text(str(error).splitlines()[-1], style="red"))
            continue
        if found:
            settings += ["", Text(f"{name}: its settings, as in {_example(name, found)}", style="bold")]
            settings.append(_hyperparameters(found))
    return Group(table, *settings)


def _first_sentence(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _example(name: str, found: Sequence[Hyperparameter]) -> str:
    return f"{name}:" + ",".join(f"{p.name}={'2' if p.default is None else p.default}" for p in found[:2])


def partition_details(name: str) -> RenderableType:
    """Settings and docstring of one partition."""
    plugin = plugins.find_partition(name)
    cls: type[Kind] = plugin.cls
    found = plugins.hyperparameters(cls, required=True)
    parts: list[RenderableType] = [Text(plugin.name, style="bold")]
    if found:
        parts += [Text(f"--partition {_example(plugin.name, found)}"), "", _hyperparameters(found)]
    return Group(*parts, "", Text(inspect.getdoc(cls) or ""))


SHAPES = ((1, 28, 28), (3, 32, 32), (1, 8, 8))  # of images, that a network is shown for


def networks_table() -> Table:
    """One row a network."""
    table = _table("name", "layers", "parameters", "for images of")
    for name in plugins.names("network"):
        try:
            image, made = _shown_for(plugins.find_network(name))
            size = sum(prod(shape) for shape in made.shapes.values())
            table.add_row(name, Text(_layers(made)), str(size), " x ".join(map(str, image)))
        except BadInput as error:
            table.add_row(name, Text(str(error).splitlines()[-1], style="red"))
    table.caption = "parameters: with 10 classes, for the smallest of a few usual images that each takes"
    return table


def _shown_for(plugin: Plugin) -> tuple[tuple[int, int, int], Network]:
    """An image shape that a network takes, and the network for it and 10 classes."""
    refusal = BadInput("")
    for image in sorted(SHAPES, key=prod):
        try:
            return image, plugins.network(plugin, image, 10)
        except BadInput as error:
            refusal = error
    raise refusal


def _layers(network: Network) -> str:
    """The layers in forward order: convolutions by kernels and size, linear layers by rows."""
    texts = []
    for layer in network.layers:
        shape = network.shapes[f"{layer}.weight"]
        size = f" {'x'.join(map(str, shape[2:]))}" if len(shape) > 2 else ""
        texts.append(f"{layer} {shape[0]}{size}")
    return ", ".join(texts)


def network_details(name: str) -> RenderableType:
    """Parameters of one network, for a usual image shape, and its docstring."""
    plugin = plugins.find_network(name)
    image, made = _shown_for(plugin)
    table = _table("parameter", "shape", "part")
    for parameter, shape in made.shapes.items():
        table.add_row(parameter, " x ".join(map(str, shape)), "head" if parameter in made.head else "body")
    also = [alias for alias, of in ALIASES.items() if of == plugin.name]
    facts = f"for images of {' x '.join(map(str, image))} and 10 classes; {'' if made.fast else 'not '}on the fast path"
    head = Text(plugin.name + (f", also called {', '.join(also)}" if also else ""), style="bold")
    about = inspect.cleandoc(sys.modules[plugin.cls.__module__].__doc__ or "") if plugin.code else ""
    return Group(head, Text(facts), "", table, "", Text(inspect.getdoc(plugin.cls) or about))
