"""`bench doctor`: what is installed and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import AsJson

DISTRIBUTIONS = {"open_clip": "open_clip_torch", "cleanfid": "clean-fid"}
"""Packages that are imported under another name than they are installed."""


EXAMPLE = "bench doctor quickstart --address auto --path /shared/runs"


def doctor(
    suite: Annotated[
        str, typer.Argument(metavar="[SUITE]", help="Whose weights nodes should have.")
    ] = "quickstart",
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster, every node of which is asked.")
    ] = None,
    path: Annotated[
        list[str], typer.Option("--path", help="A file or folder that every node should have.")
    ] = [],  # noqa: B006  # typer reads list defaults and never mutates them
    as_json: AsJson = False,
) -> None:
    """What is installed, what is missing, and what it would cost to add; or that of a cluster.

    With --address: Python, torch, tiltbench, GPUs, weights and paths of every node, and where one
    differs from this machine, what mends it.
    """
    from bench.core.params import UserError

    if address is not None:
        from bench.cli.doctor_nodes import show_nodes

        return show_nodes(address, suite, path, as_json)
    if path or as_json:
        raise UserError("--path and --json belong to a cluster: give --address too")
    return _here()


def _published() -> None:
    """Published weights: how many are here, and the command that fetches the others."""
    from bench.models.external import EXTERNAL, cache_folder

    folder = cache_folder()
    here = [name for name, known in EXTERNAL.items() if (folder / known.file).is_file()]
    lacking = [name for name in EXTERNAL if name not in here]
    typer.echo(f"{'published weights':<18}{len(here)} of {len(EXTERNAL)} in {folder}")
    if lacking:
        typer.echo(f"{'':<18}missing: {', '.join(lacking)}; 'bench prefetch NAME' fetches one")


def _here() -> None:
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

    for name in weights.shipped():
        try:
            path = weights.find(name)
            typer.echo(f"weights {name:<10}{path.stat().st_size / 1e6:.1f} MB, {path}")
        except UserError as error:
            typer.echo(f"weights {name:<10}{error}")
    _published()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    typer.echo(f"{'cores':<18}{os.cpu_count()}\n{'free disk':<18}{free:.0f} GB")
