"""A run's files in a folder of this machine, for what reads folders: pages, tables, comparisons."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.record import layout
from bench.record.files import RunFiles


@contextmanager
def folder_of(files: RunFiles, samples: bool = False) -> Iterator[Path]:
    """The folder of a run on this machine; of one elsewhere a copy, removed afterwards.

    The copy holds the suite and the tables, and with `samples` those of every attempt and what it
    logged too, which are most of a run.  What is written into it stays here: hand it to
    `RunFiles.write`.
    """
    if files.local:
        yield files.folder
        return
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        folder = Path(scratch) / files.name
        names = files.file_names()
        if samples:
            names += files.below(layout.CELLS, layout.RESULT, layout.SAMPLES, layout.CURVE)
        files.fetch(names, folder)
        yield folder
