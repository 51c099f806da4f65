"""Secrets of the environment and of addresses reach nothing that a run writes or shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.core.params import UserError
from bench.core.secrets import redacted
from bench.plan.binding import make_reward
from tests.worlds import odd_plugins
from tests.worlds.cheap_run import CONTENT, run

CANARY = "CaNaRy5EcRet"
PLANTED = {
    "MY_API_TOKEN": f"{CANARY}-api",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-aws",
    "AWS_SESSION_TOKEN": f"{CANARY}-session",
    "HF_TOKEN": f"{CANARY}-hf",
    "HTTPS_PROXY": f"http://somebody:{CANARY}-proxy@127.0.0.1:9",
}


def leaks(*folders):
    """Files below folders that hold the canary."""
    files = (path for folder in folders for path in folder.rglob("*"))
    kept = (path for path in files if path.is_file() and not path.is_symlink())
    return [str(path) for path in kept if CANARY.encode() in path.read_bytes()]


METHOD = """
import os
from bench.api import Method, Work

class Telling(Method):
    '''Says what it should not.'''

    def work(self, spec):
        return Work()

    def sample(self, problem, n):
        api, hub = os.environ["MY_API_TOKEN"], os.environ["HF_TOKEN"]
        raise RuntimeError(f"401 of https://a:{api}@host/x?access_token={hub}")
"""


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_no_file_of_a_run_holds_a_secret(tmp_path, executor):
    """Run folder, database, report, and the folder in which Ray keeps its logs."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "telling.py").write_text(METHOD)
    content = {**CONTENT, "methods": ["prior:steps=2", "telling.py:Telling"], "seeds": 1}
    (root / "suite.yaml").write_text(json.dumps(content))
    # Sockets of Ray have room for a short name only.
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as scratch:
        own = {"PYTHONPATH": os.getcwd(), "RAY_TMPDIR": scratch, "TMPDIR": scratch}  # noqa: PTH109
        command = [sys.executable, "-m", "bench", "run", "suite.yaml", "--root", "."]
        done = subprocess.run(
            [*command, "--executor", executor, "--workers", "1"],
            cwd=root,
            env={**os.environ, **PLANTED, **own},
            capture_output=True,
            text=True,
        )
        assert leaks(root, Path(scratch)) == []
        assert executor != "ray" or list(Path(scratch).glob("ray/session_*/logs/*.log"))
    assert done.returncode == 1 and "1 failed, 1 ok" in done.stdout, done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "401 of https://***@host/x?access_token=***" in " ".join(done.stdout.split())
    assert (root / "mlflow.db").exists() and list(root.glob("cheap/report.html"))


def test_a_server_with_a_password_is_not_named_with_it(tmp_path, monkeypatch, capsys):
    from bench.tracking.live import Follower
    from bench.tracking.mirror import sync

    store, _ = run(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"cannot write to MLflow at http://\*\*\*@127") as told:
        sync(store)
    assert CANARY not in str(told.value)
    follower = Follower(store, every=0.0)
    follower.guarded(lambda: (_ for _ in ()).throw(OSError(f"http://me:{CANARY}@127.0.0.1:9")))
    assert "http://***@127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", [f"http://me:{CANARY}@127.0.0.1:1", f"http://127.0.0.1:1/?k={CANARY}"]
)
def test_an_address_that_is_kept_with_results_holds_no_secret(url):
    with pytest.raises(UserError, match="write http://HOST:PORT") as told:
        make_reward(f"http:url={url}")
    assert CANARY not in str(told.value)


def test_what_is_redacted_and_what_is_not(monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", "correct horse battery")
    monkeypatch.setenv("SHORT_TOKEN", "of")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    assert redacted("a correct horse battery staple") == "a *** staple"
    assert redacted("s3://k:v@bucket/x?X-Amz-Signature=ab&n=4") == (
        "s3://***@bucket/x?X-Amz-Signature=***&n=4"
    )
    plain = "of /home/me/key.json: dps:steps=5?keys, https://host/a?b=c me@host"
    assert redacted(plain) == plain


def test_a_secret_is_no_secret_by_half(tmp_path, monkeypatch):
    """A message that is cut is cut after its secrets are gone."""
    odd_plugins.install(monkeypatch)
    monkeypatch.setenv("MY_TOKEN", CANARY * 4)

    def telling(problem, n):
        raise RuntimeError("x" * 1985 + os.environ["MY_TOKEN"])

    monkeypatch.setitem(odd_plugins.MAKES, "telling", telling)
    store, outcome = run(tmp_path, methods=["odd:name=telling"], seeds=1)
    assert outcome.failed == 1
    assert "CaN" not in store.table("cells").reason[0] and leaks(tmp_path) == []
