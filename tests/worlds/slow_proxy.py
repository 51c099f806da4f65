"""A server on loopback that hands requests on, and every answer only after a while."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CARRIED = ("Content-Type", "Accept")


class SlowProxy:
    """Stands before the server at `uri`; `delay` in seconds may be changed at any time."""

    def __init__(self, uri: str, delay: float) -> None:
        self.delay, self.requests = delay, 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _hand_on(self) -> None:
                proxy.requests += 1
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                headers = {name: self.headers[name] for name in CARRIED if name in self.headers}
                asked = urllib.request.Request(uri + self.path, body, headers, method=self.command)
                try:
                    with urllib.request.urlopen(asked) as answer:
                        status, kind, data = answer.status, answer.headers, answer.read()
                except urllib.error.HTTPError as error:
                    status, kind, data = error.code, error.headers, error.read()
                time.sleep(proxy.delay)
                self.send_response(status)
                self.send_header("Content-Type", kind.get("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _hand_on

            def log_message(self, *_: object) -> None:
                """Nothing is said."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> SlowProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
