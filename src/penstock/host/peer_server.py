"""Hands the models of this host's nodes to other nodes, so that a model crosses the way from its source once.

GET /NODE/blobs/ALGORITHM/DIGEST    one content, whole or a range (RFC 9110, 14)
GET /NODE/records/KEY/SNAPSHOT      which files a model has, and their digests

Without /NODE it is whichever node has it. Nodes of this host are served on loopback, with a token that their caches hold (mode 0600); other
hosts, where settings open a port for them, with the token of their common secret, and over TLS but on loopback. All answers at a port
together are at most so many bytes a second. It runs in threads of its own: sendfile(2) moves the bytes where they are not encrypted.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

from penstock.contracts.peers import PEERS, Opening, Peer, Peers
from penstock.host.kubelet.layout import Layout, write_atomically
from penstock.host.model_store import BLOBS, MODELS, RECORD
from penstock.kit.errors import InvalidInput, Unavailable

BYTES_PER_S = 1e9
CHUNK_BYTES = 1 << 20
MAX_ANSWERS = 64
MAX_CONNECTIONS = 256
TIMEOUT_S = 30.0
_NODE = r"(?:/([a-z0-9.-]{1,63}))?"
_BLOB = re.compile(_NODE + r"/blobs/(sha256|blake3)/([0-9a-f]{64})")
_RECORD = re.compile(_NODE + r"/records/([0-9a-f]{32})/([0-9a-f]{32})")


class PeerServer:
    """From `start` to `close`. `opening` is where other hosts may ask, `others` whom this host's nodes ask after each other."""

    def __init__(
        self,
        layout: Layout,
        nodes: Iterable[str],
        *,
        opening: Opening | None = None,
        others: Sequence[Peer] = (),
    ) -> None:
        self._layout = layout
        self._nodes = tuple(sorted(nodes))
        self._opening = opening
        self._others = tuple(others)
        self._servers: list[_Server] = []

    def start(self) -> None:
        """Serve, and tell every node's cache whom to ask. Raises Unavailable and InvalidInput where other hosts cannot be served."""
        token = secrets.token_urlsafe(32)
        openings = [Opening("127.0.0.1", 0, token, BYTES_PER_S), *([self._opening] if self._opening else ())]
        try:
            for opening in openings:
                self._servers.append(_Server(self._layout, self._nodes, opening))
        except BaseException:
            self._end([])
            raise
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.5,), name="peers", daemon=True).start()
        base = f"http://127.0.0.1:{self._servers[0].server_address[1]}"
        for node in self._nodes:
            cache = self._layout.cache(node)
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = (Peer(url=f"{base}/{other}", token=token) for other in self._nodes if other != node)
            write_atomically(cache / PEERS, Peers(peers=(*beside, *self._others)).encoded())

    def close(self) -> None:
        """Answer no more."""
        self._end(self._servers)

    def _end(self, serving: list[_Server]) -> None:
        for server in serving:
            server.shutdown()
        for server in self._servers:
            server.server_close()
        self._servers = []


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, layout: Layout, nodes: tuple[str, ...], opening: Opening) -> None:
        self.address_family = socket.AF_INET6 if ":" in opening.host else socket.AF_INET
        self._tls = _tls(opening)
        try:
            super().__init__((opening.host, opening.port), _Handler)
        except OSError as error:
            raise Unavailable(
                f"modelPeers.listen: {opening.host}:{opening.port} cannot be used: {error.strerror}",
                code="port_taken",
                hint="choose another port, or end what listens there",
            ) from None
        self.layout = layout
        self.nodes = nodes
        self.token = f"Bearer {opening.token}"
        self.answers = threading.BoundedSemaphore(MAX_ANSWERS)
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._bytes_per_s = opening.bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pace(self, count: int) -> None:
        """Wait for the turn of so many bytes."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._bytes_per_s
            wait_s = self._free_at - now
        if wait_s > 0:
            time.sleep(wait_s)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, so many at most; one more is closed."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no further thread can be started
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Who is slow to shake hands keeps nobody waiting."""
        try:
            request.settimeout(TIMEOUT_S)
            spoken = self._tls.wrap_socket(request, server_side=True) if self._tls else request
        except OSError:
            self.shutdown_request(request)
        else:
            super().process_request_thread(spoken, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A fetcher that goes away is no fault."""


def _tls(opening: Opening) -> ssl.SSLContext | None:
    if not opening.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(opening.certificate, opening.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise InvalidInput(
            f"modelPeers.tlsCertificate: {opening.certificate} and its key cannot be used: {reason}"
        ) from None
    return context


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: fetchers say what they do."""

    def do_GET(self) -> None:
        """One answer; more at once than MAX_ANSWERS are told to come later."""
        if not hmac.compare_digest(
            self.headers.get("authorization", "").encode(), self.server.token.encode()
        ):
            self._refuse(HTTPStatus.UNAUTHORIZED)
        elif not self.server.answers.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            try:
                self._answer(self._file())
            finally:
                self.server.answers.release()

    def _file(self) -> BinaryIO | None:
        blob, record = _BLOB.fullmatch(self.path), _RECORD.fullmatch(self.path)
        found = blob or record
        if found is None:
            return None
        below = (BLOBS, found[2], found[3]) if blob else (MODELS, found[2], found[3], RECORD)
        for node in self.server.nodes:
            if found[1] in (None, node):
                with contextlib.suppress(OSError):
                    return self.server.layout.cache(node).joinpath(*below).open("rb")
        return None

    def _answer(self, file: BinaryIO | None) -> None:
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
                start += self._send(file, start, count) or count

    def _send(self, file: BinaryIO, start: int, count: int) -> int:
        if not isinstance(self.connection, ssl.SSLSocket):
            return int(self.connection.sendfile(file, start, count))
        file.seek(start)
        self.connection.sendall(piece := file.read(count))
        return len(piece)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
