"""`bench new`: a plugin package to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass

COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}
NEW_KINDS = ("method", "reward", "task")

TRY = {
    "method": "bench run -t gmm-paper -r quadratic -m {name} -m dps -b paper-nfe=100",
    "reward": "bench run -t gmm-paper -r {name} -m sir -b paper-nfe=100",
    "task": "bench run -t {name} -r linear -m dps -b paper-nfe=100",
}
"""What to try what was written with."""

EXAMPLE = "bench new method noise-search --to ../noise-search"


def new(
    kind: Annotated[str, typer.Argument(help="method, reward or task.")],
    name: Annotated[str, typer.Argument(help="Its name, e.g. noise-search.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write (default: NAME).")
    ] = None,
) -> None:
    """Write a working plugin package to start from."""
    from bench.cli.templates import package

    _refuse(kind, name)
    folder = to or Path(name)
    _write(folder, package(kind, name))
    where = folder if folder.is_absolute() else f"./{folder}"
    typer.echo(f"{folder} holds the {kind} '{name}'.  Next:")
    typer.echo(f"  pip install -e {where}\n  bench check {kind} {name}")
    typer.echo(f"  {TRY[kind].format(name=name)}")


def _refuse(kind: str, name: str) -> None:
    """Raise a UserError for a kind or a name that cannot be."""
    from bench.cli.templates import valid
    from bench.core import plugins
    from bench.core.params import UserError, nearest

    if kind not in NEW_KINDS:
        raise UserError(f"cannot write a new '{kind}': {nearest(kind, NEW_KINDS)}")
    if not valid(name):
        raise UserError(f"'{name}' is not a name: use lower-case words joined by hyphens")
    if name in plugins.points(f"{kind}s"):  # type: ignore[arg-type]
        raise UserError(f"there is a {kind} '{name}' already: choose another name")


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write files below a folder that must be new or empty."""
    from bench.core.params import UserError

    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: choose another folder with --to")
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror or error})") from error
