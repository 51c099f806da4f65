"""Serves one scorer over HTTP: `python -m rewards.scorer_server SCORER.py`.

This file needs Pillow and nothing else, nothing of ours either: copied or run by its path, it works
in the environment that the scorer needs.  A scorer is a Python file with one function,

    def score(pictures, prompts):   # PIL images in RGB, and a sentence for each
        return [...]                # a number for each, higher is better

and, where it likes, version() (the packages and weights behind it, as text), NAME, PROMPTS (False
if it reads none), SCALE (words), LIMITS (low, high), ACCURACY ((benchmark, percent, source), ...).

Protocol 1, JSON in UTF-8:

    GET /health   200 {protocol, name, version, prompts, scale, limits, accuracy}
    POST /score   {protocol, pictures: [PNG in base64], prompts: [text]}
                  200 {protocol, name, version, scores: [number]}
    else          {error: a sentence}; 503 means: ask again

The version is what the scorer says and the SHA-256 of its file.  `score` is called by keyword and
by one thread at a time, so that neither the order of its arguments nor a busy GPU matters.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import inspect
import io
import ipaddress
import json
import math
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROTOCOL = 1
HOST, PORT = "127.0.0.1", 8750
LARGEST_BODY = 512 * 2**20
"""Bytes of a request; a longer one is refused unread."""


class Refused(Exception):
    """What the client has to mend; the status of HTTP comes first."""


@dataclass(frozen=True)
class Health:
    """What a server says of its scorer; limits: (low, high) between which all scores lie."""

    name: str
    version: str
    prompts: bool = True
    scale: str = ""
    limits: tuple[float, float] | None = None
    accuracy: tuple[tuple[str, float, str], ...] = ()
    protocol: int = PROTOCOL


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone: nothing is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Scorer:
    """The functions and constants of a scorer's file; raises SystemExit with a sentence."""

    def __init__(self, path: Path) -> None:
        self.module = _imported(path)
        self.lock = threading.Lock()
        names = list(inspect.signature(self.module.score).parameters)
        if not {"pictures", "prompts"} <= set(names):
            raise SystemExit(f"{path}: it must have score(pictures, prompts), not {names}")
        said = str(getattr(self.module, "version", str)())
        source = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        self.health = Health(
            name=getattr(self.module, "NAME", path.stem),
            version=f"{said}+{source}" if said else source,
            prompts=getattr(self.module, "PROMPTS", True),
            scale=getattr(self.module, "SCALE", ""),
            limits=getattr(self.module, "LIMITS", None),
            accuracy=getattr(self.module, "ACCURACY", ()),
        )

    def scores(self, asked: dict[str, Any]) -> list[float]:
        """A finite number for each picture, or an error that says what the scorer did."""
        pictures, prompts = pairs(asked)
        with self.lock:
            found = self.module.score(pictures=pictures, prompts=prompts)
        scores = [float(value) for value in found]
        if len(scores) != len(pictures):
            raise ValueError(f"score returned {len(scores)} numbers for {len(pictures)} pictures")
        bad = [k for k, value in enumerate(scores) if not math.isfinite(value)]
        if bad:
            raise ValueError(f"score returned {scores[bad[0]]} for picture {bad[0]}")
        return scores


def _imported(path: Path) -> Any:
    if not path.is_file():
        raise SystemExit(f"there is no scorer file {path}")
    spec = importlib.util.spec_from_file_location("served_scorer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["served_scorer"] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "score", None)):
        raise SystemExit(f"{path}: it has no function score(pictures, prompts)")
    return module


def pairs(asked: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """The pictures and prompts of a request; raises Refused."""
    from PIL import Image

    if not isinstance(asked, dict) or asked.get("protocol") != PROTOCOL:
        raise Refused(f"this server speaks protocol {PROTOCOL}")
    encoded, prompts = asked.get("pictures"), asked.get("prompts")
    if not isinstance(encoded, list) or not isinstance(prompts, list):
        raise Refused("pictures and prompts must be lists")
    if len(encoded) != len(prompts):
        raise Refused(f"{len(encoded)} pictures and {len(prompts)} prompts")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise Refused("prompts must be text")
    try:
        data = [io.BytesIO(base64.b64decode(text, validate=True)) for text in encoded]
        return [Image.open(one, formats=["PNG"]).convert("RGB") for one in data], prompts
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them into
        raise Refused(f"a picture is no PNG in base64: {error}") from error


class Handler(BaseHTTPRequestHandler):
    """Answers in JSON; whatever goes wrong is a sentence under `error`."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The health."""
        if self.path != "/health":
            return self._answer(404, {"error": f"there is no {self.path}: GET /health"})
        return self._answer(200, asdict(self.server.scorer.health))

    def do_POST(self) -> None:
        """Scores."""
        scorer = self.server.scorer
        try:
            scores = scorer.scores(self._asked())
        except Refused as error:
            return self._answer(400, {"error": str(error)})
        except Exception as error:  # whatever somebody's model raises
            traceback.print_exc()
            return self._answer(500, {"error": f"{type(error).__name__}: {error}"})
        about = {"name": scorer.health.name, "version": scorer.health.version}
        return self._answer(200, {"protocol": PROTOCOL, **about, "scores": scores})

    def _asked(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            raise Refused(f"a request has at most {LARGEST_BODY} bytes, not {length}: send fewer")
        body = self.rfile.read(length)
        # A page in a browser cannot send this type without being allowed to, and nothing allows it.
        if self.path != "/score" or self.headers.get_content_type() != "application/json":
            raise Refused("POST JSON to /score")
        try:
            return json.loads(body)
        except ValueError as error:
            raise Refused(f"the request is no JSON: {error}") from error

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each batch says nothing to anybody."""


class Server(ThreadingHTTPServer):
    """One scorer on one port."""

    daemon_threads = True

    def __init__(self, scorer: Scorer, host: str = HOST, port: int = PORT) -> None:
        self.scorer = scorer
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted; the first line of output says where."""
    parser = argparse.ArgumentParser(description="Serve a scorer of pictures and prompts.")
    parser.add_argument("scorer", type=Path, help="a Python file with score(pictures, prompts)")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one")
    parser.add_argument("--remote", action="store_true", help="allow a host other than this one")
    given = parser.parse_args(arguments)
    if not is_loopback(given.host) and not given.remote:
        parser.error(
            f"--host {given.host} lets other machines in, and nothing asks them who they are: "
            "add --remote if that is meant"
        )
    with Server(Scorer(given.scorer), given.host, given.port) as server:
        health = server.scorer.health
        print(f"{health.name} {health.version} at {server.url}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", flush=True)


if __name__ == "__main__":
    main()
