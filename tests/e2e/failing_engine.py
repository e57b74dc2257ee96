"""A model server that fails as often as it is told, after a delay: `python failing_engine.py FAILURE_RATE DELAY_S`."""

from __future__ import annotations

import os
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    """Kept-alive HTTP/1.1; V1 predictions."""

    protocol_version = "HTTP/1.1"
    failure_rate, delay_s = float(sys.argv[1]), float(sys.argv[2])

    def do_GET(self) -> None:
        self._answer(200, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.delay_s)
        if random.random() < self.failure_rate:
            self._answer(500, b'{"error": "bad on purpose"}')
        else:
            self._answer(200, b'{"predictions": [1]}')

    def log_message(self, format: str, *args: object) -> None:
        return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["POD_IP"], 8080), Answers).serve_forever()
