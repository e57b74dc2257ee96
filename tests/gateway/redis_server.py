"""A real Redis of the test's own, on a Unix socket, without a file left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


class RedisServer:
    def __init__(self, folder: Path, password: str = "") -> None:
        self.socket = folder / "redis.sock"
        self._folder, self._password = folder, password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{f':{self._password}@' if self._password else ''}{self.socket}"

    def start(self) -> None:
        command = shutil.which("redis-server")
        if command is None:
            if os.environ.get("CI"):
                pytest.fail("redis-server is not installed")
            pytest.skip("redis-server is not installed")
        said = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder)]
        said += ["--requirepass", self._password] if self._password else []
        self._process = subprocess.Popen(
            [command, *said, "--save", "", "--appendonly", "no", "--maxclients", "64"],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(3000):
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                return
            except OSError:
                time.sleep(0.01)
        pytest.fail("redis-server does not listen")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(30)
            self._process = None
