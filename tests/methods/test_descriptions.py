"""Every built-in method says what it is and where it departs from its paper."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fedbench
from fedbench import plugins

FOLDER = Path(fedbench.__file__).resolve().parent.parent / "methods"


@pytest.mark.parametrize("name", plugins.names("method"))
def test_departures_are_numbered_at_the_end_of_the_description(name: str) -> None:
    """Readers compare the file with the paper: 1, 2, 3 ... without a hole."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{name.replace('-', '_')}.py").read_text())) or ""
    before, heading, after = text.partition("\nDepartures from the paper")
    assert heading
    assert len(before) > 100
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", after, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) != []
    assert after.startswith("\n\n1. ")


@pytest.mark.parametrize("name", plugins.names("method"))
def test_a_title_and_a_paper_with_its_year(name: str) -> None:
    method = plugins.find_method(name).cls
    assert method.title
    assert re.search(r"\b(19|20)\d\d\b", method.paper) or name == "local"
