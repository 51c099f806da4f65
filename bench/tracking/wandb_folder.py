"""A run for Weights & Biases: an offline folder that `wandb sync` uploads, or nobody does.

Project is the experiment, group the task, reward and budget, a W&B run a row.  Nothing is sent: the
mode is offline whatever WANDB_* variables say, since none is read.  A row that is exported again
replaces what was there and keeps its id, so that `wandb sync` goes on with the same W&B run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.core.extras import need
from bench.core.params import UserError
from bench.record.store import Store
from bench.tracking.rows import TrackedRow, history, picture_of, read_rows

QUIET = {
    "mode": "offline",
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "init_timeout": 60.0,
}
"""Of its client: nothing about this machine is written, and nothing is waited for for long."""

LONGEST = {"tag": 64, "name": 128}
"""Characters that W&B keeps."""


def write(store: Store, folder: Path, project: str) -> str:
    """Write every row, and say how many and what to do with them."""
    need("wandb")
    if not re.fullmatch(r"[^/\\#?%:]{1,128}", project):
        raise UserError(
            f"'{project}' is no name of a W&B project: choose one without / \\ # ? % : by --project"
        )
    clock, rows = time.perf_counter(), read_rows(store)
    print(f"{len(rows)} rows for W&B, half a second to a second each ...", file=sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            for row in rows:
                _write_row(store, row, folder, project)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror or error})") from error
    took = time.perf_counter() - clock
    return (
        f"{len(rows)} rows for W&B in {folder / 'wandb'}; {took:.1f} s. "
        f"'wandb sync {folder / 'wandb'}/offline-run-*' uploads them"
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Without the user's WANDB_* variables and settings: they may say `online`, or name a run."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("WANDB_")}
    own = {"WANDB_ERROR_REPORTING": "false", "WANDB_CONFIG_DIR": str(folder / ".settings")}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
        os.environ.update(kept)
        shutil.rmtree(folder / ".settings", ignore_errors=True)


def _write_row(store: Store, row: TrackedRow, folder: Path, project: str) -> None:
    import wandb

    for old in (folder / "wandb").glob(f"offline-run-*-{row.id}"):
        shutil.rmtree(old)
    run = wandb.init(
        id=row.id,
        project=project,
        group=row.group[: LONGEST["name"]],
        name=row.name[: LONGEST["name"]],
        tags=[tag[: LONGEST["tag"]] for tag in row.tags],
        config=row.config,
        dir=str(folder),
        settings=wandb.Settings(**QUIET),
        reinit="finish_previous",
    )
    steps = history(store, row)
    for step, values in steps:
        run.log(values, step=step)
    if (picture := _picture(store, row)) is not None:
        run.log({"samples": picture}, step=steps[-1][0] if steps else 0)
    run.summary.update(row.summary)
    run.finish(exit_code=0 if row.ok else 1)


def _picture(store: Store, row: TrackedRow) -> Any:
    import wandb
    from PIL import Image

    data = picture_of(store, row)
    return None if data is None else wandb.Image(Image.open(io.BytesIO(data)), caption=row.name)
