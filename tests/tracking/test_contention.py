"""Two runs that write into one database at once, and a database that somebody else holds."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from bench.core.params import UserError
from bench.record.store import Store
from bench.tracking.live import Follower
from bench.tracking.mirror import sync
from tests.worlds.cheap_run import CONTENT, run


@pytest.mark.slow
def test_two_runs_on_one_database_that_neither_has_made(tmp_path):
    """Both end well, and each shows its own cells, once."""
    drivers = []
    for name in ("one", "other"):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({**CONTENT, "name": name}))
        command = [sys.executable, "-m", "bench", "run", f"{name}.yaml", "--root", "."]
        drivers.append(
            subprocess.Popen(
                [*command, "--executor", "inline"],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for driver in drivers:
        text, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0 and "Traceback" not in text, text
        assert "warning" not in text, text
    for name in ("one", "other"):
        again = sync(Store(str(tmp_path), name))
        assert (again.written, again.removed, again.unchanged) == (0, 0, 2)


@pytest.mark.slow
def test_a_database_that_is_held_is_one_sentence(tmp_path, capsys):
    """After twenty seconds; a run is stored all the same, and a later sync catches up."""
    store, _ = run(tmp_path)
    sync(store)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    with closing(holder):
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"cannot write to MLflow at .*database is locked"):
            sync(store)
        grown, outcome = run(tmp_path, seeds=3)
        assert outcome.statuses == {"ok": 3}
        follower = Follower(grown, every=0.0)
        row = outcome.plan[2]
        follower(row, grown.index.last(row.id).attempt)
        assert "MLflow no longer follows 'cheap': " in capsys.readouterr().err
        holder.execute("ROLLBACK")
    assert sync(grown).written == 1
