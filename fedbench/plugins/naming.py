"""What a user means by a name: `CIFAR-10` is `cifar10`, and the title of a plug-in is as good as its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from fedbench.errors import BadInput


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def meant(text: str, names: Iterable[str], title: Callable[[str], Any]) -> str | None:
    """The one of `names` that `text` means: by its letters and digits alone, or by what `title` says of a name.

    None where there is none, or more than one.
    """
    known, wanted = list(names), _squeezed(text)
    if not wanted:
        return None
    found = [name for name in known if _squeezed(name) == wanted]
    if not found:
        for name in known:
            try:
                if _squeezed(str(title(name))) == wanted:
                    found.append(name)
            except BadInput:  # a broken plug-in has no title
                continue
    return found[0] if len(found) == 1 else None
