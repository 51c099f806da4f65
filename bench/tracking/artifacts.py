"""What MLflow shows of a cell: parameters, metrics, tags, a curve and a picture.

Read from the store alone; nothing here knows MLflow's client.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.core.cells import canonical, digest
from bench.core.params import UserError
from bench.record import layout
from bench.record.store import Store

Row = Mapping[str, Any]

LONGEST = 500
"""Characters of a parameter; a longer one is replaced by its hash, since MLflow would cut it."""


@dataclass(frozen=True)
class Record:
    """One row of cells.parquet with a result, in MLflow's terms; times in milliseconds."""

    cell: str
    attempt: int
    title: str
    ok: bool
    started: int | None
    finished: int | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def row(self) -> str:
        """Identity of the row: the cell under this budget."""
        return f"{self.cell}@{self.params['budget']}"

    @property
    def content(self) -> str:
        """Hash of what is shown; another attempt or a new metric changes it."""
        return digest(asdict(self))


def read_records(store: Store) -> list[Record]:
    """Every row of the run's tables that has a result."""
    if not store.has(layout.table("cells")):
        raise UserError(f"{store.path} has no tables yet: 'bench report {store.path}' writes them")
    measured: dict[str, list[Row]] = {}
    for row in _rows(store.table("metrics")):
        measured.setdefault(row["cell"], []).append(row)
    cells = store.table("cells")
    finished = _rows(cells[cells["attempt"].notna()])
    return [make_record(row, measured.get(row["cell"], [])) for row in finished]


def _rows(frame: pd.DataFrame) -> list[Row]:
    return cast("list[Row]", frame.to_dict("records"))


def make_record(row: Row, metrics: Iterable[Row]) -> Record:
    """A record from a row of cells.parquet and the cell's rows of metrics.parquet."""
    finished = _milliseconds(row["finished"])
    labels = (row["method"], row["task"], row["reward"], row["budget"], f"seed {row['seed']}")
    # By rising version, so that the newest of several versions of a metric is shown.
    ordered = sorted(metrics, key=lambda m: (m["metric"], len(m["version"]), m["version"]))
    return Record(
        cell=row["cell"],
        attempt=int(row["attempt"]),
        title=" · ".join(filter(None, labels)),
        ok=row["status"] == "ok",
        started=None if finished is None else finished - round(1000 * row["cell_seconds"]),
        finished=finished,
        params=_params(row),
        metrics=dict(_finite([*_quality(ordered), *_cost(row), *_diagnostics(row)])),
        tags=_tags(row) | {f"metric.{clean(m['metric'])}": _why(m) for m in ordered if _refused(m)},
    )


def read_curve(store: Store, record: Record) -> list[tuple[str, float, int]]:
    """(name, value, step) of what the method logged; batches of a cell are averaged."""
    return _points(store, record.cell, record.attempt, "curve")


def read_losses(store: Store, fit: str) -> list[tuple[str, float, int]]:
    """(name, value, step) of what a fit logged while it was trained."""
    stored = store.index.last(fit)
    return [] if stored is None else _points(store, fit, stored.number, "fit")


def _points(store: Store, cell: str, number: int, kind: str) -> list[tuple[str, float, int]]:
    logged = store.index.curve(cell, number)
    if logged is None:
        return []
    frame = logged.groupby("step").mean()
    steps = [int(step) for step in frame.index]
    points = (
        (f"{kind}/{clean(str(column))}", float(value), step)
        for column in frame
        for step, value in zip(steps, frame[column], strict=True)
    )
    return [point for point in points if math.isfinite(point[1])]


def read_files(store: Store, record: Record) -> dict[str, bytes]:
    """Artifacts of a cell by name: a picture of its samples, and its log."""
    index, cell, number = store.index, record.cell, record.attempt
    image = index.read_beside(cell, number, layout.SAMPLES, picture)
    files = {"samples.png": image, "log.txt": index.beside(cell, number, layout.LOG)}
    return {name: data for name, data in files.items() if data}


def clean(name: str) -> str:
    """A name that MLflow accepts: it refuses '@', '[' and the like."""
    return re.sub(r"[^\w.\- ]", "_", name)


