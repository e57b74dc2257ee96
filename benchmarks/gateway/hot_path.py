"""What one request, and one chunk of a stream, cost in Python: a worker between transports that are not there.

`python -m benchmarks.gateway.hot_path [SECONDS]` prints, with each step of policy added to those before it: calls of functions, which
are the same on every machine and at every time, and the time against that of a fixed loop, so that runs on a busy machine can be compared.
No sockets are involved: what the kernel and the event loop add, `make bench-gateway` measures.
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop
from benchmarks.gateway.keys import KEY
from benchmarks.gateway.our_gateway import PEPPER, table

from penstock.app.registry import open_profile
from penstock.contracts.exchange import RouteTable
from penstock.gateway.server import GatewaySettings, Worker
from penstock.gateway.wire.client import Upstream
from penstock.gateway.wire.connection import Connection
from penstock.kit.clock import SteadyClock

ENGINE_PORT = 1
PROFILED = 2_000
ROUND = 500
LOOP = 5_000
BODY = b'{"model":"m","messages":[{"role":"user","content":"%b"}],"max_tokens":16%b}'
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":" token"},"finish_reason":null}]}\n\n'
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
LAST = b"0\r\n\r\n"


class Nowhere(asyncio.Transport):
    """A client that reads all, and says nothing by itself; `told` is what it has read last."""

    told: object = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None:
        self.told = data


class Engine(Nowhere):
    """Answers each request at once, with `answer`."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream
        self.answer = WHOLE

    def write(self, data: object) -> None:
        self._upstream.data_received(self.answer)


class Wires(NamedTuple):
    """A client's connection, an engine's, and the request of the one to the other."""

    client: Nowhere
    connection: Connection
    upstream: Upstream
    engine: Engine
    head: bytes


class Cost(NamedTuple):
    """`relative` is against LOOP turns of the fixed loop."""

    calls: float
    us: float
    relative: float


class Policy(NamedTuple):
    """What a worker is asked to do beside passing on."""

    is_routed: bool = True
    endpoints: int = 1
    has_key: bool = False
    has_limits: bool = False
    is_logged: bool = False
    traced: float = 0.0


POLICIES = {
    "8 endpoints, routing profile": Policy(endpoints=8),
    "bare": Policy(is_routed=False),
    "+ routing profile": Policy(),
    "+ API key": Policy(has_key=True),
    "+ limits of key and tenant": Policy(has_key=True, has_limits=True),
    "+ access log": Policy(has_key=True, has_limits=True, is_logged=True),
    "+ every request traced": Policy(has_key=True, has_limits=True, is_logged=True, traced=1.0),
}
"""After the first, each with all of those before it."""


def wires(folder: Path, policy: Policy) -> Wires:
    """A worker with a connection on either side."""
    is_bare = not policy.has_key
    settings = GatewaySettings(
        host="127.0.0.1",
        port=0,
        feed_socket=folder / "feed.sock",
        state_file=folder / "route-table.json",
        pepper=PEPPER,
        require_keys=not is_bare,
        access_log=folder / "access.log" if policy.is_logged else None,
        trace_sample=policy.traced,
        otlp_endpoint="http://127.0.0.1:1/v1/traces" if policy.traced else "",
    )
    worker = Worker(settings, SteadyClock(), open_profile)
    worker.state.apply(_asked(table(ENGINE_PORT, is_bare), policy))
    upstream = Upstream(("127.0.0.1", ENGINE_PORT), worker.state.pool.known)
    engine = Engine(upstream)
    upstream.connection_made(engine)
    upstream.reusable = True
    worker.state.pool.give(upstream)
    assert worker.state.server is not None, "the worker has made it"
    connection = worker.state.server.connection()
    client = Nowhere()
    connection.connection_made(client)
    key = b"" if is_bare else b"Authorization: Bearer %b\r\n" % KEY.encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n%bContent-Type: application/json\r\n"
        % key
    )
    return Wires(client, connection, upstream, engine, head)


def _asked(whole: RouteTable, policy: Policy) -> RouteTable:
    replace = msgspec.structs.replace
    service = whole.services[0]
    revision = service.revisions[0]
    pool = tuple(replace(revision.endpoints[0], name=f"m-1-{place}") for place in range(policy.endpoints))
    service = replace(service, revisions=(replace(revision, endpoints=pool),))
    whole = replace(whole, services=(service,))
    if not policy.is_routed:
        whole = replace(whole, services=tuple(replace(one, routing=None) for one in whole.services))
    if policy.has_limits:
        return whole
    return replace(
        whole,
        keys=tuple(replace(key, limits=()) for key in whole.keys),
        tenants=tuple(replace(tenant, limits=()) for tenant in whole.tenants),
    )


def ask(made: Wires, *, streams: bool) -> bytes:
    """A request of about a kilobyte."""
    body = BODY % (b"x" * 900, b',"stream":true' if streams else b"")
    return b"%bContent-Length: %d\r\n\r\n%b" % (made.head, len(body), body)


def cost(step: Callable[[], object], limit_s: float) -> Cost:
    """Of one step. Rounds of it take turns with rounds of the fixed loop, and the quickest of each count."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(PROFILED):
        step()
    profile.disable()
    calls = pstats.Stats(profile).total_calls / PROFILED  # type: ignore[attr-defined]
    best_s = loop_s = float("inf")
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        best_s = min(best_s, _taken_s(lambda: [step() for _ in range(ROUND)]) / ROUND)
        loop_s = min(loop_s, _taken_s(lambda: sum([i & 3 for i in range(LOOP)])))
    return Cost(calls, best_s * 1e6, best_s / loop_s)


def _taken_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def whole(made: Wires, limit_s: float) -> Cost:
    """A request with a sized answer."""
    request = ask(made, streams=False)
    made.engine.answer = WHOLE
    made.connection.data_received(request)
    assert isinstance(made.client.told, bytes)
    assert made.client.told.startswith(b"HTTP/1.1 200 "), made.client.told
    return cost(lambda: made.connection.data_received(request), limit_s)


def chunk(made: Wires, limit_s: float) -> Cost:
    """One event of a stream under way."""
    made.engine.answer = STREAM + CHUNK
    made.connection.data_received(ask(made, streams=True))
    found = cost(lambda: made.upstream.data_received(CHUNK), limit_s)
    made.upstream.data_received(LAST)
    return found


async def main(limit_s: float) -> None:
    """Print a line for each."""
    logging.disable()  # there is no collector of traces
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':38}{'calls':>8}{'us':>8}{'loops':>8}")
        for name, policy in POLICIES.items():
            made = wires(Path(folder), policy)
            for what, measure in (("request", whole), ("chunk", chunk)):
                found = measure(made, limit_s)
                print(
                    f"{what + ', ' + name:38}{found.calls:8.1f}{found.us:8.1f}{found.relative:8.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0))
