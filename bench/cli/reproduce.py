"""`bench reproduce`: a run again, and what came out otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as o
from bench.cli.compare import show
from bench.cli.execution import chosen, starter
from bench.cli.progress import CellProgress
from bench.cli.report import built

EXAMPLE = "bench reproduce runs/quickstart"

DEFAULT_ROOT = "runs/reproduced"


def reproduce(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    executor: o.Executor = None,
    address: o.Address = None,
    workers: o.Workers = None,
    root: Annotated[
        str, typer.Option("--root", help="Where the second run goes; never the first one's place.")
    ] = DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Run a recorded suite again and say, metric by metric, what is identical and what is not."""
    from bench.core.params import UserError
    from bench.plan.suite import build_suite
    from bench.record.store import Store, open_run
    from bench.runner.run import run_suite

    first = open_run(str(run))
    resolved = build_suite(first.suite())
    second = Store(root, resolved.name)
    if second.folder.resolve() == first.folder.resolve():
        raise UserError(f"{first.folder} is the run itself: name another place with --root")
    with CellProgress(quiet=as_json) as progress:
        run_suite(
            resolved, second, starter(chosen(executor, address), address, workers), progress, False
        )
    built(second.url)
    show(first.folder, second.folder, as_json)
