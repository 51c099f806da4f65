"""`bench evaluate FOLDER`: the metric row for pictures that were made elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import evaluate_prompts as source
from bench.cli import options as o
from bench.cli.console import wide_console
from bench.cli.evaluate_preferences import agreement_rows, as_read, believed, pixel_range
from bench.cli.evaluate_presets import quality_rows, read_preset

if TYPE_CHECKING:
    from bench.cli.evaluate_prompts import Said
    from bench.metrics.arrays import Array
    from bench.metrics.image_row import Folder
    from bench.metrics.picture_metric import PictureMetric

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
        Path | None,
        typer.Option("--prompts", help="A file with a prompt per picture, in their order."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One sentence for all pictures.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="A .csv or .jsonl with picture and prompt, by name."),
    ] = None,
    write_pairs: Annotated[
        Path | None, typer.Option("--write-pairs", help="Write which prompt each picture has.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option("--files", help="Write a .csv of what was done with each file.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="A row that papers print: drawbench.")
    ] = None,
    preferences: Annotated[
        Path | None,
        typer.Option("--preferences", help="Measure judges on people's choices: .csv or .jsonl."),
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
    from bench.metrics.picture_metric import PictureMetric
    from bench.reading.account import write_files

    if out is not None:
        _writer(out)
    chosen = available([e.strip() for e in encoders.split(",") if e.strip()], _pairs(weights))
    own = Folder.of(folder)
    real = Folder.of(reference) if reference is not None else None
    if files is not None:
        write_files(files, [side.survey for side in (own, real) if side])
    if preferences is not None:
        return _show(agreement_rows(own, preferences, reward), out, as_json)
    given = (prompts, prompt, pairs, write_pairs, preset)
    quality = read_preset(preset) if preset is not None else None
    asked = [*reward, *(v for v in given if v is not None)]
    words = source.said(own.survey, prompts, prompt, pairs) if asked else None
    source.written(words, own.survey.contents.names(), write_pairs)
    known, lost = (words, "") if asked else source.recorded(own.survey)
    rows = metric_rows(own, real, chosen, known.groups if known else None)
    if lost:
        rows.append(PictureMetric("(warning)", note=f"pictures are taken as independent: {lost}"))
    if words:
        rows.append(_prompts_row(words))
    if quality is None:
        rows += [_score(text, own, words) for text in reward]
    else:
        rows += quality_rows(quality, reward, words, lambda text: _score(text, own, words))
    return _show(rows, out, as_json)


def _show(rows: list[PictureMetric], out: Path | None, as_json: bool) -> None:
    """Write the rows where that is asked for, and print them."""
    rows = [_finite(row) for row in rows]
    if out is not None:
        _write(rows, out)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], allow_nan=False))
    else:
        _print(rows)


def _pairs(given: list[str]) -> dict[str, str]:
    from bench.core.params import UserError

    for text in given:
        if "=" not in text:
            raise UserError(f"'{text}' should read ENCODER=PATH, e.g. dinov2=/models/dino.pth")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


def _prompts_row(words: Said) -> PictureMetric:
    from bench.metrics.picture_metric import PictureMetric

    return PictureMetric("(prompts)", n=len(words.prompts), note=words.source)


def _finite(row: PictureMetric) -> PictureMetric:
    """A row without NaN or infinity, which JSON does not have: no value, and a note instead."""
    numbers = ("value", "standard_error", "low", "high")
    broken = [n for n in numbers if not math.isfinite(getattr(row, n) or 0.0)]
    if not broken:
        return row
    note = "; ".join(filter(None, (row.note, f"not finite: {', '.join(broken)}")))
    changes: dict[str, Any] = {**dict.fromkeys(broken), "note": note}
    return replace(row, **changes)


def _score(text: str, own: Folder, words: Said | None) -> PictureMetric:
    """Mean raw reward over the folder, with its interval over prompts."""
    from bench.metrics.picture_metric import mean_row
    from bench.plan.binding import label_of, make_reward

    name, reward, _ = make_reward(text)
    values = _scores(name, reward, own, words)
    row = mean_row(f"reward {label_of(name, reward)}", values, words.groups if words else None)
    scale = getattr(reward, "scale", "") or "as the reward defines it"
    said = (
        f"raw scale: {scale}",
        source.reading_note(reward, words),
        believed(reward),
        getattr(reward, "doubt", str)(),
        row.note,
        f"standard deviation {float(values.std(ddof=1)):.4g}" if len(values) > 1 else "",
    )
    weights = " ".join(f"{k}:{v[:12]}" for k, v in reward.weights().items())
    note = "; ".join(filter(None, said))
    unit, usual = str(getattr(scale, "unit", scale)), str(getattr(scale, "usual", ""))
    return replace(row, direction="higher", weights=weights, note=note, unit=unit, usual=usual)


def _scores(name: str, reward: Any, own: Folder, words: Said | None) -> Array:
    """Raw scores (n,) of the pictures, each under its sentence."""
    import torch

    from bench.core.finite import finite_scores
    from bench.reading.picture import read_pictures

    scores = []
    with torch.no_grad():
        for k, picture in enumerate(read_pictures(own.paths)):
            x = as_read(picture, pixel_range(reward))
            try:
                found = finite_scores(reward(x, words.prompts[k] if words else None), name)
            except FloatingPointError as broken:
                raise FloatingPointError(f"{broken} ({own.paths[k].name})") from broken
            scores.append(found.double())
    return torch.cat(scores).numpy()


def _writer(out: Path) -> Callable[[Any], bytes]:
    """From a table to the bytes of a file with this ending; raises UserError for others."""
    from bench.core.params import UserError

    writers: dict[str, Callable[[Any], bytes]] = {
        ".csv": lambda frame: frame.to_csv(index=False).encode(),
        ".json": lambda frame: frame.to_json(orient="records", indent=1).encode(),
        ".parquet": lambda frame: frame.to_parquet(),
    }
    if out.suffix not in writers:
        raise UserError(f"cannot write {out}: end it with .csv, .json or .parquet")
    return writers[out.suffix]


def _write(rows: list[PictureMetric], out: Path) -> None:
    import pandas as pd

    from bench.core import atomic
    from bench.core.params import UserError

    try:
        atomic.write(out, _writer(out)(pd.DataFrame([asdict(row) for row in rows])))
    except OSError as error:
        raise UserError(f"the rows cannot be written to {out}: {error}") from error


def _print(rows: list[PictureMetric]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = wide_console(160)
    table = Table(box=box.SIMPLE_HEAD)
    for column in SHOWN:
        numeric = column in ("value", "standard_error", "low", "high", "n")
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left")
    table.add_column("note", overflow="fold")
    for row in rows:
        # Names of files and sentences may hold brackets, which are no markup.
        table.add_row(*(escape(_shown(getattr(row, c))) for c in SHOWN), escape(row.note))
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
