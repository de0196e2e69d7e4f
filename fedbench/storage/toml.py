"""TOML: files that a user gives, read within bounds, and values as it writes them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedbench.errors import BadInput
from fedbench.storage.disk import read_bytes

LARGEST = 2**20  # bytes


def read_toml(path: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The text of the TOML file at `path` and what it says; `what` names it in errors, e.g. "the experiment file".

    Raises BadInput for a file that cannot be read, that is no TOML, and for one that is beyond all measure.
    """
    try:
        text = read_bytes(path, LARGEST).decode("utf-8-sig")  # some editors begin a file with a mark
    except OSError as error:
        raise BadInput(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{what} {path} is not UTF-8 text") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise BadInput(f"{path}, line {number}: this is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or as many brackets
        raise BadInput(f"{path} holds a number or a nesting that is beyond all measure") from None


def as_toml(value: object) -> str:
    """A value as TOML writes it; None, which TOML does not have, as the text that settings read as None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {as_toml(inner)}' for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if value is None:
        return '"none"'
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
