"""Workers of the gateway as real processes: replaced and killed while callers connect, none of whom is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from free_ports import free_port
from penstock.app.addresses import Address
from penstock.app.child import Child
from penstock.app.home import Home
from penstock.app.link import LISTEN_VARIABLE
from penstock.app.listen import listeners
from penstock.app.workers import Workers
from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway.server import HANDOVER_S

CHUNKS = 12
CHUNK_S = 0.25


class Engine:
    """Echoes the nonce of a body, which tells answers apart; of a slow request it makes a stream of three seconds, of an endless one an endless stream."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        content = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if b"slow" in content:
            await self._stream(writer, CHUNKS)
        elif b"endless" in content:
            await self._stream(writer, sys.maxsize)
        else:
            answer = msgspec.json.encode({"echo": msgspec.json.decode(content)["nonce"]})
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, chunks: int) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(chunks):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(CHUNK_S)
        writer.write(b"0\r\n\r\n")


class World:
    """Workers over one engine, what they said, and at what monotonic second."""

    def __init__(
        self,
        workers: Workers,
        running: asyncio.Task[None],
        address: Address,
        said: list[str],
        at: list[float],
    ) -> None:
        self.workers, self.running, self.address = workers, running, address
        self.said, self.at = said, at

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def ask(self, nonce: str) -> str:
        """A new connection, one request, and the nonce that came back."""
        reader, writer = await self.connect()
        try:
            writer.write(request({"model": "iris", "nonce": nonce}, close=True))
            answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer
        echo: str = msgspec.json.decode(body)["echo"]
        return echo

    async def outcomes(self, name: str, lanes: int, *, least: int, until: asyncio.Event) -> Counter[str]:
        """Requests on connections of their own, `lanes` at a time: `least` of them, and on until the event."""
        found: Counter[str] = Counter()

        async def lane(number: int) -> None:
            turn = 0
            while turn < least // lanes or not until.is_set():
                nonce, turn = f"{name}-{number}-{turn}", turn + 1
                try:
                    found["right" if await self.ask(nonce) == nonce else "another's"] += 1
                except (OSError, AssertionError, ValueError) as error:
                    found[f"{type(error).__name__}: {str(error)[:200]}"] += 1
                await asyncio.sleep(0.002)

        await asyncio.gather(*(lane(number) for number in range(lanes)))
        return found

    async def ask_for(self, count: int, lanes: int) -> Counter[str]:
        """So many requests."""
        over = asyncio.Event()
        over.set()
        return await self.outcomes("some", lanes, least=count, until=over)


def request(body: object, *, close: bool = False) -> bytes:
    content = msgspec.json.encode(body)
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + (b"connection: close\r\n" if close else b"")
        + b"content-length: %d\r\n\r\n%s" % (len(content), content)
    )


@asynccontextmanager
async def world(tmp_path: Path, count: int, drain_s: float = 30.0) -> AsyncIterator[World]:
    engine = Engine()
    home = Home(tmp_path)
    home.prepare()
    pod = Endpoint(name="pod", address="127.0.0.1", port=await engine.start())
    revision = RevisionRoute(name="iris-1", weight_percent=100, endpoints=(pod,))
    iris = ServiceRoute(
        namespace="default", name="iris", uid="u", engine_model="iris", phase="Ready", revisions=(revision,)
    )
    home.route_table.write_bytes(msgspec.json.encode(RouteTable(version=1, services=(iris,))))
    address = Address("127.0.0.1", free_port())
    said: list[str] = []
    at: list[float] = []

    def say(name: str, message: str) -> None:
        said.append(f"{name}: {message}")
        at.append(time.monotonic())

    lock = os.open(home.lock, os.O_CREAT | os.O_RDWR)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PENSTOCK_HOME": str(tmp_path),
        "PENSTOCK_GATEWAY_ADDR": str(address),
        "PENSTOCK_DRAIN_S": str(drain_s),
    }

    def worker(name: str, descriptor: int) -> Child:
        return Child(
            name,
            module="penstock.app.gateway",
            environment={**environment, LISTEN_VARIABLE: str(descriptor)},
            log=home.log(name),
            keep=(lock, descriptor),
            said=say,
        )

    workers = Workers(
        listeners("GATEWAY", address, count),
        worker,
        say,
        stop_limit_s=drain_s + 5,
    )
    running = asyncio.create_task(workers.run())
    try:
        async with asyncio.timeout(60):
            await workers.wait_ready()
            yield World(workers, running, address, said, at)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await workers.kill()
        await engine.stop()
        os.close(lock)


async def asked_after_its_worker_was_replaced(one: World) -> tuple[bytes, float]:
    """What comes on a connection that was made before, and how many seconds after its worker was told to end it was asked for."""
    reader, writer = await one.connect()
    await one.ask("the worker has accepted what came before")
    one.said.clear()
    one.at.clear()
    await replaced(one)
    await asyncio.sleep(0.3)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(request({"model": "iris", "nonce": "late"}))
        late_s = time.monotonic() - one.at[0]
        answer = await reader.read()
    writer.close()
    return answer, late_s


async def replaced(one: World) -> None:
    one.workers.restart()
    while not any("workers replaced" in line or "not replaced" in line for line in one.said):
        await asyncio.sleep(0.05)


