"""What of a method may be searched: its space, the points in it, and how a user narrows or widens it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from fedbench.errors import BadInput, unknown_name
from fedbench.plugins.finding import Plugin
from fedbench.plugins.settings import Scalar, configure, field_hints, hyperparameters
from fedbench.search import Grid, LogRange
from fedbench.seeds import numpy_stream

DRAWS = 10  # so many for each point that is wanted, before there are held to be no more
Dimension = Grid | LogRange
Point = dict[str, Scalar]  # hyperparameter, by dotted name -> value


def search_space(cls: type[Any]) -> dict[str, Dimension]:
    """What of a method may be searched, by dotted name, in the order of its hyperparameters."""
    return {name: found for name, found in _notes(cls, "") if not (isinstance(found, Grid) and not found.values)}


def _notes(cls: type[Any], prefix: str) -> list[tuple[str, Dimension]]:
    found: dict[str, Dimension] = {}
    hints = field_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "task":
            continue
        hint = hints[field.name]
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        notes = [note for note in typing.get_args(hint)[1:] if isinstance(note, (Grid, LogRange))]
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(plain) and isinstance(plain, type):
            found |= dict(_notes(plain, f"{name}."))
            found |= {f"{name}.{note.of}": note for note in notes}  # what the group says goes before
        else:
            found.update([(name, note) for note in notes])
    return list(found.items())


def changed(plugin: Plugin, changes: Mapping[str, str]) -> dict[str, Dimension]:
    """The space of a method with `changes`: a hyperparameter's values, `a,b,c`, or its range, `low..high`.

    Only what is named is searched, where anything is. Raises BadInput for an unknown hyperparameter, an empty list, a
    value that is there twice or that it cannot have, and a range of whole numbers.
    """
    if not changes:
        return search_space(plugin.cls)
    known = [parameter.name for parameter in hyperparameters(plugin.cls)]
    space: dict[str, Dimension] = {}
    for name, text in changes.items():
        what = f"--search {plugin.name}.{name}={text}"
        if name not in known:
            raise unknown_name(f"hyperparameter of {plugin.name}", name, known)
        low, dots, high = text.partition("..")
        if dots:
            try:
                space[name] = LogRange(float(low), float(high))
            except ValueError:
                raise BadInput(f"{what}: write LOW..HIGH with two numbers, 0 < LOW < HIGH, e.g. 1e-4..1e-1") from None
            for end in (low, high):
                if not isinstance(configure(plugin, {name: end})[name], float):
                    raise BadInput(
                        f"{what}: a range draws fractions, and {name} is none: name its values, e.g. {low},{high}"
                    )
            continue
        values = [configure(plugin, {name: value.strip()})[name] for value in text.split(",") if value.strip()]
        if not values or None in values:
            raise BadInput(f"{what}: name the values that are tried, with commas between them, e.g. 0.1,0.01")
        if len(set(map(repr, values))) < len(values):
            raise BadInput(f"{what}: a value is there twice: name each once")
        space[name] = Grid(*(value for value in values if value is not None))
    return space


def points(plugin: Plugin, space: Mapping[str, Dimension], count: int, seed: int) -> list[Point]:
    """Up to `count` different points of `space`, the method's defaults first unless a user's values leave them out.

    A grid with more points is sampled without replacement; one with fewer is taken whole. The draw depends on the
    method's name, the space and the seed alone. Raises BadInput where there is nothing to search.
    """
    if not space:
        hint = f"name something, --search {plugin.name}.FIELD=a,b,c"
        raise BadInput(f"nothing of {plugin.name} is marked to be searched and not fixed: {hint}")
    rng = numpy_stream(seed, "tune", plugin.name)
    params = configure(plugin, {})
    default, own = {name: params[name] for name in space}, search_space(plugin.cls)
    # a user's values may leave the defaults out, a method's own do not
    among = all(space[name] == own.get(name) or _holds(space[name], value) for name, value in default.items())
    if all(isinstance(dimension, Grid) for dimension in space.values()):
        grids: Sequence[Sequence[Scalar]] = [d.values for d in space.values() if isinstance(d, Grid)]
        every = [dict(zip(space, values, strict=True)) for values in itertools.product(*grids)]
        first = [default] if among else []
        others = [point for point in every if point != default]
        wanted = count - len(first)
        if len(others) > wanted:
            others = [others[i] for i in sorted(rng.choice(len(others), wanted, replace=False))]
        return [*first, *others]
    drawn: list[Point] = [default] if among else []
    for _ in range(DRAWS * count):  # a narrow range has few values of three digits
        if len(drawn) == count:
            break
        point = {name: _draw(dimension, rng) for name, dimension in space.items()}
        if point not in drawn:
            drawn.append(point)
    return drawn


def _holds(dimension: Dimension, value: Scalar) -> bool:
    if isinstance(dimension, Grid):
        return value in dimension.values
    return isinstance(value, (int, float)) and dimension.low <= value <= dimension.high


def _draw(dimension: Dimension, rng: Any) -> Scalar:
    if isinstance(dimension, Grid):
        value: Scalar = dimension.values[int(rng.integers(len(dimension.values)))]
        return value
    exponent = rng.uniform(math.log(dimension.low), math.log(dimension.high))
    return min(max(float(f"{math.exp(exponent):.3g}"), dimension.low), dimension.high)


def at_the_edge(space: Mapping[str, Dimension], point: Point) -> dict[str, str]:
    """For each chosen value that is the least or greatest of its grid of numbers: "least" or "greatest"."""
    found = {}
    for name, dimension in space.items():
        values = dimension.values if isinstance(dimension, Grid) else (dimension.low, dimension.high)
        numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if len(numbers) == len(values) > 1 and point[name] in (min(numbers), max(numbers)):
            found[name] = "least" if point[name] == min(numbers) else "greatest"
    return found
