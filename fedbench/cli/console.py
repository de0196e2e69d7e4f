"""Where commands print, and the options that several of them have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)  # a log file is not 80 columns wide
err = Console(stderr=True, highlight=False)

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with NAME.npz data files. Else $FEDBENCH_DATA, else your cache folder.")
]
Results = Annotated[Path, typer.Option(help="Folder of the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
