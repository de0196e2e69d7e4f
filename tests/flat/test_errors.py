"""The sentence for a name that is not known."""

from __future__ import annotations

import pytest

from fedbench.errors import unknown_name

NAMES = ["pfedme", "pfedhn", "pfedhn-pc", "local"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("locl", " Did you mean 'local'? "),
        ("pfedhm", " Did you mean 'pfedme' or 'pfedhn'? "),  # one letter from either
        ("pFedHN_PCC", " Did you mean 'pfedhn-pc'? "),
        ("zzz", " "),
    ],
)
def test_all_that_are_nearest_are_named(name: str, hint: str) -> None:
    assert str(unknown_name("method", name, NAMES)) == (
        f"there is no method called {name!r}.{hint}Known: local, pfedhn, pfedhn-pc, pfedme"
    )
