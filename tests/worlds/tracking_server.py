"""A tracking server of MLflow on loopback whose runs lie in PostgreSQL: killed and begun again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

USER = "nobody"
"""Who runs PostgreSQL where the tests are root's, as whom it refuses to run."""

BIN = "/usr/lib/postgresql/*/bin"
"""Where Debian has the programs, beside the PATH."""

AT_ONCE = {"mlflow": signal.SIGKILL, "postgres": signal.SIGQUIT}
"""What ends a server without a word to its clients; PostgreSQL's own way takes its children along
and, like a crash, leaves it to the next start to mend the files."""

PATIENCE = 600.0
"""Seconds for a server to answer: the first start of MLflow makes forty tables."""


def program(name: str) -> str:
    """The path of a program of PostgreSQL; AssertionError says how to get it."""
    beside = sorted(Path("/").glob(f"{BIN[1:]}/{name}"), reverse=True)
    found = shutil.which(name) or next(map(str, beside), None)
    assert found, f"this test needs PostgreSQL's '{name}': apt-get install postgresql"
    return found


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TrackingServer:
    """PostgreSQL and MLflow before it, each a process of ours."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tiltbench-server-"))
        self._port, self._own = free_port(), free_port()
        self._user = USER if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.uri = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> TrackingServer:
        try:
            self._make_database()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start what does not run, and wait until it answers."""
        if "postgres" not in self._running:
            options = ["-D", f"{self.folder}/data", "-h", "127.0.0.1", "-p", str(self._own)]
            self._begin("postgres", [program("postgres"), *options, "-k", "", "-F"], self._user)
            self._wait("postgres", lambda: socket.create_connection(("127.0.0.1", self._own)))
        if "mlflow" not in self._running:
            database = f"postgresql+psycopg2://tiltbench@127.0.0.1:{self._own}/postgres"
            options = ["--backend-store-uri", database, "--host", "127.0.0.1"]
            options += ["--port", str(self._port), "--workers", "1"]
            options += ["--artifacts-destination", str(self.folder / "artifacts")]
            self._begin("mlflow", [sys.executable, "-m", "mlflow", "server", *options], None)
            self._wait("mlflow", lambda: urllib.request.urlopen(f"{self.uri}/health", timeout=60))

    def kill(self, *names: str) -> None:
        """End some of the two at once, with all their processes; both where none is named."""
        for name in names or tuple(self._running):
            process = self._running.pop(name)
            os.killpg(process.pid, AT_ONCE[name])
            process.wait()

    def _make_database(self) -> None:
        self.folder.chmod(0o755)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        shutil.chown(data, self._user)
        made = [program("initdb"), "-D", str(data), "-U", "tiltbench", "--auth=trust"]
        options = ["--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*made, *options], check=True, user=self._user, capture_output=True, cwd="/")

    def _begin(self, name: str, command: list[str], user: str | None) -> None:
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, user=user, start_new_session=True, cwd="/", env=env
            )

    def _wait(self, name: str, answers: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answers()
            except OSError:
                log = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                assert self._running[name].poll() is None, f"{name} ended:\n{log}"
                assert time.monotonic() < end, f"{name} does not answer:\n{log}"
                time.sleep(0.2)
            else:
                return
