"""`bench doctor`: what is installed and what is missing."""

from __future__ import annotations

from pathlib import Path

import typer

DISTRIBUTIONS = {"open_clip": "open_clip_torch", "cleanfid": "clean-fid"}
"""Packages that are imported under another name than they are installed."""


def doctor() -> None:
    """What is installed, what is missing, and what it would cost to add."""
    import importlib.metadata
    import os
    import shutil

    from bench.core.extras import EXTRAS, command

    for name in ("torch", *EXTRAS):
        try:
            typer.echo(f"{name:<18}{importlib.metadata.version(DISTRIBUTIONS.get(name, name))}")
        except importlib.metadata.PackageNotFoundError:
            typer.echo(f"{name:<18}missing: {command(EXTRAS[name])}")
    from bench.core.params import UserError
    from bench.models import weights

    for name in ("digits", "gmm-paper"):
        try:
            path = weights.find(name)
            typer.echo(f"weights {name:<10}{path.stat().st_size / 1e6:.1f} MB, {path}")
        except UserError as error:
            typer.echo(f"weights {name:<10}{error}")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    typer.echo(f"{'cores':<18}{os.cpu_count()}\n{'free disk':<18}{free:.0f} GB")