async def test_a_hot_restart_refuses_and_loses_no_connection_and_streams_go_on_to_their_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, 2) as one:
        before = one.workers.pids
        reader, writer = await one.connect()
        writer.write(request({"model": "iris", "nonce": "slow", "stream": True}, close=True))
        first = await reader.readuntil(b"data: 0\n\n")
        assert first.startswith(b"HTTP/1.1 200")
        over = asyncio.Event()
        load = [
            asyncio.create_task(one.outcomes("one by one", 1, least=200, until=over)),
            asyncio.create_task(one.outcomes("together", 8, least=400, until=over)),
        ]
        await replaced(one)
        for pid in before:
            while is_alive(pid):
                await asyncio.sleep(0.05)
        over.set()
        found = sum(await asyncio.gather(*load), Counter[str]())
        assert set(found) == {"right"}, found
        assert found["right"] >= 600
        stream = await reader.read()
        writer.close()
        assert b"data: %d\n\n" % (CHUNKS - 1) in stream, "it ends where it would have ended"
        assert stream.endswith(b"0\r\n\r\n")
        assert not set(before) & set(one.workers.pids)
        assert one.said[-1] == "gateway: 2 of 2 workers replaced"
        assert any("gateway-2: process" in line and "finishes its requests" in line for line in one.said)


async def test_a_connection_on_which_nothing_was_asked_yet_when_its_worker_is_replaced_gets_its_answer(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, 1) as one:
        answer, late_s = await asked_after_its_worker_was_replaced(one)
        while late_s > HANDOVER_S:  # the test itself was too late
            answer, late_s = await asked_after_its_worker_was_replaced(one)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        assert answer.endswith(b'{"echo":"late"}')


async def test_a_worker_that_is_killed_takes_only_what_it_had_begun_with_it(tmp_path: Path) -> None:
    lanes = 4
    async with world(tmp_path, 2) as one:
        over = asyncio.Event()
        load = asyncio.create_task(one.outcomes("through it", lanes, least=400, until=over))
        await asyncio.sleep(0.2)
        victim = one.workers.pids[0]
        assert victim
        os.kill(victim, signal.SIGKILL)
        while one.workers.pids[0] in (victim, None):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        over.set()
        found = await load
        assert found["right"] >= 400 - lanes, found
        assert found.total() - found["right"] <= lanes, found
        assert not any("Refused" in outcome for outcome in found), found
        assert found["another's"] == 0
        assert any("gateway-1: ended with signal 9; restarting now" in line for line in one.said)


async def test_connections_made_while_the_only_worker_is_dead_wait_for_the_next_one(tmp_path: Path) -> None:
    async with world(tmp_path, 1) as one:
        assert await one.ask("before") == "before"
        victim = one.workers.pids[0]
        assert victim
        os.kill(victim, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # somebody was quicker to see it dead
            os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
        found = await one.ask_for(200, lanes=100)
        assert found == {"right": 200}


async def test_two_workers_share_the_load(tmp_path: Path) -> None:
    async with world(tmp_path, 2) as one:
        assert await one.ask_for(200, lanes=4) == {"right": 200}
        spent_s = [cpu_s(pid) for pid in one.workers.pids]
        await one.ask_for(1200, lanes=8)
        grown_s = [cpu_s(pid) - before for pid, before in zip(one.workers.pids, spent_s, strict=True)]
        assert min(grown_s) > 0.2 * max(grown_s), grown_s


async def test_a_restart_into_workers_that_cannot_serve_leaves_the_old_ones(tmp_path: Path) -> None:
    async with world(tmp_path, 1) as one:
        (tmp_path / "config.yaml").write_text("logLevel: nonsense\n")
        before = one.workers.pids
        await replaced(one)
        assert one.workers.pids == before
        assert await one.ask("still here") == "still here"
        assert any("gateway-1: was not replaced" in line for line in one.said)


async def test_a_second_restart_waits_for_a_first_that_is_under_way_and_none_begins_after_a_stop(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, 1) as one:
        one.workers.restart()
        one.workers.restart()
        assert one.said == ["gateway: no second restart: one is under way"]
        while not any("1 of 1 workers replaced" in line for line in one.said):
            await asyncio.sleep(0.05)
        one.running.cancel()
        await asyncio.gather(one.running, return_exceptions=True)
        one.workers.restart()
        assert one.said[-1] == "gateway: no restart: it is being started or stopped"


async def test_streams_that_outlast_the_drain_end_with_an_error_object(tmp_path: Path) -> None:
    async with world(tmp_path, 1, drain_s=0.5) as one:
        reader, writer = await one.connect()
        writer.write(request({"model": "iris", "nonce": "endless", "stream": True}, close=True))
        await reader.readuntil(b"data: 0\n\n")
        await replaced(one)
        rest = await reader.read()
        writer.close()
        assert b"gateway_draining" in rest


async def test_after_a_stop_connections_are_refused_and_nobody_hangs(tmp_path: Path) -> None:
    async with world(tmp_path, 2) as one:
        stopping = asyncio.create_task(one.workers.stop())
        await stopping
        try:
            await asyncio.wait_for(one.connect(), 30)
        except ConnectionRefusedError:
            return
        raise AssertionError("somebody still listens")


def is_alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}/stat").exists()


def cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
