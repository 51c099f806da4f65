"""Watches that the cluster of a run is there: Ray itself ends the driver's process when it is not.

Twelve seconds after the raylet of the driver's node has died, and sixty after the head has, Ray
exits with a message in C++.  The run stops before that, with a sentence, as it does for Ctrl-C; or
without winding down, where the main thread does not come out of a call of Ray.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from bench.core.params import UserError

PERIOD = 0.5
"""Seconds between two looks."""

HERE, ELSEWHERE = 2.0, 20.0
"""Seconds without an answer after which a part of this machine, or of another one, is gone."""

AGAIN = 5.0
"""Seconds until the main thread is interrupted once more."""

UNHEARD, UNENDED = 8.0, 40.0
"""Seconds after which the process is ended from here: if the main thread, in a call of Ray that
waits for the head, has not heard the interrupt; and if it has, and has not come to an end."""

SIGNAL = getattr(signal, "SIGUSR2", None)
"""Interrupts the main thread; Tune has SIGUSR1 for itself.  None on Windows."""

KNOCK = 5.0
"""Seconds that a look may take."""


class ClusterGone(KeyboardInterrupt):
    """Interrupts the driver wherever it is, as Ctrl-C would."""


@dataclass(frozen=True)
class Part:
    """What a driver cannot do without: where it listens, and whether that is on this machine."""

    host: str
    port: int
    here: bool

    @property
    def patience(self) -> float:
        """Seconds of silence after which it is gone."""
        return HERE if self.here else ELSEWHERE

    def answers(self) -> bool:
        """Whether anything listens there now."""
        try:
            socket.create_connection((self.host, self.port), timeout=KNOCK).close()
        except OSError:
            return False
        return True


def parts_of(ray: Any) -> dict[str, Part]:
    """The head of the cluster and the raylet of this node, by what they are called."""
    context = ray.get_runtime_context()
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    address, raylet = own["NodeManagerAddress"], int(own["NodeManagerPort"])
    host, _, port = context.gcs_address.rpartition(":")
    return {
        "the head": Part(host, int(port), host == address),
        "the raylet of this machine": Part(address, raylet, here=True),
    }


@dataclass
class Watch:
    """Looks after parts of a cluster from a thread of its own; `gone` is the first that is lost."""

    parts: Mapping[str, Part]
    gone: str = ""
    heard: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Until it is told to end, or something is gone, which interrupts the main thread."""
        seen = dict.fromkeys(self.parts, time.monotonic())
        while not self.gone and not self.ended.wait(PERIOD):
            for name, part in self.parts.items():
                if part.answers():
                    seen[name] = time.monotonic()
                elif time.monotonic() - seen[name] > part.patience:
                    self.gone = name
        since = time.monotonic()
        while not self.ended.is_set():
            if time.monotonic() - since > (UNENDED if self.heard else UNHEARD):
                _end(said_of(self.gone))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
            self.ended.wait(AGAIN)  # somebody may have kept the interrupt to himself

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """The handler in the main thread."""
        self.heard = True
        raise ClusterGone


def _end(said: str) -> None:
    """What Ray would do seconds later, with a sentence: what is stored is stored by renames."""
    os.write(2, f"error: {said}\n".encode())
    os._exit(2)


@contextlib.contextmanager
def watched(ray: Any) -> Iterator[None]:
    """UserError as soon as the cluster is gone; outside the main thread nothing is watched."""
    if SIGNAL is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = Watch(parts_of(ray))
    thread = threading.Thread(target=watch.look, daemon=True)
    before = signal.signal(SIGNAL, watch.interrupt)
    thread.start()
    try:
        yield
    except BaseException as error:
        if watch.gone:  # whatever was raised: it lost the cluster it was working with
            raise UserError(said_of(watch.gone)) from error
        raise
    finally:
        watch.ended.set()
        signal.signal(SIGNAL, before)


def said_of(gone: str) -> str:
    """The sentence of a run that lost a part of its cluster."""
    return (
        f"Ray stopped working: {gone} does not answer any more. What has finished is stored, and "
        "nothing else counts as begun; once Ray is there again, the same command goes on"
    )
