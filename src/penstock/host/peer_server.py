"""Hands the models of this host's nodes to other nodes, so that a model crosses the way from its source once.

GET /NODE/blobs/ALGORITHM/DIGEST    one content, whole or a range (RFC 9110, 14)
GET /NODE/records/KEY/SNAPSHOT      which files a model has, and their digests

Only with the token, which the nodes' caches hold (mode 0600); on loopback; all answers together at most BYTES_PER_S. It runs in threads
of its own: sendfile(2) moves the bytes.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from penstock.contracts.peers import PEERS, Peers
from penstock.host.kubelet.layout import Layout, write_atomically
from penstock.host.model_store import BLOBS, MODELS, RECORD

BYTES_PER_S = 1e9
CHUNK_BYTES = 1 << 20
MAX_CONNECTIONS = 64
TIMEOUT_S = 30.0
_BLOB = re.compile(r"/([a-z0-9.-]{1,63})/blobs/(sha256|blake3)/([0-9a-f]{64})")
_RECORD = re.compile(r"/([a-z0-9.-]{1,63})/records/([0-9a-f]{32})/([0-9a-f]{32})")


class PeerServer:
    """From `start` to `close`."""

    def __init__(self, layout: Layout, nodes: Iterable[str]) -> None:
        self._layout = layout
        self._nodes = tuple(sorted(nodes))
        self._token = secrets.token_urlsafe(32)
        self._server: _Server | None = None

    def start(self) -> None:
        """Serve, and tell every node's cache of the others."""
        self._server = _Server(self._layout, frozenset(self._nodes), self._token)
        threading.Thread(target=self._server.serve_forever, args=(0.5,), name="peers", daemon=True).start()
        base = f"http://127.0.0.1:{self._server.server_address[1]}"
        for node in self._nodes:
            cache = self._layout.cache(node)
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            others = tuple(f"{base}/{other}" for other in self._nodes if other != node)
            write_atomically(cache / PEERS, Peers(token=self._token, peers=others).encoded())

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, layout: Layout, nodes: frozenset[str], token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.layout = layout
        self.nodes = nodes
        self.token = f"Bearer {token}"
        self.slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pace(self, count: int) -> None:
        """Wait for the turn of so many bytes."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / BYTES_PER_S
            wait_s = self._free_at - now
        if wait_s > 0:
            time.sleep(wait_s)

    def handle_error(self, request: object, client_address: object) -> None:
        """A fetcher that goes away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: fetchers say what they do."""

    def do_GET(self) -> None:
        """One answer; more connections than MAX_CONNECTIONS are told to come later."""
        if not hmac.compare_digest(
            self.headers.get("authorization", "").encode(), self.server.token.encode()
        ):
            self._refuse(HTTPStatus.UNAUTHORIZED)
        elif not self.server.slots.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            try:
                self._answer(self._path())
            finally:
                self.server.slots.release()

    def _path(self) -> Path | None:
        blob, record = _BLOB.fullmatch(self.path), _RECORD.fullmatch(self.path)
        found = blob or record
        if found is None or found[1] not in self.server.nodes:
            return None
        cache = self.server.layout.cache(found[1])
        if blob is not None:
            return cache / BLOBS / blob[2] / blob[3]
        return cache / MODELS / found[2] / found[3] / RECORD

    def _answer(self, path: Path | None) -> None:
        try:
            file = path.open("rb") if path is not None else None
        except OSError:
            file = None
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            size = file.seek(0, 2)
            asked = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", self.headers.get("range", ""))
            start, stop = (int(asked[1]), min(size, int(asked[2] or size - 1) + 1)) if asked else (0, size)
            if asked and start >= stop:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
            if asked:
                self.send_header("content-range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("content-length", str(stop - start))
            self.end_headers()
            self.wfile.flush()
            while start < stop:
                count = min(CHUNK_BYTES, stop - start)
                self.server.pace(count)
                start += self.connection.sendfile(file, start, count) or count

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
