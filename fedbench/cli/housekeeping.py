"""`fedbench status`: what a results folder holds."""

from __future__ import annotations

import typer

commands = typer.Typer()
