"""A web server on loopback for one file, that behaves as badly as it is told, and counts what it serves."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE_BYTES = 1 << 16


class FileServer(ThreadingHTTPServer):
    """Serves `files` (path → content). Faults are lists, of which each GET takes the first; None is no fault."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.statuses: list[int | None] = []
        self.cuts: list[int | None] = []
        self.ranges = True
        self.sizes = True
        self.versions = True
        self.heads = 200
        self.keeps_connections = False
        self.pause: Callable[[int], None] = lambda sent: None
        self.answered: list[str] = []
        self.ranges_asked: list[str] = []
        self.served_bytes = 0
        self.lock = threading.Lock()

    def uri(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is no fault."""

    def take(self, faults: list[int | None]) -> int | None:
        with self.lock:
            return faults.pop(0) if faults else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        content = self.server.files.get(self.path.partition("?")[0])
        self._head(404 if content is None else self.server.heads, content or b"")

    def do_GET(self) -> None:
        server = self.server
        content = server.files.get(self.path.partition("?")[0])
        status = server.take(server.statuses)
        asked = self.headers.get("range", "")
        with server.lock:
            server.ranges_asked.append(asked)
        if content is None or status:
            self._head(status or 404, b"")
            return
        start, stop = 0, len(content)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if server.ranges else None
        if match and self._is_current(content):
            start, stop = int(match[1]), min(stop, int(match[2] or stop) + 1)
            if start >= len(content):
                self._head(416, b"", [("content-range", f"bytes */{len(content)}")])
                return
        body, partial = content[start:stop], start > 0 or stop < len(content)
        more = [("content-range", f"bytes {start}-{stop - 1}/{len(content)}")] if partial else []
        self._head(206 if partial else 200, body, more, version_of=content)
        cut = server.take(server.cuts)
        self._body(body, len(content) if cut is None else cut)

    def _is_current(self, content: bytes) -> bool:
        return self.headers.get("if-range") in (None, etag(content))

    def _head(
        self, status: int, body: bytes, more: list[tuple[str, str]] | None = None, version_of: bytes = b""
    ) -> None:
        self.server.answered.append(f"{self.command} {status}")
        self.send_response(status)
        if self.server.sizes or status >= 300:
            self.send_header("content-length", str(len(body)))
        if not self.server.keeps_connections:
            self.send_header("connection", "close")
        if status < 300 and self.server.versions:
            self.send_header("etag", etag(version_of or body))
        for name, value in more or []:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = not self.server.keeps_connections

    def _body(self, content: bytes, most: int) -> None:
        for place in range(0, min(most, len(content)), PIECE_BYTES):
            piece = content[place : min(most, place + PIECE_BYTES)]
            self.server.pause(self.server.served_bytes)
            self.wfile.write(piece)
            with self.server.lock:
                self.server.served_bytes += len(piece)


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
