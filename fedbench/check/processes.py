"""Fresh processes, in which nothing of what happened in this one is known; each with a `PYTHONHASHSEED` of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedbench.check.sentence import Broken

HASHES = ("4711", "1789")


def start(arguments: Sequence[str], hash_seed: str) -> subprocess.Popen[bytes]:
    """Python with such arguments. It finds what this process finds, and nothing in the current folder besides."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def answers(body: str, *arguments: str) -> list[Any]:
    """What the function `answer(*arguments)` that `body` defines returns in two processes, as far as JSON tells.

    Raises Broken, with the last line of what was printed, where it fails in one of them.
    """
    told = "pathlib.Path(sys.argv[1]).write_text(json.dumps(answer(*sys.argv[2:])))"
    script = f"import json, pathlib, sys\n{body}\n{told}"
    with tempfile.TemporaryDirectory(prefix="fedbench-check-") as folder:
        files = [Path(folder) / seed for seed in HASHES]
        under_way = [
            start(["-c", script, str(file), *arguments], seed) for file, seed in zip(files, HASHES, strict=True)
        ]
        printed = [process.communicate()[0].decode(errors="replace") for process in under_way]
        for process, text in zip(under_way, printed, strict=True):
            if process.returncode != 0:
                raise Broken(f"in a process of its own: {(text.strip().splitlines() or ['it ended'])[-1]}")
        return [json.loads(file.read_text()) for file in files]