def _params(row: Row) -> dict[str, str]:
    """The grid's coordinates, and every parameter of the method as `method.<name>`."""
    names = ("task", "reward", "strength", "condition", "seed", "n")
    given = {name: row[name] for name in names if row[name] != ""}
    given |= {"method": row["method_name"], "budget": row["budget"] or "none"}
    own = json.loads(row["params"])
    given |= {f"method.{clean(name)}": value for name, value in own.items()}
    return {name: _hashed(_text(value)) for name, value in given.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _hashed(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f"sha256:{checksum} ({len(text)} characters, whole in cells.parquet)"


def _quality(metrics: Iterable[Row]) -> Iterator[tuple[str, Any]]:
    """Values of the newest versions; of a cell of many conditions, the mean over them."""
    newest = {(row["metric"], row.get("condition", "")): row for row in metrics}
    by_name: dict[str, list[Row]] = {}
    for (name, _), row in newest.items():
        by_name.setdefault(clean(name), []).append(row)
    for name, rows in by_name.items():
        values, errors = ([_number(r[key]) for r in rows] for key in ("value", "standard_error"))
        yield name, sum(values) / len(rows)
        yield f"standard_error/{name}", math.hypot(*errors) / len(rows)


def _cost(row: Row) -> Iterator[tuple[str, Any]]:
    """Work per sample in every unit, rows by role, and what the cell took; no row of zeros."""
    yield "work/paper-nfe", row["paper_nfe"]
    yield "work/model-nfe", row["model_nfe"]
    yield "work/flops", row["flops"]
    yield "work/seconds", _number(row["seconds"]) / row["n"]
    if row["fit_paper_nfe"]:
        yield "work/fit-paper-nfe", row["fit_paper_nfe"]
    for name in sorted(row):
        if name.startswith("sample_") and row[name]:
            yield f"rows/{name.removeprefix('sample_')}", row[name]
    for name in ("seconds", "cell_seconds", "utilisation", "peak_bytes"):
        yield name, row[name]


def _diagnostics(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in json.loads(row["info"]).items():
        yield f"info/{clean(name)}", value


def _number(value: float | None) -> float:
    """Tables hold NaN where results hold None."""
    return math.nan if value is None else float(value)


def _finite(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, float]]:
    """Numbers that MLflow keeps as they are: it stores an infinity as 1.8e308."""
    for name, value in values:
        if math.isfinite(_number(value)):
            yield name, _number(value)


def _refused(row: Row) -> bool:
    return not math.isfinite(_number(row["value"]))


def _why(row: Row) -> str:
    """Why there is no number of a metric; what measured the others is in the parent's tables."""
    words = [f"no number ({_number(row['value'])})"]
    note = row.get("note")
    return "; ".join([*words, note] if note and isinstance(note, str) else words)


def _tags(row: Row) -> dict[str, str]:
    names = ("status", "reason", "matched", "underused", "predicted_equal", "device", "threads")
    shown = {f"tiltbench.{name}": row[name] for name in (*names, "version", "torch")}
    return {name: _cut(_text(v)) for name, v in shown.items() if not (v == "" or pd.isna(v))}


def _cut(text: str) -> str:
    """MLflow keeps 8000 characters of a tag; a failure's traceback is whole in log.txt."""
    return text if len(text) <= 4000 else f"{text[:4000]} ... ({len(text)} characters)"


def _milliseconds(timestamp: str) -> int | None:
    return round(1000 * datetime.fromisoformat(timestamp).timestamp()) if timestamp else None


# -- pictures -----------------------------------------------------------------------------------


def picture(packed: bytes) -> bytes | None:
    """PNG of packed samples: a grid of the rendered images, else a scatter of the points.

    None where there is nothing to draw: points on a line, or of a type that numpy lacks.
    """
    from safetensors import deserialize
    from safetensors.numpy import load

    stored: dict[str, Any] = dict(deserialize(packed))
    if "rendered" in stored:
        images = stored["rendered"]
        return _grid(np.frombuffer(images["data"], np.uint8).reshape(images["shape"]))
    if stored["x"]["dtype"] not in ("F16", "F32", "F64"):
        return None
    tensors: dict[str, NDArray[Any]] = load(packed)
    points = tensors["x"].reshape(len(tensors["x"]), -1)
    return _scatter(points, tensors.get("log_weight")) if points.shape[1] > 1 else None


def _grid(images: NDArray[Any]) -> bytes:
    """Up to 8 x 8 images side by side; small ones are magnified, large ones 4 x 4."""
    from matplotlib.image import imsave

    _, height, width, colours = images.shape
    columns = 8 if height <= 64 else 4
    rows = min(columns, math.ceil(len(images) / columns))
    page = np.full((rows * columns, height + 2, width + 2, colours), 255, np.uint8)
    shown = images[: len(page)]
    page[: len(shown), 1:-1, 1:-1] = shown
    page = page.reshape(rows, columns, *page.shape[1:]).swapaxes(1, 2)
    flat = page.reshape(rows * (height + 2), columns * (width + 2), colours)
    factor = max(1, 48 // height)
    buffer = io.BytesIO()
    image = np.ascontiguousarray(flat.repeat(factor, 0).repeat(factor, 1))
    imsave(buffer, image, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def _scatter(points: NDArray[Any], log_weight: NDArray[Any] | None) -> bytes:
    """The first two coordinates; areas follow the weights where there are any."""
    from matplotlib.figure import Figure

    weight = np.ones(len(points)) if log_weight is None else np.exp(log_weight - log_weight.max())
    figure = Figure(figsize=(4, 4), dpi=80)
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=6 * weight, alpha=0.5, linewidths=0)
    axes.set_aspect("equal", "datalim")
    axes.locator_params(nbins=4)  # drawing tick labels is what takes the time
    dimension = points.shape[1]
    axes.set_title("" if dimension == 2 else f"first 2 of {dimension} coordinates", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # a bare Figure draws with Agg: no display is touched
    return buffer.getvalue()
