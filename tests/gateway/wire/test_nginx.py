"""nginx as a proxy in front of a recorder: what we pass on, nginx passes on too, as the same requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_world import until
from hypothesis import HealthCheck, given, settings
from observers import Sight, difference, ours
from recorder import Recorder
from shapes import near_requests
from smuggling_vectors import SENTINEL
from test_smuggling import VECTORS

from free_ports import free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CORPUS = sorted((Path(__file__).parents[1] / "corpus" / "server").glob("*"))
CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_header_timeout 200ms; client_body_timeout 200ms; keepalive_timeout 200ms; large_client_header_buffers 8 64k;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_set_header x-request-id $request_id; }} }}
}}
"""
SENT_S = 0.1
"""In which all of it has to be sent, or nginx, whose patience is above, saw less of it than there was."""
KNOWN = {
    rb"TRACE |CONNECT |OPTIONS \* ": "nginx answers TRACE, CONNECT and the asterisk itself",
    rb"#": "nginx takes a fragment off the target",
    rb"HTTP://": "nginx takes an absolute target only in small letters",
    rb"\.\.|%": "nginx decodes a target before it judges it, and refuses to leave the root",
    rb"\t": "nginx takes only spaces as OWS (R9110 5.6.3: tabs too)",
    rb"(?i)expect:[^\n]*\r\n(?:[^\r]+\r\n)*expect:": "nginx takes Expect once; R9110 10.1.1 makes it a list",
}
"""What nginx sees otherwise, and why that does no harm: none of them moves the end of a request."""


class Proxy:
    """A real nginx on a free port."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self.recorder = recorder
        self.port = free_port()
        self._config = folder / "nginx.conf"
        self._config.write_text(CONFIG.format(folder=folder, port=self.port, upstream=recorder.port))

    async def start(self) -> None:
        assert NGINX is not None
        self._process = await asyncio.create_subprocess_exec(
            NGINX, "-c", str(self._config), "-p", str(self._config.parent), stderr=asyncio.subprocess.DEVNULL
        )
        await until(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.1):
            return True
        return False

    async def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        await self._process.wait()

    async def sees(self, data: bytes) -> Sight:
        """What arrives behind nginx, which ends every connection by itself."""
        sent_s = SENT_S
        while sent_s >= SENT_S:
            self.recorder.seen.clear()
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(data)
            sent_s, answer = time.monotonic() - began, b""
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(30):
                    while piece := await reader.read(65536):
                        answer += piece
            writer.transport.abort()
        return Sight(
            list(self.recorder.seen), refused=b"HTTP/1.1 4" in answer, reason=answer[:60].decode("latin-1")
        )


@contextlib.asynccontextmanager
async def proxy(folder: Path) -> AsyncIterator[Proxy]:
    if NGINX is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is absent")
        pytest.skip("nginx is absent")
    recorder = Recorder()
    await recorder.start()
    recorder.running.remove(recorder)  # it ends here, on this loop
    running = Proxy(folder, recorder)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
        await recorder.stop()


async def compare(running: Proxy, data: bytes) -> str:
    """We ask after number, methods and bodies; nginx writes targets anew. A sentinel ends the connection where it can."""
    if any(re.search(pattern, data) for pattern in KNOWN):
        return ""
    data += SENTINEL
    mine, other = await ours(data), await running.sees(data)
    for sight in (mine, other):
        sight.requests = [(method, b"", body) for method, _, body in sight.requests]
    return difference(mine, other, data)


async def test_the_table_and_the_corpus_mean_the_same_to_nginx(tmp_path: Path) -> None:
    async with proxy(tmp_path) as running:
        found = {}
        for name, data in {
            **{name: vector.data for name, vector in VECTORS.items()},
            **{path.name: path.read_bytes() for path in CORPUS},
        }.items():
            if len(data) < 100_000 and (told := await compare(running, data)):
                found[name] = told
    assert not found


def test_near_requests_mean_the_same_to_nginx(tmp_path: Path) -> None:
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        context = proxy(tmp_path)
        running = runner.run(context.__aenter__())
        stack.callback(lambda: runner.run(context.__aexit__(None, None, None)))

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(near_requests(max_changes=2))
        def same(data: bytes) -> None:
            assert not runner.run(compare(running, data)), data

        same()
