"""Hyperparameters of a method as plain data: read off its fields, validated, and put together again."""

from __future__ import annotations

import dataclasses
import math
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedbench.errors import BadInput, unknown_name
from fedbench.method import Method
from fedbench.plugins.finding import Plugin
from fedbench.plugins.guard import guarded, line_of

Scalar = bool | int | float | str | None
SCALARS = "a number, a text, true or false, none, or a dataclass of these"
EFFORT = ("steps_per_visit", "gradients_per_visit", "gradients_to_personalize")  # what a method declares to cost
LARGEST = {"layers": 1000, "steps": 10**6, "": 10**9}  # whole numbers of hyperparameters with such names


@dataclass(frozen=True)
class Hyperparameter:
    """One settable value of a method; the fields of a nested group have dotted names."""

    name: str
    type: str
    default: Scalar
    meaning: str


def hyperparameters(cls: type[Any], *, required: bool = False) -> list[Hyperparameter]:
    """The hyperparameters of a method, nested groups flattened to dotted names, in the order they are declared.

    Raises BadInput where an annotation or a default cannot be read, and where there is no default; with `required`,
    which is for the settings of a partition, the default is then None.
    """
    with guarded(cls.__name__, "has hyperparameters that cannot be read"):
        if required:
            nothing = {field.name: None for field in dataclasses.fields(cls) if is_required(field)}
            return list(_fields(cls, (), values=SimpleNamespace(**{**_defaults(cls), **nothing})))
        return list(_fields(cls, ()))


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _defaults(cls: type[Any]) -> dict[str, Any]:
    return {field.name: _default(cls, field) for field in dataclasses.fields(cls) if not is_required(field)}


def _fields(
    cls: type[Any], within: tuple[type[Any], ...], prefix: str = "", values: object = None
) -> Iterator[Hyperparameter]:
    hints = field_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "task" and not within:
            continue
        hint, name = hints[field.name], prefix + field.name
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        meaning = " ".join(str(getattr(note, "description", None) or "") for note in typing.get_args(hint)[1:])
        default = _default(cls, field) if values is None else getattr(values, field.name)
        if dataclasses.is_dataclass(plain):
            assert isinstance(plain, type)
            if plain in (*within, cls):
                where = f"{name}.* are a {plain.__name__} in a {plain.__name__}{line_of(cls, field.name)}"
                raise BadInput(f"the hyperparameters {where}: nest no group in itself")
            if not isinstance(default, plain):
                given = f"{default!r:.100}{line_of(cls, field.name)}: write e.g. `{plain.__name__}()`"
                raise BadInput(f"the default of the hyperparameters {name}.* must be a {plain.__name__}, not {given}")
            yield from _fields(plain, (*within, cls), f"{name}.", default)
        elif not isinstance(default, Scalar):
            raise BadInput(
                f"the hyperparameter {name} is a {type(default).__name__}: use {SCALARS}{line_of(cls, field.name)}"
            )
        else:
            yield Hyperparameter(name, _type_name(plain), default, meaning.strip())


def _default(cls: type[Any], field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    where = line_of(cls, field.name)
    if field.default_factory is dataclasses.MISSING:
        raise BadInput(
            f"the hyperparameter {field.name} of {cls.__name__} has no default{where}: give it the paper's value"
        )
    with guarded(f"the default of {cls.__name__}.{field.name}{where}", "cannot be made"):
        return field.default_factory()


def field_hints(cls: type[Any]) -> dict[str, Any]:
    """The annotations of a dataclass, evaluated. Raises BadInput, naming the field, where one cannot be."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:
        fields = {field.name for field in dataclasses.fields(cls)}
        for owner in reversed(cls.__mro__):
            written: dict[str, Any] = vars(owner).get("__annotations__", {})
            for name, annotation in written.items():
                if name not in fields:
                    continue
                alone = SimpleNamespace(__annotations__={name: annotation})
                variables = vars(sys.modules.get(owner.__module__, typing))
                with guarded(f"the annotation of {owner.__name__}.{name}{line_of(owner, name)}", "cannot be read"):
                    typing.get_type_hints(alone, variables, dict(vars(owner)))
        raise


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def configure(plugin: Plugin, settings: Mapping[str, object]) -> dict[str, Scalar]:
    """All hyperparameters of a method by dotted name: the defaults, and `settings` (text or values) over them.

    Raises BadInput for an unknown name, a wrong type, or a value out of its range or out of all reason.
    """
    known = {h.name: h.default for h in hyperparameters(plugin.cls)}
    for name in settings:
        if not name:
            raise BadInput(
                f"{plugin.name} is no hyperparameter: name one of its, e.g. {plugin.name}.{next(iter(known))}"
            )
        if name not in known:
            raise unknown_name(f"hyperparameter of {plugin.name}", name, known)
        if isinstance(settings[name], bool) and type(known[name]) in (int, float):  # which a number would take for 1
            raise BadInput(f"{plugin.name}.{name}={settings[name]} is no number: give one, such as {known[name]}")
    cleaned = {
        key: None if isinstance(value, str) and value.lower() == "none" else value for key, value in settings.items()
    }
    flat = _flatten(_validated(plugin, {**known, **cleaned}))
    for name, value in flat.items():
        sane(f"{plugin.name}.{name}", value)
    return flat


def sane(name: str, value: object, largest: int | None = None) -> None:
    """Raise BadInput for a number that is none or infinite, and for a count whose work would never end."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{name}={value} is no finite number: give one")
    most = largest or next(most for ending, most in LARGEST.items() if name.endswith(ending))
    if isinstance(value, int) and abs(value) > most:
        raise BadInput(f"{name}={value} is more than makes sense: give at most {most}")


def build(plugin: Plugin, task: Any, params: Mapping[str, object]) -> Method:
    """The method with the hyperparameters `params` (dotted names), for `task`.

    Raises BadInput where they are refused, and where what a visit costs is no whole number: results hold sums of it.
    """
    values = _validated(plugin, params)
    with guarded(plugin.name, "cannot be set up"):
        method: Method = plugin.cls(task=task, **values)
        effort = {name: getattr(method, name) for name in EFFORT}
    for name, value in effort.items():
        if type(value) is not int or value < 0:
            what = f"{plugin.name}: its {name} is {str(value)[:100]!r}, a {type(value).__name__}"
            raise BadInput(f"{what}; return a whole number of at least 0, as int(...) gives")
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
        where = f"the hyperparameter {name} of {plugin.name}{line_of(plugin.cls, name)}"
        with guarded(where, "has an annotation or a value that cannot be used", f"annotate it as {SCALARS}"):
            try:
                values[name] = TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]
                setting = ".".join([plugin.name, name, *map(str, problem["loc"])])
                raise BadInput(f"{setting}={str(problem['input'])[:100]}: {problem['msg'].lower()}") from None
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
            raise BadInput(f"the hyperparameter {prefix}{name} is a {type(value).__name__}: use {SCALARS}")
    return flat
