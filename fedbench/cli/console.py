"""Where commands print, and the options that several of them have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedbench.runs.console import new_console

out, err = new_console(), new_console(stderr=True)

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with NAME.npz data files. Else $FEDBENCH_DATA, else your cache folder.")
]
Results = Annotated[Path, typer.Option(help="Folder of the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
