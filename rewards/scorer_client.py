"""Asks a scorer over HTTP (protocol: `rewards.scorer_server`): retries, timeouts, plain errors.

What may pass (no connection, a broken one, a timeout, 503) is tried again after pauses that double;
what cannot (a wrong request, a scorer that fails, an answer that is not to be believed) is not.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib import error as url_errors
from urllib import request as url_requests
from urllib.parse import urlsplit

from torch import Tensor

from bench.api import UserError
from bench.models.picture_folder import pillow
from rewards.scorer_server import PROTOCOL, Health, is_loopback

BUSY = 503
START = "start it with python -m rewards.scorer_server SCORER.py"


class ScorerError(UserError):
    """A scorer that does not answer, or whose answer is not to be believed; names the server."""


class Passing(Exception):
    """What may be otherwise in a moment."""


class Stay(url_requests.HTTPRedirectHandler):
    """Follows nobody elsewhere: a redirect could lead pictures off this machine."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None is an error of HTTP."""


OPENER = url_requests.build_opener(url_requests.ProxyHandler({}), Stay())
"""Without a proxy: what is meant for this machine stays on it."""


@dataclass(frozen=True)
class Patience:
    """Seconds for one answer, tries after the first, and the pause before the first of them."""

    timeout: float
    retries: int
    pause: float

    def pauses(self) -> list[float]:
        """Before each further try, doubling."""
        return [self.pause * 2**k for k in range(self.retries)]


@dataclass(frozen=True)
class ScorerClient:
    """A server by its address; `name` is asked for in its answers, unless it is empty."""

    url: str
    name: str
    patience: Patience

    def __str__(self) -> str:
        return f"the scorer {self.name} at {self.url}" if self.name else f"the scorer at {self.url}"

    def health(self) -> Health:
        """What the server says of its scorer."""
        said = self._answer("/health")
        known = {f.name for f in fields(Health)} & set(said)
        try:
            found = Health(**{key: said[key] for key in known})
        except TypeError as error:
            raise ScorerError(f"{self} says nothing of itself: {error}") from error
        self._known(found.name, found.protocol)
        return found

    def scores(self, pictures: Sequence[Tensor], prompts: Sequence[str]) -> tuple[list[float], str]:
        """Scores of uint8 pictures (height, width, 3), and the version that gave them."""
        asked = {
            "protocol": PROTOCOL,
            "pictures": [base64.b64encode(png(picture)).decode() for picture in pictures],
            "prompts": list(prompts),
        }
        said = self._answer("/score", json.dumps(asked).encode())
        self._known(said.get("name"), said.get("protocol"))
        return self._believed(said.get("scores"), len(pictures)), str(said.get("version"))

    def _known(self, name: object, protocol: object) -> None:
        if protocol != PROTOCOL:
            raise ScorerError(f"{self} speaks protocol {protocol}, not {PROTOCOL}: use one release")
        if self.name and name != self.name:
            raise ScorerError(f"{self} is another one, '{name}': mend the url or the name")

    def _believed(self, scores: object, count: int) -> list[float]:
        """A finite number for each picture."""
        if not isinstance(scores, list) or len(scores) != count:
            found = f"{len(scores)} scores" if isinstance(scores, list) else "no list of scores"
            raise ScorerError(f"{self} returned {found} for {count} pictures: mend its score()")
        for k, value in enumerate(scores):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ScorerError(f"{self} returned {value!r} for picture {k}: mend its score()")
        return [float(value) for value in scores]

    def _answer(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        started, why = time.monotonic(), ""
        for pause in (0.0, *self.patience.pauses()):
            time.sleep(pause)
            try:
                return self._once(path, body)
            except Passing as passing:
                why = str(passing)
        tries, spent = self.patience.retries + 1, time.monotonic() - started
        raise ScorerError(
            f"{self} did not answer in {tries} tries over {spent:.1f} s ({why}): {START}, or raise "
            "retries or timeout"
        )

    def _once(self, path: str, body: bytes | None) -> dict[str, Any]:
        asked = url_requests.Request(
            self.url.rstrip("/") + path, body, {"Content-Type": "application/json"}
        )
        try:
            with OPENER.open(asked, timeout=self.patience.timeout) as answer:
                return self._read(answer.read())
        except url_errors.HTTPError as error:
            said = _sentence(error)
            if error.code == BUSY:
                raise Passing(said) from error
            raise ScorerError(f"{self} answered {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Passing(_reason(error)) from error

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            said = json.loads(body)
        except ValueError as error:
            raise ScorerError(f"{self} answered what is no JSON: {error}") from error
        if not isinstance(said, dict):
            raise ScorerError(f"{self} answered what is no JSON object")
        return said


def checked_url(url: str, remote: bool) -> str:
    """The address, if it may be asked; raises ValueError that says what to change."""
    parts = urlsplit(url)
    if parts.username is not None or parts.query:
        raise ValueError(
            "url holds a name, a password or a query, and it is kept with every result: write "
            "http://HOST:PORT"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must read http://HOST:PORT, not '{url}'")
    if not is_loopback(parts.hostname) and not remote:
        raise ValueError(
            f"{parts.hostname} is not this machine, and pictures and prompts would be sent there: "
            "add remote=true if that is meant"
        )
    return url


def png(picture: Tensor) -> bytes:
    """A uint8 picture (height, width, 3), losslessly."""
    out = io.BytesIO()
    pixels = picture.cpu().contiguous().numpy()
    pillow().fromarray(pixels).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def _sentence(error: url_errors.HTTPError) -> str:
    """What the server says is wrong, in one line."""
    text = error.read().decode(errors="replace")
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        text = text or str(error.reason)
    return " ".join(text.split())[:300]


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return " ".join(str(inner).split()) or type(inner).__name__
