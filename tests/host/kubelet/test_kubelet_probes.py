"""Probe actions against real sockets and commands; probe timing under virtual time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from free_ports import free_port
from penstock.host.kubelet import prober
from penstock.host.kubelet.actions import Answer, Target, act
from penstock.resources.pod import (
    Container,
    ContainerPort,
    ExecAction,
    HTTPGetAction,
    HTTPHeader,
    LifecycleHandler,
    Probe,
    TCPSocketAction,
)


def target(port: int = 1, cwd: Path = Path("/")) -> Target:
    container = Container(name="c", ports=(ContainerPort(name="web", container_port=port),))
    rewrite: Callable[[str], str] = lambda text: text.replace("/mounted", str(cwd))  # noqa: E731
    return Target("127.0.0.1", container, {"PATH": os.environ["PATH"], "WORD": "hi"}, cwd, rewrite)


@asynccontextmanager
async def server(answer: Callable[[str], bytes]) -> AsyncIterator[tuple[int, list[str]]]:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            seen.append(head)
            writer.write(answer(head.split(" ")[1]))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.append("")
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], seen
    finally:
        listening.close()
        await listening.wait_closed()


def reply(path: str) -> bytes:
    if path == "/moved":
        return b"HTTP/1.1 302 Found\r\nLocation: /ok\r\n\r\n"
    if path == "/away":
        return b"HTTP/1.1 301 Moved\r\nLocation: http://example.invalid/\r\n\r\n"
    if path == "/loop":
        return b"HTTP/1.1 307 Again\r\nLocation: /loop\r\n\r\n"
    if path == "/garbage":
        return b"\x00\x01 nonsense\r\n\r\n"
    if path == "/flood":
        return b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
    if path == "/cut":
        return b"HTTP/1.1 200"
    return {"/ok": b"HTTP/1.1 204 None\r\n\r\n", "/bad": b"HTTP/1.1 503 Busy\r\n\r\n"}[path]


@pytest.mark.parametrize(
    ("path", "ok", "words"),
    [
        ("/ok", True, ""),
        ("ok", True, ""),
        ("/moved", True, ""),
        ("/away", True, "redirected to another host"),
        ("/bad", False, "statuscode: 503"),
        ("/loop", False, "redirects"),
        ("/garbage", False, ""),
        ("/flood", False, ""),
        ("/cut", False, ""),
    ],
)
async def test_http_probe(path: str, ok: bool, words: str) -> None:
    async with server(reply) as (port, seen):
        probe = Probe(
            http_get=HTTPGetAction(port="web", path=path, http_headers=(HTTPHeader(name="X-A", value="1"),))
        )
        answer = await act(probe, target(port), 30)
        assert answer.ok is ok
        assert words in answer.message
        assert "X-A: 1\r\n" in seen[0]
        assert f"Host: 127.0.0.1:{port}\r\n" in seen[0]


async def test_a_header_cannot_smuggle_another(tmp_path: Path) -> None:
    async with server(reply) as (port, seen):
        headers = (HTTPHeader(name="X", value="1\r\nEvil: 2"),)
        answer = await act(
            Probe(http_get=HTTPGetAction(port=port, path="/ok", http_headers=headers)), target(), 30
        )
        assert not answer.ok
        assert not seen


async def test_tcp_probe_and_unknown_ports() -> None:
    async with server(reply) as (port, _):
        assert (await act(Probe(tcp_socket=TCPSocketAction(port="web")), target(port), 30)).ok
        assert (await act(Probe(tcp_socket=TCPSocketAction(port=str(port))), target(), 30)).ok
    closed = free_port()
    assert not (await act(Probe(tcp_socket=TCPSocketAction(port="web")), target(closed), 30)).ok
    answer = await act(Probe(tcp_socket=TCPSocketAction(port="nope")), target(closed), 30)
    assert "no port named 'nope'" in answer.message


async def test_exec_runs_in_the_containers_environment_with_rewritten_paths(tmp_path: Path) -> None:
    script = 'echo "$WORD" > /mounted/out; echo said; exit 3'
    answer = await act(Probe(exec=ExecAction(command=("/bin/sh", "-c", script))), target(cwd=tmp_path), 30)
    assert answer == Answer(False, "said")
    assert (tmp_path / "out").read_text() == "hi\n"
    assert not (await act(Probe(exec=ExecAction(command=("no-such-program",))), target(), 30)).ok


async def test_exec_output_is_bounded_and_a_slow_command_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = ExecAction(command=("/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"))
    assert len((await act(Probe(exec=flood), target(), 30)).message) == 10240
    slow = ExecAction(command=("/bin/sh", "-c", "sleep 71 & echo $! > pid; wait"))
    waiting = asyncio.create_task(act(Probe(exec=slow), target(cwd=tmp_path), 600))
    deadline = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    loop = asyncio.get_running_loop()
    started = loop.time()
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + 600)  # which the loop's own time follows
    assert loop.time() > started + 500
    assert await waiting == Answer(False, "no answer within 600s")
    child = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_what_is_not_supported_fails_with_a_sentence() -> None:
    answer = await act(Probe(grpc={"port": 1}), target(), 1)
    assert not answer.ok
    assert "not supported" in answer.message


class Heard:
    """Remembers what was told, with the (virtual) time."""

    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.said: list[tuple[float, str]] = []
        self.ready = False

    def _say(self, what: str) -> None:
        self.said.append((round(asyncio.get_running_loop().time() - self.began, 2), what))

    def on_started(self) -> None:
        self._say("started")

    def on_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self._say(f"ready {ready}")

    def on_unhealthy(self, message: str) -> None:
        self._say(message.partition(":")[0])


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[float, float]]]:
    """Per kind of probe, the stretches of virtual time in which it succeeds: http is readiness, tcp startup, exec liveness."""
    stretches: dict[str, list[tuple[float, float]]] = {"http": [], "tcp": [], "exec": []}
    began: list[float] = []

    async def fake(action: Probe | LifecycleHandler, aim: Target, timeout_s: float) -> Answer:
        now = asyncio.get_running_loop().time()
        began.append(now)
        kind = "http" if action.http_get else "tcp" if action.tcp_socket else "exec"
        return Answer(any(a <= now - began[0] + 1e-6 < b for a, b in stretches[kind]), "no")

    monkeypatch.setattr(prober, "act", fake)
    return stretches


HTTP = HTTPGetAction(port=1)
TCP = TCPSocketAction(port=1)


@pytest.mark.looptime
async def test_readiness_comes_soon_after_the_program_and_goes_after_the_threshold(
    well: dict[str, list[tuple[float, float]]],
) -> None:
    well["http"] = [(3.0, 34.0), (75.0, 999.0)]
    heard = Heard()
    probe = Probe(http_get=HTTP, period_seconds=10, failure_threshold=3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(120):
            await prober.watch(Container(name="c", readiness_probe=probe), target(), heard, started=False)
    ready = [(when, what) for when, what in heard.said if what.startswith("ready")]
    assert [what for _, what in ready] == ["ready True", "ready False", "ready True"]
    assert 3.0 <= ready[0][0] <= 3.5
    assert ready[1][0] == pytest.approx(60, abs=0.1), "periods at 40, 50 and 60"
    assert ready[2][0] == pytest.approx(80, abs=0.1)
    assert heard.said[0] == (0.0, "started"), "no startup probe"


@pytest.mark.looptime
async def test_nothing_else_is_probed_before_the_startup_probe_succeeded(
    well: dict[str, list[tuple[float, float]]],
) -> None:
    well["tcp"], well["exec"] = [(12.0, 999.0)], [(0.0, 50.0)]
    heard = Heard()
    container = Container(
        name="c",
        startup_probe=Probe(tcp_socket=TCP, period_seconds=5, failure_threshold=30),
        liveness_probe=Probe(exec=ExecAction(), period_seconds=10, failure_threshold=2),
    )
    verdict = await prober.watch(container, target(), heard, started=False)
    assert verdict == "Container c failed liveness probe, will be restarted"
    started = next(when for when, what in heard.said if what == "started")
    assert 12.0 <= started <= 13.1
    assert [what for when, what in heard.said if when < started] == ["Startup probe failed"] * 3
    failures = [when for when, what in heard.said if what == "Liveness probe failed"]
    assert len(failures) == 2
    assert failures[1] - failures[0] == pytest.approx(10, abs=0.1)


@pytest.mark.looptime
async def test_a_startup_probe_has_its_full_time_although_it_is_hurried(
    well: dict[str, list[tuple[float, float]]],
) -> None:
    heard = Heard()
    probe = Probe(tcp_socket=TCP, initial_delay_seconds=4, period_seconds=10, failure_threshold=3)
    verdict = await prober.watch(Container(name="c", startup_probe=probe), target(), heard, started=False)
    assert verdict == "Container c failed startup probe, will be restarted"
    assert heard.said == [
        (4.0, "Startup probe failed"),
        (14.0, "Startup probe failed"),
        (24.0, "Startup probe failed"),
    ]


@pytest.mark.looptime
async def test_an_adopted_container_skips_its_startup_probe(
    well: dict[str, list[tuple[float, float]]],
) -> None:
    heard = Heard()
    container = Container(name="c", startup_probe=Probe(tcp_socket=TCP))
    assert await prober.watch(container, target(), heard, started=True) == ""
    assert heard.said == [(0.0, "started")]
