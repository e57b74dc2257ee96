"""The engine by hand: as the kubelet starts it, without anything around it."""

from __future__ import annotations

import socket
import subprocess
import time

import httpx
from benchmarks.wake.chat import Timed, first_token
from benchmarks.wake.platform import Engine

EVERY_S = 0.005
LIMIT_S = 60.0


class Bare:
    """On an address of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._address = ("127.10.10.10", 8080)
        pods_own = engine.environment["POD_IP"]
        self._command = [word.replace(pods_own, self._address[0]) for word in engine.command]
        self._url = "http://{}:{}".format(*self._address)

    def start(self) -> Timed:
        """From exec to the first token; it is stopped afterwards."""
        environment = self._engine.environment | {"POD_IP": self._address[0]}
        with httpx.Client(base_url=self._url, timeout=LIMIT_S, trust_env=False) as client:
            began = time.time()
            process = subprocess.Popen(self._command, env=environment, stderr=subprocess.DEVNULL)
            try:
                while not self._is_ready():
                    if process.poll() is not None or time.time() - began > LIMIT_S:
                        raise SystemExit("the engine did not start")
                    time.sleep(EVERY_S)
                ready = time.time()
                token = first_token(client, self._engine.model)
            finally:
                process.terminate()
                process.wait(LIMIT_S)
        return Timed.between({"engine: exec to ready": ready, "first token": token}, began)

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(self._address, timeout=1) as connection:
                connection.sendall(b"GET /health/ready HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
