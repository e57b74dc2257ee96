"""A Hub on loopback with one model, that answers as the real one does where sources ask."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from penstock.plugins.sources.huggingface import HubSource, open_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = os.urandom(300_000)
FILES = {
    "config.json": b"{}",
    "onnx/model.onnx": b"onnx",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    ".gitattributes": b"",
}


class Hub(ThreadingHTTPServer):
    """`refusals`: path's beginning → status and error code. Large files are behind a redirect, as on the real Hub."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.files = dict(FILES)
        self.refusals: dict[str, tuple[int, str]] = {}
        self.ranges = True
        self.served_bytes = 0
        self.asked: list[tuple[str, str]] = []

    def open(self, uri: str, token: str = "") -> HubSource:
        return open_source(uri, {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": token})


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.server.asked.append((path, self.headers.get("authorization", "")))
        for beginning, (status, code) in self.server.refusals.items():
            if path.startswith(beginning):
                self._send(status, b"", {"x-error-code": code} if code else {})
                return
        if path in ("/api/models/owner/bert/revision/main", "/api/models/owner/bert/revision/v1"):
            assert url.query in ("blobs=True", "blobs=true")
            self._send(200, json.dumps(self._info()).encode(), {"content-type": "application/json"})
        elif path.startswith("/api/"):
            code = "RevisionNotFound" if path.startswith("/api/models/owner/bert/") else "RepoNotFound"
            self._send(404, b"", {"x-error-code": code})
        elif path.startswith(resolved := f"/owner/bert/resolve/{COMMIT}/"):
            self._file(path.removeprefix(resolved), redirect=path.endswith(".safetensors"))
        elif path.startswith("/blobs/"):
            self._file(path.removeprefix("/blobs/"))
        else:
            self._send(404, b"", {"x-error-code": "EntryNotFound"})

    def _info(self) -> dict[str, object]:
        siblings = []
        for name, content in self.server.files.items():
            sibling: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
            if name.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": "owner/bert", "modelId": "owner/bert", "sha": COMMIT, "siblings": siblings}

    def _file(self, name: str, redirect: bool = False) -> None:
        content = self.server.files[name]
        if redirect:
            self._send(302, b"", {"location": f"{self.server.endpoint}/blobs/{name}"})
            return
        asked = self.headers.get("range", "")
        if asked and self.server.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            self._send(
                206, content[start:stop], {"content-range": f"bytes {start}-{stop - 1}/{len(content)}"}
            )
        else:
            self._send(200, content)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.server.served_bytes += len(body)
        self.wfile.write(body)


@contextmanager
def hub_server() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
