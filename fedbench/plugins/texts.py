"""The text forms of a partition and of the clients' networks, as options, experiment files and specs write them.

    classes:per_client=2,spare=0          a partition and its settings
    lenet                                 one network for all clients
    lenet-8*25,lenet*25,lenet-32*25       25 clients each, in the order of the clients' numbers
    lenet-8*25,lenet*50:shuffled          the same, dealt at random (by the run's seed)

A name may be a plug-in file instead, `./mine.py:field=3`; in the canonical text it is the plug-in's name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pydantic

from fedbench.dataset import Dataset
from fedbench.errors import BadInput, unknown_name
from fedbench.partition import Kind
from fedbench.partitions import Classes
from fedbench.plugins.finding import Plugin, find_network, find_partition
from fedbench.plugins.guard import guarded
from fedbench.plugins.settings import is_required, sane
from fedbench.seeds import numpy_stream

MOST = 10**6  # clients, rows, shares: whole numbers that a partition is told


def partition_plugin(text: str | None, dataset: type[Dataset] | Dataset) -> Plugin:
    """The kind of partition that `text` names; without a text the data set's own."""
    return find_partition(cut(_partition_text(text, dataset))[0])


def _partition_text(text: str | None, dataset: type[Dataset] | Dataset) -> str:
    if text is not None and not text.strip():
        raise BadInput("the partition is an empty text: name one, e.g. dirichlet:alpha=0.3, or leave the option out")
    return dataset.partition if text is None else text


def partition_file(text: str | None, dataset: type[Dataset] | Dataset) -> str:
    """The absolute text of a partition that is a file, which finds it from any folder; empty where it has a name."""
    where = partition_plugin(text, dataset).where
    settings = cut(_partition_text(text, dataset))[1]
    return "" if not where.endswith(".py") else where if settings is None else f"{where}:{settings}"


def listed(text: str) -> list[str]:
    """The names and files of a text that has commas between them; one file where it is the path of one."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        if text.endswith(".py") and Path(text).expanduser().is_file():
            return [text]
    return text.split(",")


def cut(text: str) -> tuple[str, str | None]:
    """Of the text of a partition name or file, and what follows its colon; None where there is no colon."""
    file, dot_py, rest = text.partition(".py:")
    if dot_py:
        return f"{file}.py", rest
    if text.endswith(".py"):
        return text, None
    name, colon, settings = text.partition(":")
    return name, settings if colon else None


def parse_partition(text: str | None, dataset: type[Dataset] | Dataset) -> Kind:
    """The partition that `text` names; without a text the data set's own.

    Raises BadInput for an unknown name or field, a field given twice, and a value that cannot be.
    """
    plugin = partition_plugin(text, dataset)
    kind: type[Kind] = plugin.cls
    text = _partition_text(text, dataset)
    settings = cut(text)[1]
    known = [field.name for field in fields(kind)]
    given: dict[str, Any] = {}
    for item in settings.split(",") if settings is not None else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value) or not known:
            usage = f"write FIELD=VALUE with a field of {kind.name}: {', '.join(known) or 'it has none'}"
            raise BadInput(f"in the partition {text!r}, {item!r} cannot be read; {usage}")
        key = key.replace("-", "_")
        if key not in known:
            raise unknown_name(f"field of the partition {kind.name!r}", key, known)
        if key in given:
            raise BadInput(f"in the partition {text!r}, {key} is set twice: say it once")
        given[key] = None if value.lower() == "none" else value  # as `str` writes None
    if kind is Classes:
        given.setdefault("per_client", dataset.classes_per_client)
    missing = [field.name for field in fields(kind) if is_required(field) and field.name not in given]
    if missing:
        name, example = cut(text)[0], ",".join(f"{each}=..." for each in missing)
        raise BadInput(f"the partition {text!r} lacks {missing[0]}, which has no default: write {name}:{example}")
    with guarded(f"the partition {text!r}", "cannot be set up"):
        try:
            made = kind(**given)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where} = {str(first['input'])[:100]}: " if where else ""
            raise BadInput(f"the partition {text!r} cannot be: {what}{first['msg']}") from None
        for field in fields(made):
            sane(f"in the partition {text!r}, {field.name}", getattr(made, field.name), MOST)
        return made


@dataclass(frozen=True)
class Networks:
    """Which networks the clients have. `counts` says how many clients have each of the `plugins`."""

    plugins: Sequence[Plugin]
    counts: Sequence[int]
    shuffled: bool

    def __str__(self) -> str:
        if len(self.plugins) == 1:
            return self.plugins[0].name
        text = ",".join(f"{plugin.name}*{count}" for plugin, count in zip(self.plugins, self.counts, strict=True))
        return text + (":shuffled" if self.shuffled else "")

    @property
    def distinct(self) -> list[Plugin]:
        """Every network once, in the order of first mention."""
        return list({plugin.name: plugin for plugin in self.plugins}.values())

    def places(self, seed: int) -> list[int]:
        """For each client the place of its network among `distinct`."""
        names = [plugin.name for plugin in self.distinct]
        each = [
            names.index(plugin.name)
            for plugin, count in zip(self.plugins, self.counts, strict=True)
            for _ in range(count)
        ]
        if self.shuffled:
            order = numpy_stream(seed, "networks").permutation(len(each))
            return [each[i] for i in order]
        return each


def parse_networks(text: str, clients: int, where: Mapping[str, str] | None = None) -> Networks:
    """The networks that `text` gives to `clients` clients; `where` says which names are plug-in files.

    Neighbours with one network are counted together. Raises BadInput for an unknown network, for a count that is none,
    and where the counts do not add up to the clients.
    """
    if not text.strip():
        raise BadInput("the network is an empty text: name one, e.g. lenet, or leave the option out")
    text = text.strip()
    body, order = (text.removesuffix(":shuffled"), True) if text.endswith(":shuffled") else (text, False)
    items = [item.strip() for item in listed(body)]
    found: list[tuple[Plugin, int]] = []
    for item in items:
        name, star, number = item.rpartition("*") if "*" in item else (item, "", "")
        if star and not re.fullmatch(r"\s*0*[1-9][0-9]{0,5}\s*", number):
            raise BadInput(f"in the networks {text!r}, {item!r} cannot be read: write NAME*CLIENTS, e.g. lenet-8*25")
        if not item:
            raise BadInput(f"in the networks {text!r} there is nothing before or after a comma: remove the comma")
        if not star and (len(items) > 1 or order):
            raise BadInput(f"in the networks {text!r}, {item!r} has no number of clients: write {item}*CLIENTS")
        plugin = find_network((where or {}).get(name.strip(), name.strip()))
        count = int(number) if star else clients
        if other := next((o for o, _ in found if o.name == plugin.name and o.where != plugin.where), None):
            raise BadInput(
                f"in the networks {text!r}, {other.where} and {plugin.where} have one name, by which results tell "
                "networks apart: rename one of the files"
            )
        if found and found[-1][0].name == plugin.name:
            found[-1] = (plugin, found[-1][1] + count)
        else:
            found.append((plugin, count))
    total = sum(count for _, count in found)
    if total != clients:
        raise BadInput(f"the networks {text!r} are for {total} clients, and there are {clients}: make them add up")
    plugins, counts = zip(*found, strict=True)
    return Networks(plugins, counts, order and len(found) > 1)
