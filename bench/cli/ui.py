"""`bench ui`: runs in MLflow's web interface."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as o

if TYPE_CHECKING:
    from bench.record.store import Store

EXAMPLE = "bench ui runs/quickstart --port 5001"
HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds that a server may take to answer; ten are usual."""


def ui(
    run: Annotated[
        str | None, typer.Argument(help="A run folder (default: every run below --root).")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 5000,
    check: Annotated[
        bool, typer.Option("--check", help="Only start it, wait until it answers, and stop.")
    ] = False,
    root: o.Root = o.DEFAULT_ROOT,
) -> None:
    """Open the runs in MLflow's web interface, until Ctrl-C.

    RUN is brought up to date first, wherever it was copied from, and the address shows it alone.
    """
    from bench.core.extras import need

    need("mlflow")
    uri, place = _shown(run, root)
    if uri.startswith("http"):
        typer.echo(f"MLflow is served at {uri}/{place}")
        return
    with _server(uri, port) as process, contextlib.suppress(KeyboardInterrupt):
        _wait(process, uri, port)
        stop = " (Ctrl-C stops it)" * (not check)
        typer.echo(f"MLflow answers at http://{HOST}:{port}/{place}{stop}")
        if not check:
            process.wait()


def _shown(run: str | None, root: str) -> tuple[str, str]:
    """The tracking URI, and the place in the interface of a run or of all below a folder."""
    from bench.record.store import Store, open_run
    from bench.tracking.database import connect, experiment_of, one_sentence, tracking_uri

    stores = [open_run(run)] if run else _untracked(root)
    for store in stores:
        _sync(store)
    store = stores[0] if stores else Store(root, "any")
    with one_sentence(store):
        experiment = experiment_of(connect(store), store)
    return tracking_uri(store), _address(experiment, store.name if run else None)


def _address(experiment: str, run: str | None) -> str:
    """The table of the experiment's runs; of one run, of it and its cells alone."""
    from bench.tracking.mirror import of_run

    query = f"?searchFilter={urllib.parse.quote(of_run(run))}" if run else ""
    return f"#/experiments/{experiment}/runs{query}"


def _untracked(root: str) -> list[Store]:
    """Every run below a folder without a database; none where there is one."""
    from pathlib import Path

    from bench.core.params import UserError
    from bench.record.store import Store, open_run
    from bench.tracking.database import SQLITE, tracking_uri

    uri = tracking_uri(Store(root, "any"))
    if not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists():
        return []
    found = sorted(Path(root).glob("*/cells.parquet"))
    if not found:
        raise UserError(f"no run with tables is below {root}, so there is nothing to show")
    return [open_run(str(file.parent)) for file in found]


def _sync(store: Store) -> None:
    """Show what the run's tables say; of one without tables yet, what is tracked already."""
    from bench.record import layout
    from bench.tracking.mirror import sync

    if store.has(layout.table("cells")):
        typer.echo(f"{store.name}: {sync(store)}")


@contextlib.contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server and its workers, stopped on the way out, also by SIGTERM."""
    _refuse_taken(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    # Job workers serve MLflow's evaluation features, which nothing here uses.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # A session of its own, so that the workers can be stopped with their parent.
    process = subprocess.Popen(
        command,
        env=quiet | os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process)


def _refuse_taken(port: int) -> None:
    from bench.core.params import UserError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"port {port} is taken: choose another with --port") from error


def _wait(process: subprocess.Popen[bytes], uri: str, port: int) -> None:
    """Until the server answers."""
    from bench.core.params import UserError

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise UserError(
        f"MLflow did not start: 'mlflow server --backend-store-uri {uri} --port {port}' says why"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The server and its workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
