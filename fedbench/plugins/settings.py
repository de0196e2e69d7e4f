"""Hyperparameters of a method as plain data: read off its fields, validated, and put together again."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedbench.errors import BadInput, unknown_name
from fedbench.method import Method
from fedbench.plugins.finding import Plugin

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Hyperparameter:
    """One settable value of a method; the fields of a nested group have dotted names."""

    name: str
    type: str
    default: Scalar
    meaning: str


def hyperparameters(cls: type[Any]) -> list[Hyperparameter]:
    """The hyperparameters of a method, nested groups flattened to dotted names, in the order they are declared."""
    return list(_fields(cls, ""))


def _fields(cls: type[Any], prefix: str, values: object = None) -> Iterator[Hyperparameter]:
    hints = field_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "task":
            continue
        hint = hints[field.name]
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        meaning = " ".join(getattr(note, "description", None) or "" for note in typing.get_args(hint)[1:])
        default = field.default if values is None else getattr(values, field.name)
        if default is dataclasses.MISSING:
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(plain):
            assert isinstance(plain, type)
            yield from _fields(plain, f"{prefix}{field.name}.", default)
        else:
            yield Hyperparameter(prefix + field.name, _type_name(plain), default, meaning.strip())


def field_hints(cls: type[Any]) -> dict[str, Any]:
    """The annotations of a method's fields. Raises BadInput where one cannot be read."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise BadInput(f"an annotation of {cls.__name__} cannot be read at run time: {error}") from None


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def configure(plugin: Plugin, settings: Mapping[str, object]) -> dict[str, Scalar]:
    """All hyperparameters of a method by dotted name: the defaults, and `settings` (text or values) over them.

    Raises BadInput for an unknown name, a wrong type, or a value out of its range.
    """
    known = {h.name: h.default for h in hyperparameters(plugin.cls)}
    for name in settings:
        if name not in known:
            raise unknown_name(f"hyperparameter of {plugin.name}", name, known)
    cleaned = {
        key: None if isinstance(value, str) and value.lower() == "none" else value for key, value in settings.items()
    }
    return _flatten(_validated(plugin, {**known, **cleaned}))


def build(plugin: Plugin, task: Any, params: Mapping[str, object]) -> Method:
    """The method with the hyperparameters `params` (dotted names), for `task`."""
    method: Method = plugin.cls(task=task, **_validated(plugin, params))
    return method


def _validated(plugin: Plugin, params: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in params.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    hints = field_hints(plugin.cls)
    values = {}
    for name, value in nested.items():
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join([plugin.name, name, *map(str, problem["loc"])])
            raise BadInput(f"{where}={problem['input']}: {problem['msg'].lower()}") from None
    return values


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(
                _flatten({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, f"{prefix}{name}.")
            )
        elif isinstance(value, Scalar):
            flat[prefix + name] = value
        else:
            kinds = "a number, a text, true or false, none, or a dataclass of these"
            raise BadInput(f"the hyperparameter {prefix}{name} is a {type(value).__name__}: use {kinds}")
    return flat
