"""Where the files of a run are: the one place that knows.

<run>/suite.yaml                                the resolved suite
<run>/{cells, metrics, samples, results}.parquet, report.html
<run>/value-study-<key>.json                    estimates of V and grad V, of a task and a reward
<run>/projections.json                          what these were made from, and their checksums
<run>/cells/<cell>/{cell.json, metrics.json}    metrics keyed by (metric, version)
<run>/cells/<cell>/attempts/<k>/                result.json, samples.safetensors (a fit leaves
                                                fitted.safetensors), scores.parquet,
                                                curve.parquet, log.txt
<run>/work/<cell>/                              what a cell that has not ended goes on from: the
                                                checkpoints of a fit, the shards of its samples
<file>.damaged                                  was not what had been written, and is read no more
"""

from __future__ import annotations

SUITE = "suite.yaml"
PILOTS = "pilots.json"
REPORT = "report.html"
PROJECTIONS = "projections.json"
CELLS = "cells"
WORK = "work"

RESULT = "result.json"
SAMPLES = "samples.safetensors"
FITTED = "fitted.safetensors"
SCORES = "scores.parquet"
CURVE = "curve.parquet"
LOG = "log.txt"
SHARD = ".shard"


def cell_file(cell: str) -> str:
    """The cell itself, as JSON."""
    return f"{CELLS}/{cell}/cell.json"


def metrics_file(cell: str) -> str:
    """What was measured on a cell."""
    return f"{CELLS}/{cell}/metrics.json"


def attempts(cell: str) -> str:
    """The folder of a cell's attempts, which are numbered from 1."""
    return f"{CELLS}/{cell}/attempts"


def attempt(cell: str, number: int, file: str) -> str:
    """A file of one attempt."""
    return f"{attempts(cell)}/{number}/{file}"


def work(cell: str) -> str:
    """The working folder of a cell that has not ended."""
    return f"{WORK}/{cell}"


def shard(cell: str, name: str) -> str:
    """A file of samples in the working folder of a cell."""
    return f"{work(cell)}/{name}{SHARD}"


def value_study(key: str) -> str:
    """What a study of value estimates found for a task and a reward."""
    return f"value-study-{key}.json"


def table(name: str) -> str:
    """One of the run's tables."""
    return f"{name}.parquet"
