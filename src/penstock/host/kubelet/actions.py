"""Probes and hooks: one HTTP request, one connection or one command, each with a time limit.

Written on raw asyncio streams: a client library would cost more than the idle platform is allowed to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from penstock.kit.errors import Invalid
from penstock.resources.meta import IntOrString
from penstock.resources.pod import (
    Container,
    ExecAction,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    TCPSocketAction,
)

MAX_HEAD_BYTES = 65536
MAX_OUTPUT_BYTES = 10240
MAX_REDIRECTS = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an action succeeded, and in words what came back."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where actions are aimed: the pod's address, and the environment and folder in which commands run."""

    address: str
    container: Container
    env: Mapping[str, str]
    cwd: Path
    rewrite: Callable[[str], str]
    """Puts real paths in the place of mount paths."""

    def port(self, port: IntOrString) -> int:
        """A number, or the number of the named containerPort; Invalid if there is no such name."""
        if isinstance(port, int) or port.isdigit():
            return int(port)
        for known in self.container.ports:
            if known.name == port:
                return known.container_port
        names = [known.name for known in self.container.ports if known.name]
        raise Invalid(
            f"containers[{self.container.name}]: no port named {port!r}",
            hint=f"named ports: {', '.join(names) or 'none'}",
        )


async def act(action: Probe | LifecycleHandler, target: Target, timeout_s: float) -> Answer:
    """Do it once; never raises for what a container may do wrong."""
    try:
        async with asyncio.timeout(timeout_s):
            if action.http_get:
                return await _http_get(action.http_get, target)
            if action.tcp_socket:
                return await _connect(action.tcp_socket, target)
            if action.exec:
                return await _run(action.exec, target)
            if isinstance(action, LifecycleHandler) and action.sleep:
                await asyncio.sleep(float(action.sleep.get("seconds", 0)))
                return Answer(True)
    except TimeoutError:
        return Answer(False, f"no answer within {timeout_s:g}s")
    except (OSError, ValueError, Invalid, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return Answer(False, str(error) or type(error).__name__)
    return Answer(
        False, "this kind of action is not supported on the embedded host; use httpGet, tcpSocket or exec"
    )


async def _connect(action: TCPSocketAction, target: Target) -> Answer:
    _, writer = await asyncio.open_connection(action.host or target.address, target.port(action.port))
    writer.close()
    return Answer(True)


async def _http_get(action: HTTPGetAction, target: Target) -> Answer:
    scheme = (action.scheme or "HTTP").lower()
    host = action.host or target.address
    url = f"{scheme}://{host}:{target.port(action.port)}/{action.path.lstrip('/')}"
    headers = {header.name: header.value for header in action.http_headers}
    for _ in range(MAX_REDIRECTS):
        status, location = await _request(url, headers)
        if not (300 <= status < 400 and location):
            break
        following = urljoin(url, location)
        if urlsplit(following).hostname != urlsplit(url).hostname:
            return Answer(True, f"redirected to another host: {following}")
        url = following
    else:
        return Answer(False, f"stopped after {MAX_REDIRECTS} redirects")
    return Answer(200 <= status < 400, f"HTTP probe failed with statuscode: {status}")


async def _request(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    parts = urlsplit(url)
    tls = _unverified() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=MAX_HEAD_BYTES)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {
            "Host": parts.netloc,
            "User-Agent": "kube-probe/penstock",
            "Accept": "*/*",
            "Connection": "close",
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**sent, **headers}.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise Invalid("httpGet: a header or the path holds a line break")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    finally:
        writer.close()
    found = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    return int(head[0].split(" ", 2)[1]), found.get("location", "")


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # as Kubernetes: a probe asks for life, not for identity
    return context


async def _run(action: ExecAction, target: Target) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *(target.rewrite(word) for word in action.command),
        env=dict(target.env),
        cwd=target.cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output = await _bounded(process.stdout) if process.stdout else b""
        code = await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Answer(code == 0, output.decode("utf-8", "replace").strip() or f"command exited with {code}")


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(4096):
        kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]
    return kept
