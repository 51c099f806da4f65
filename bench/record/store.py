"""The store: runs on any fsspec URL, written by the driver alone.

    <root>/<name>/suite.yaml                       the resolved suite
    <root>/<name>/cells/<id>/cell.json
    <root>/<name>/cells/<id>/metrics.json          keyed by (metric, version)
    <root>/<name>/cells/<id>/attempts/<k>/{samples.safetensors, curve.parquet, log.txt, result.json}
        (a fit leaves fitted.safetensors in the place of samples)

Every file is written beside its place, synced and renamed; result.json is the last of an attempt,
so an attempt without one never happened.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import yaml

from bench.core.cells import Cell
from bench.core.params import UserError
from bench.runner.cell import Payload


@dataclass(frozen=True)
class Stored:
    """The last finished attempt of a cell."""

    attempt: int
    result: dict[str, Any]

    @property
    def ok(self) -> bool:
        return bool(self.result["status"] == "ok")


class Store:
    """One run's folder.

    Args:
        root: folder or fsspec URL that holds runs.
        name: the run's name.
    """

    def __init__(self, root: str, name: str) -> None:
        self.name = name
        self.fs, base = fsspec.core.url_to_fs(root)
        self.path = f"{base.rstrip('/')}/{name}"
        self.local = "file" in self.fs.protocol or "local" in self.fs.protocol

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        if not self.local:
            raise UserError(f"{self.path} is not on this machine: copy the run here first")
        return Path(self.path)

    def exists(self) -> bool:
        """Whether anything was stored under this name."""
        return bool(self.fs.exists(f"{self.path}/suite.yaml"))

    def open(self) -> None:
        """Create the folder and check that it can be written to."""
        try:
            self.fs.makedirs(f"{self.path}/cells", exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {self.path} ({error.strerror or error}): "
                "mend it or choose another with --root"
            ) from error
        self.write("probe", b"")
        self.fs.rm(f"{self.path}/probe")

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run so that it is there whole or not at all."""
        try:
            self._write(f"{self.path}/{name}", data)
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}/{name} ({error.strerror or error}): free space or mend "
                "the folder, then repeat the command; finished cells are kept"
            ) from error

    def _write(self, path: str, data: bytes) -> None:
        if not self.local:
            with self.fs.open(path, "wb") as file:
                file.write(data)
            return
        partial = f"{path}.partial"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(partial).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)

    def read(self, name: str) -> bytes:
        """A file of the run."""
        with self.fs.open(f"{self.path}/{name}", "rb") as file:
            data: bytes = file.read()
        return data

    def has(self, name: str) -> bool:
        """Whether a file of the run exists."""
        return bool(self.fs.exists(f"{self.path}/{name}"))

    # -- cells -----------------------------------------------------------------------------------

    def attempts(self, cell: str) -> list[int]:
        """Numbers of the attempts begun, finished or not."""
        folder = f"{self.path}/cells/{cell}/attempts"
        if not self.fs.isdir(folder):
            return []
        return sorted(int(Path(p).name) for p in self.fs.ls(folder, detail=False))

    def last(self, cell: str) -> Stored | None:
        """The last finished attempt, preferring one that is ok."""
        found = [self._attempt(cell, k) for k in self.attempts(cell)]
        finished = [stored for stored in found if stored is not None]
        best = [stored for stored in finished if stored.ok] or finished
        return best[-1] if best else None

    def _attempt(self, cell: str, k: int) -> Stored | None:
        name = f"cells/{cell}/attempts/{k}/result.json"
        return Stored(k, json.loads(self.read(name))) if self.has(name) else None

    def save(self, cell: Cell, payload: Payload) -> int:
        """Store a finished attempt; returns its number."""
        k = max(self.attempts(cell.id), default=0) + 1
        base = f"cells/{cell.id}/attempts/{k}"
        self.write(f"cells/{cell.id}/cell.json", cell.to_json().encode())
        if payload.samples:
            self.write(f"{base}/samples.safetensors", payload.samples)
        if payload.fitted:
            self.write(f"{base}/fitted.safetensors", payload.fitted)
        if payload.curve:
            self.write(f"{base}/curve.parquet", _parquet(pd.DataFrame(payload.curve)))
        if payload.per_sample:
            frame = pd.DataFrame(payload.per_sample)
            self.write(f"{base}/scores.parquet", _parquet(frame))
        if payload.log:
            self.write(f"{base}/log.txt", payload.log.encode())
        self.save_metrics(cell.id, payload.metrics, k)
        self.write(f"{base}/result.json", json.dumps(_result(payload), sort_keys=True).encode())
        return k

    def fitted(self, cell: str, attempt: int) -> bytes:
        """The weights that a fit left."""
        return self.read(f"cells/{cell}/attempts/{attempt}/fitted.safetensors")

    def samples(self, cell: str, attempt: int) -> bytes:
        """The packed samples of an attempt."""
        return self.read(f"cells/{cell}/attempts/{attempt}/samples.safetensors")

    def scores(self, cell: str, attempt: int) -> pd.DataFrame | None:
        """Per-sample scores of an attempt."""
        name = f"cells/{cell}/attempts/{attempt}/scores.parquet"
        return pd.read_parquet(io.BytesIO(self.read(name))) if self.has(name) else None

    # -- metrics ---------------------------------------------------------------------------------

    def metrics(self, cell: str, attempt: int) -> dict[str, dict[str, Any]]:
        """Rows by `metric@version`, of the given attempt."""
        name = f"cells/{cell}/metrics.json"
        if not self.has(name):
            return {}
        kept: dict[str, dict[str, Any]] = json.loads(self.read(name))
        return {key: row for key, row in kept.items() if row["attempt"] == attempt}

    def save_metrics(self, cell: str, rows: list[dict[str, Any]], attempt: int) -> None:
        """Add rows; others of the same attempt stay."""
        kept = self.metrics(cell, attempt)
        kept |= {f"{r['metric']}@{r['version']}": {**r, "attempt": attempt} for r in rows}
        self.write(f"cells/{cell}/metrics.json", json.dumps(kept, sort_keys=True).encode())

    # -- the run ---------------------------------------------------------------------------------

    def save_suite(self, resolved: dict[str, Any]) -> None:
        """The resolved suite, as YAML."""
        self.write("suite.yaml", yaml.safe_dump(resolved, sort_keys=False).encode())

    def suite(self) -> dict[str, Any]:
        """The resolved suite."""
        content: dict[str, Any] = yaml.safe_load(self.read("suite.yaml"))
        return content

    def save_table(self, name: str, frame: pd.DataFrame) -> None:
        """One of the run's parquet tables."""
        self.write(f"{name}.parquet", _parquet(frame))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables."""
        return pd.read_parquet(io.BytesIO(self.read(f"{name}.parquet")))

    def cell_ids(self) -> Iterator[str]:
        """Every cell with a folder."""
        for path in sorted(self.fs.ls(f"{self.path}/cells", detail=False)):
            yield Path(path).name


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _result(payload: Payload) -> dict[str, Any]:
    """What result.json holds: all of a payload but its bulk."""
    bulky = {"samples", "fitted", "metrics", "per_sample", "curve", "log"}
    return {key: value for key, value in vars(payload).items() if key not in bulky}


def open_run(path: str) -> Store:
    """The store of an existing run folder."""
    parent, _, name = path.rstrip("/").rpartition("/")
    store = Store(parent or ".", name)
    if not store.exists():
        raise UserError(f"'{path}' is not a run: it has no suite.yaml")
    return store
