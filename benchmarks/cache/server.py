"""`python -m benchmarks.cache.server FOLDER [BYTES_PER_S]`: a web server with ranges, shaped like a file server, an S3 store and the Hub.

Below FOLDER: `files/NAME` at /files/NAME; `s3/BUCKET/KEY` at /BUCKET/KEY with ListObjectsV2; `hub/OWNER/MODEL/NAME` by the Hub's API, with
SHA-256 from `NAME.sha256` beside it. /_served tells how many bytes of bodies went out; BYTES_PER_S paces each connection.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CHUNK_BYTES = 4 << 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, root: Path, bytes_per_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.bytes_per_s = bytes_per_s
        self.served = 0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed is part of the measurement."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if path == "/_served":
            self._answer(str(self.server.served).encode(), "text/plain")
        elif found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/revision/[\w.-]+", path):
            self._hub_listing(found[1])
        elif found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/[\w.-]+/(.+)", path):
            self._file(self.server.root / "hub" / found[1] / found[2])
        elif "list-type" in query:
            self._s3_listing(path.strip("/"), query.get("prefix", [""])[0])
        elif path.startswith("/files/"):
            self._file(self.server.root / path.lstrip("/"))
        else:
            self._file(self.server.root / "s3" / path.lstrip("/"))

    def _hub_listing(self, model: str) -> None:
        siblings = []
        for path in sorted((self.server.root / "hub" / model).iterdir()):
            if path.suffix != ".sha256":
                digest = path.with_name(f"{path.name}.sha256").read_text()
                size = path.stat().st_size
                lfs = {"sha256": digest, "size": size, "pointerSize": 134}
                siblings.append({"rfilename": path.name, "size": size, "blobId": digest[:40], "lfs": lfs})
        listing = {
            "id": model,
            "modelId": model,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "siblings": siblings,
        }
        self._answer(json.dumps(listing).encode(), "application/json")

    def _s3_listing(self, bucket: str, prefix: str) -> None:
        root = self.server.root / "s3" / bucket
        found = [p for p in sorted(root.rglob("*")) if p.is_file()]
        keys = [(p.relative_to(root).as_posix(), p) for p in found]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{etag(path)}</ETag><Size>{path.stat().st_size}</Size></Contents>"
            for key, path in keys
            if key.startswith(prefix)
        )
        body = f"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        self._answer(body.encode(), "application/xml")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        start, stop = (int(asked[1]), min(size, int(asked[2] or size - 1) + 1)) if asked else (0, size)
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(stop - start))
        self.send_header("etag", etag(path))
        self.send_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("accept-ranges", "bytes")
        if asked:
            self.send_header("content-range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if self.command != "HEAD":
            self._send(path, start, stop)

    def _send(self, path: Path, start: int, stop: int) -> None:
        self.wfile.flush()
        with path.open("rb") as file:
            while start < stop:
                began = time.monotonic()
                sent = self.connection.sendfile(file, start, min(CHUNK_BYTES, stop - start))
                if not sent:
                    return
                start += sent
                with self.server.lock:
                    self.server.served += sent
                if self.server.bytes_per_s:
                    time.sleep(max(0.0, sent / self.server.bytes_per_s - (time.monotonic() - began)))


def etag(path: Path) -> str:
    found = path.stat()
    return f'"{hashlib.sha256(f"{found.st_size}-{found.st_mtime_ns}".encode()).hexdigest()[:32]}"'


def main() -> None:
    server = Server(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
