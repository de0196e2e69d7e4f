"""What each argument of a call from Python may be; the command line looks before, Python users find out here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fedbench.errors import BadInput

_Count = Annotated[int, Field(ge=1)]
_Least0 = Annotated[int, Field(ge=0)]
_Percent = Annotated[float, Field(gt=0, le=100)]
_List = list[Any] | tuple[Any, ...]
_COUNT, _LEAST_0, _SWITCH = "a whole number of at least 1", "a whole number of at least 0", "True or False"

ARGUMENTS: dict[str, tuple[Any, str]] = {
    "methods": (str | Path | type[Any] | _List, "a name, a file, a class, or a list of these"),
    "method": (str | Path | type[Any] | None, "a name, a file or a class"),
    "dataset": (str | Path | type[Any], "a name, a file or a class"),
    "seeds": (int | list[int] | None, "a count such as 3, or a list such as [42, 27]"),
    "preset": (str, "a name such as 'laptop'"),
    "clients": (_Count | None, _COUNT),
    "partition": (str | None, "a text such as 'classes:per_client=2'"),
    "visits": (_Count | None, _COUNT),
    "evaluate_every": (_Count | None, _COUNT),
    "novel_clients": (_Least0, _LEAST_0),
    "adapt_visits": (_Least0 | None, _LEAST_0),
    "network": (str | None, "a text such as 'lenet'"),
    "networks": (str | list[str], "the file of a network, or a list of them"),
    "settings": (dict[str, Any], "a dict such as {'pfedhn.local.lr': 0.01}"),
    "device": (str, "'auto', 'cpu' or 'cuda'"),
    "checkpoint_every": (Annotated[float, Field(ge=0)], "seconds, at least 0"),
    "keep_models": (bool, _SWITCH),
    "keep_state": (bool, _SWITCH),
    "jobs": (_Count | None, "the number of runs at a time, at least 1"),
    "jobs_per_gpu": (_Count, "the number of runs at a time that share a GPU, at least 1"),
    "scheduler": (str | None, "an address such as 'tcp://host:8786', or the name of the file that it wrote"),
    "trials": (_Count, _COUNT),
    "search": (dict[str, str | _List] | None, "a dict such as {'fedavg.local.lr': [0.1, 0.01]}"),
    "at": (list[_Count], "a list of visits such as [250, 500]"),
    "targets": (list[_Percent], "a list of accuracies in percent, at most 100, such as [70, 80]"),
    "reference": (str | None, "the name of a method"),
    "figures": (_Least0, _LEAST_0),
    "partitions": (bool, _SWITCH),
    "tuned": (dict[str, str] | None, "a dict such as {'fedavg': 'tuned, 16 trials, 9,600 visits'}"),
    "experiment": (str, "a name such as 'table1', or a file"),
    "run": (bool, _SWITCH),
    "modules": (bool, _SWITCH),
    "any_code": (bool, _SWITCH),
}


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(ARGUMENTS[name][0], config=ConfigDict(strict=True))


def checked(name: str, value: object) -> Any:
    """The value of the argument `name`, with numbers and lists of numpy as those of Python. Raises BadInput."""
    plain = _plain(value)
    try:
        _adapter(name).validate_python(plain)
    except ValidationError:
        raise BadInput(f"{name}={value!r:.100} cannot be: give {ARGUMENTS[name][1]}") from None
    return plain


def check(**given: object) -> None:
    """Raise BadInput for an argument that is of another type, or out of its range."""
    for name, value in given.items():
        checked(name, value)


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range) or hasattr(value, "tolist"):
        whole = value.tolist() if hasattr(value, "tolist") else value
        return [_plain(each) for each in whole] if isinstance(whole, list | tuple | range) else whole
    return value
