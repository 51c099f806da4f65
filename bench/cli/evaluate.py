"""`bench evaluate FOLDER`: the metric row for pictures that were made elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as o
from bench.cli.console import wide_console

if TYPE_CHECKING:
    from torch import Tensor

    from bench.metrics.image_row import Folder, PictureMetric

EXAMPLE = "bench evaluate out/ --reference real/ -r hpsv2 --prompts prompts.txt"
ENCODERS = "inception-clean,inception-legacy,dinov2,clip,pixels"
SHOWN = ("metric", "encoder", "value", "standard_error", "low", "high", "n", "implementation")


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A folder of real pictures.")
    ] = None,
    reward: o.Rewards = [],  # noqa: B006  # typer reads list defaults and never mutates them
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="A prompt per picture: a file, or one sentence for all."),
    ] = None,
    encoders: Annotated[str, typer.Option("--encoders", help="Comma-separated.")] = ENCODERS,
    weights: Annotated[
        list[str], typer.Option("--weights", metavar="ENCODER=PATH", help="Weights of an encoder.")
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the rows: .csv, .json or .parquet.")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Distances to a reference, diversity, picture statistics and rewards of a folder."""
    from bench.metrics.image_row import Folder, available, metric_rows

    own = Folder.of(folder)
    real = Folder.of(reference) if reference is not None else None
    chosen = available([e.strip() for e in encoders.split(",") if e.strip()], _pairs(weights))
    rows = metric_rows(own, real, chosen)
    rows += [_score(text, own, _said(folder, own, prompts)) for text in reward]
    if out is not None:
        _write(rows, out)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows)


def _pairs(given: list[str]) -> dict[str, str]:
    from bench.core.params import UserError

    for text in given:
        if "=" not in text:
            raise UserError(f"'{text}' should read ENCODER=PATH, e.g. dinov2=/models/dino.pth")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


def _said(folder: Path, own: Folder, given: str | None) -> list[str] | None:
    """A prompt per picture, in the order of the files: from metadata, a file, or one for all."""
    from bench.core.params import UserError
    from bench.models import picture_folder
    from bench.prompts import read_prompts

    if given is None:
        return picture_folder.prompts(folder, own.paths)
    said = read_prompts(Path(given)) if Path(given).is_file() else [given] * len(own.paths)
    if len(said) != len(own.paths):
        raise UserError(f"{given} has {len(said)} prompts, the folder {len(own.paths)} pictures")
    return said


def _score(text: str, own: Folder, said: list[str] | None) -> PictureMetric:
    """Mean raw reward over the folder, with its standard error."""
    import torch

    from bench.core.finite import finite_scores
    from bench.core.params import format_name
    from bench.metrics.image_row import PictureMetric
    from bench.models import picture_folder
    from bench.plan.binding import make_reward

    name, reward, _ = make_reward(text)
    weights = " ".join(f"{k}:{v[:12]}" for k, v in reward.weights().items())
    scores = []
    with torch.no_grad():
        for k, picture in enumerate(picture_folder.read_pictures(own.paths)):
            x = _as_read(picture, getattr(reward.params, "pixels", "signed"))
            try:
                scores.append(finite_scores(reward(x, said[k] if said else None), name).double())
            except FloatingPointError as broken:
                raise FloatingPointError(f"{broken} ({own.paths[k].name})") from broken
    values = torch.cat(scores)
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    note = f"raw scale: {getattr(reward, 'scale', '') or 'as the reward defines it'}"
    label = format_name(name, {})
    return PictureMetric(
        f"reward {label}",
        value=float(values.mean()),
        standard_error=error,
        n=len(values),
        direction="higher",
        weights=weights,
        note=f"{note}; standard deviation {float(values.std()):.4g}" if error else note,
    )


def _as_read(picture: Tensor, pixels: str) -> Tensor:
    """uint8 (height, width, 3) in the range that the reward expects, (1, 3, height, width)."""
    unit = picture.permute(2, 0, 1)[None].float() / 255
    return unit if pixels == "unit" else 2 * unit - 1


def _write(rows: list[PictureMetric], out: Path) -> None:
    import pandas as pd

    from bench.core.params import UserError

    frame = pd.DataFrame([asdict(row) for row in rows])
    writers = {
        ".csv": lambda: frame.to_csv(out, index=False),
        ".json": lambda: frame.to_json(out, orient="records", indent=1),
        ".parquet": lambda: frame.to_parquet(out),
    }
    if out.suffix not in writers:
        raise UserError(f"cannot write {out}: end it with .csv, .json or .parquet")
    writers[out.suffix]()


def _print(rows: list[PictureMetric]) -> None:
    from rich import box
    from rich.table import Table

    console = wide_console(160)
    table = Table(box=box.SIMPLE_HEAD)
    for column in SHOWN:
        numeric = column in ("value", "standard_error", "low", "high", "n")
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left")
    table.add_column("note", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(getattr(row, column)) for column in SHOWN), row.note)
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
