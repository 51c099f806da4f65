"""Where MLflow keeps its runs: the database beside the run's folder, or a server."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.core.extras import command
from bench.core.params import UserError
from bench.core.secrets import redacted
from bench.record.store import Store

SQLITE = "sqlite:///"

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for tables and for --json
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 would hold the driver up for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # 120 would, for a server that accepts and never answers
}


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, or else the database beside the run's folder."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    if not store.local:
        raise UserError(
            f"{store.url} is not on this machine, and MLflow's database needs one: set "
            "MLFLOW_TRACKING_URI to a server, or run with --no-track"
        )
    return f"{SQLITE}{database_of(store)}"


def database_of(store: Store) -> Path:
    """The database beside the run's folder."""
    return store.folder.parent / "mlflow.db"


def ours() -> bool:
    """Whether the database is ours to create and to tune, rather than one that was named."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def connect(store: Store) -> Any:
    """A quiet MLflow client of the run's tracking URI; our own database is made if missing."""
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError(f"MLflow is not installed: {command('tracking')}, or --no-track") from error
    for name in ("alembic", "mlflow"):
        # Errors are raised too, and told in one sentence.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = tracking_uri(store)
    if ours():
        create_database(database_of(store), MlflowClient)
    return MlflowClient(tracking_uri=uri)


def create_database(path: Path, client: Callable[..., Any]) -> None:
    """Migrate a new database beside its place: processes that open a new one at once break it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _hurry(path.parent.resolve())
    if path.exists():
        _probe(path)
        _follow(path)
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _probe(partial)
    client(tracking_uri=f"{SQLITE}{partial}").search_experiments(max_results=1)
    if path.exists():
        partial.unlink()
    else:
        partial.replace(path)


def _probe(path: Path) -> None:
    """Fail at once where MLflow tries for 100 seconds: not a database, or no place for one."""
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


FOLDER = "mlartifacts"
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
"""Where MLflow keeps the whole path of every artifact."""


def _follow(path: Path) -> None:
    """Let a database that was copied with its artifacts name those beside it.

    MLflow stores whole paths, which are those of the machine and folder it was made in.
    """
    here = path.parent.resolve() / FOLDER
    if not here.is_dir():
        return
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as database, database:
        old = [place for (place,) in database.execute("SELECT artifact_location FROM experiments")]
        moved = [p for p in old if p and Path(p).name == FOLDER and not _same(Path(p), here)]
        for there in dict.fromkeys(moved):
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (str(here), len(there) + 1, there, len(there) + 1, f"{there}/"),
                )


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


@functools.cache
def _hurry(folder: Path) -> None:
    """Let databases in a folder commit without waiting for the disk.

    MLflow commits six times per cell, 10 ms each.  A killed process loses nothing by this; after a
    power cut the file may have to be deleted and rebuilt from the store, which is the record.
    """
    from sqlalchemy import Engine, event

    def relax(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            file = connection.execute("PRAGMA database_list").fetchone()[2]
            if Path(file).resolve().parent == folder:
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)


def experiment_of(client: Any, store: Store) -> str:
    """The id of the experiment; in our own database its artifacts lie beside the file."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "tiltbench"
    found = client.get_experiment_by_name(name)
    if found is None:
        folder = str(database_of(store).parent / FOLDER) if ours() else None
        return str(client.create_experiment(name, artifact_location=folder))
    if found.lifecycle_stage != "active":
        raise UserError(f"the MLflow experiment '{name}' was deleted: set MLFLOW_EXPERIMENT_NAME")
    if ours():
        _refuse_moved(database_of(store), Path(found.artifact_location).parent)
    return str(found.experiment_id)


def _refuse_moved(database: Path, written: Path) -> None:
    """MLflow would go on putting artifacts where the database used to be."""
    if not (written.exists() and written.samefile(database.parent)):
        raise UserError(
            f"{database} was moved here from {written} without its {FOLDER}: move that folder too, "
            "or delete the file and call 'bench track rebuild' for each run"
        )


@contextlib.contextmanager
def one_sentence(store: Store) -> Iterator[None]:
    """MLflow's own errors, for people; a mistake of ours keeps its traceback."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in ("mlflow", "sqlalchemy", "sqlite3") and not isinstance(error, OSError):
            raise
        reason = str(error).partition("\n")[0]
        told = f"cannot write to MLflow at {tracking_uri(store)}: {reason}"
        raise UserError(redacted(told)) from error
