"""Scorer servers for tests: real processes, and one in a thread that answers what it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "rewards" / "scorer_server.py"
COLOURS = ROOT / "examples" / "scorers" / "colours.py"


class ServerProcess:
    """A server of a scorer's file, in a process of its own and by its path alone."""

    def __init__(self, scorer: Path, port: int = 0, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, str(SERVER), str(scorer), "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        self.url = self.line.rpartition(" ")[2]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving(scorer: Path, env: dict[str, str] | None = None) -> Iterator[ServerProcess]:
    server = ServerProcess(scorer, env=env)
    try:
        yield server
    finally:
        server.kill()


HEALTH = {"protocol": 1, "name": "liar", "version": "1", "prompts": True, "limits": [0, 1]}


@contextmanager
def answering(*answers: tuple[int, Any]) -> Iterator[tuple[str, list[str]]]:
    """Gives the answers to POST in turn, the last for ever; yields its url and what was asked."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, HEALTH)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            self._send(*answers[min(len(asked), len(answers)) - 1])

        def _send(self, status: int, content: Any) -> None:
            self.send_response(status)
            if status in (301, 307):
                self.send_header("Location", content)
            self.end_headers()
            self.wfile.write(
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
