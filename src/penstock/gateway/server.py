"""One gateway worker: what it consists of, how it serves, how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.gateway.access import Access
from penstock.gateway.far_peers import FarPeers, PeerAddress
from penstock.gateway.feed import Feed
from penstock.gateway.gossip import Gossip
from penstock.gateway.listen import Certificate, listen, upstream_context
from penstock.gateway.peers import Peers
from penstock.gateway.pipeline import Pipeline
from penstock.gateway.quota import Quota
from penstock.gateway.quota_peers import QuotaPeers
from penstock.gateway.quota_redis import RedisQuota
from penstock.gateway.redis_client import RedisClient
from penstock.gateway.router import OpenProfile
from penstock.gateway.state import State
from penstock.gateway.telemetry.access_log import AccessLog
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.tokenizer_process import TokenizerProcess
from penstock.gateway.tokenizers import Tokenizers
from penstock.gateway.trace import Traces
from penstock.gateway.wire.message import Limits
from penstock.gateway.wire.pool import Pool
from penstock.gateway.wire.server import Server
from penstock.kit.clock import Clock, SteadyClock
from penstock.kit.tasks import end, supervise

if TYPE_CHECKING:
    from penstock.gateway.grpc.listener import GrpcListener
    from penstock.gateway.telemetry.tracing import Spans

LAST_WORDS_S = 1.0
HANDOVER_S = 1.0
"""How long a worker that stops keeps connections on which nothing has been asked yet: their requests may be on the way."""
PRUNE_S = 1.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where to listen, where the control plane is, who may call, and the bounds.

    `grpc` is where KServe's V2 gRPC is spoken, None: nowhere.
    `listen_fd` is a socket that listens there already and that others may hold too; this worker accepts from it and closes only its own.
    `tokenizer` is the command of a process that tokenizes, for models whose folders lie below `models`. `far_own` is where gateways of other
    machines, `far_peers`, are heard; `far_secret` is known to all of them. `pepper` keys the hashes of API keys; `peers` is the folder in which the workers of this machine meet, None for a worker
    that is alone. `otlp_endpoint` gets `trace_sample` of the traces; `latest_names` is for the newer GenAI metrics. `upstream_ca` is what engines' certificates are checked against, None: the system's authorities.
    """

    host: str
    port: int
    feed_socket: Path
    state_file: Path
    pepper: bytes = field(default=b"", repr=False)
    require_keys: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    upstream_ca: Path | None = None
    redis_url: str = field(default="", repr=False)
    trace_sample: float = 0.0
    otlp_endpoint: str = ""
    latest_names: bool = False
    access_log: Path | None = None
    access_log_max_bytes: int = 64 << 20
    peers: Path | None = None
    grpc: tuple[str, int] | None = None
    listen_fd: int | None = None
    models: Path | None = None
    tokenizer: tuple[str, ...] = ()
    far_own: PeerAddress | None = None
    far_peers: tuple[PeerAddress, ...] = ()
    far_secret: bytes = field(default=b"", repr=False)
    drain_s: float = 10.0
    max_in_flight: int = 10_000
    limits: Limits = field(default_factory=Limits)


async def serve(
    settings: GatewaySettings,
    stop: asyncio.Event,
    *,
    open_profile: OpenProfile,
    clock: Clock | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Until `stop`; then running requests get `drain_s` to end. Raises Unavailable if it cannot listen."""
    worker = Worker(settings, clock or SteadyClock(), open_profile)
    tasks = await worker.start()
    on_ready()
    try:
        await stop.wait()
    finally:
        await worker.stop()
        await end(tasks)
        await worker.close()


class Worker:
    """Whole in itself: of several on one machine each has all of this."""

    def __init__(self, settings: GatewaySettings, clock: Clock, open_profile: OpenProfile) -> None:
        """Nothing runs yet."""
        self._settings = settings
        self._clock = clock
        self._name = f"gateway-{os.getpid()}"
        self._redis = RedisClient(settings.redis_url, clock) if settings.redis_url else None
        self._peers = Peers(settings.peers, str(os.getpid())) if settings.peers is not None else None
        self._tokenizers = (
            Tokenizers(TokenizerProcess(settings.tokenizer), settings.models, clock)
            if settings.tokenizer and settings.models is not None
            else None
        )
        telemetry = Telemetry(latest_names=settings.latest_names)
        self._records = Records(
            telemetry, clock, log=_access_log(settings), spans=_spans(settings, self._name)
        )
        self._certificate = (
            Certificate(settings.tls_certificate, settings.tls_key)
            if settings.tls_certificate is not None and settings.tls_key is not None
            else None
        )
        self.state = State(
            clock,
            self._name,
            settings.max_in_flight,
            access=Access(settings.pepper, settings.require_keys, clock),
            quota=RedisQuota(clock, self._redis) if self._redis is not None else Quota(clock),
            traces=Traces(settings.trace_sample),
            pool=Pool(upstream_context(settings.upstream_ca)),
            telemetry=telemetry,
            records=self._records,
            open_profile=open_profile,
            tokenizers=self._tokenizers,
            peers=self._peers,
        )
        self._quota_peers = (
            QuotaPeers(self.state.quota, self._peers, clock) if self._peers is not None else None
        )
        self._far = (
            FarPeers(settings.far_own, settings.far_peers, settings.far_secret, clock)
            if settings.far_own is not None
            else None
        )
        self._gossip = Gossip(
            f"{socket.gethostname()[:40]}.{os.getpid()}",
            self.state.endpoints,
            clock,
            near=self._peers,
            far=self._far,
        )
        self.state.gossip = self._gossip
        if self._peers is not None or self._far is not None:
            self.state.routing.on_change = lambda: self._gossip.keep(self.state.routing.routers)
        self._server = self.state.server = Server(Pipeline(self.state), settings.limits)
        self._grpc = _grpc(settings, self.state)
        self._feed = Feed(
            settings.feed_socket, settings.state_file, clock, self.state.apply, self.state.report
        )
        self.state.on_wake = self._feed.wake

    async def start(self) -> list[asyncio.Task[None]]:
        """Serve; what runs beside the requests. Raises Unavailable if it cannot listen."""
        if self._feed.load():
            self.state.kept_since = self._clock.monotonic()
        context = self._certificate.context if self._certificate is not None else None
        if self._peers is not None:
            await self._peers.open()
        if self._far is not None:
            self._far.open()
        if self._quota_peers is not None:
            await self._quota_peers.join()
        settings = self._settings
        if self._grpc is not None:
            await self._grpc.start()
        self._listener = await listen(
            self._server.connection, settings.host, settings.port, fd=settings.listen_fd, tls=context
        )
        running = {
            "feed": self._feed.run,
            "sweep of slow connections": self._server.sweep,
            "upkeep": self._keep_up,
        }
        if self._peers is not None or self._far is not None:
            running["gossip"] = self._gossip.run
        if self._far is not None:
            running["addresses of other gateways"] = self._far.run
        if self._quota_peers is not None:
            running["exchange with other workers"] = self._quota_peers.run
        if self._redis is not None:
            running["connection to Redis"] = self._redis.run
        return [
            asyncio.create_task(supervise(f"the gateway's {name}", body)) for name, body in running.items()
        ]

    async def stop(self) -> None:
        """Take no more connections, let requests end, break off what has not ended in time."""
        calls = (
            asyncio.create_task(self._grpc.stop(self._settings.drain_s)) if self._grpc is not None else None
        )
        self._listener.close()
        await self._server.hand_over(min(HANDOVER_S, self._settings.drain_s))
        if not await self._server.drain(self._settings.drain_s):
            for connection in tuple(self._server.connections):
                connection.cut()
            await self._server.drain(LAST_WORDS_S)
        if calls is not None:
            await calls

    async def close(self) -> None:
        """Leave nothing open, and nothing unwritten."""
        if self._peers is not None:
            self._peers.close()
        if self._far is not None:
            self._far.close()
        if self._tokenizers is not None:
            await self._tokenizers.close()
        self.state.probes.close()
        await self.state.routing.close()
        self.state.pool.close()
        await asyncio.to_thread(self._records.close)

    async def _keep_up(self) -> None:
        """Once a second: idle connections to engines are closed in time, a new certificate is taken."""
        while True:
            await self._clock.sleep(PRUNE_S)
            self.state.pool.prune()
            self.state.routing.tidy(self._clock.monotonic())
            if self._tokenizers is not None:
                self._tokenizers.tidy(self._clock.monotonic())
            if self._grpc is not None:
                await self._grpc.keep_up()
            if self._certificate is not None:
                self._certificate.refresh()


def _access_log(settings: GatewaySettings) -> AccessLog | None:
    if settings.access_log is None:
        return None
    return AccessLog(settings.access_log, max_bytes=settings.access_log_max_bytes)


def _spans(settings: GatewaySettings, name: str) -> Spans | None:
    if not settings.otlp_endpoint:
        return None
    from penstock.gateway.telemetry.tracing import Spans  # noqa: PLC0415  0.3 s and 9 MB that only tracing needs

    return Spans(settings.otlp_endpoint, instance=name)


def _grpc(settings: GatewaySettings, state: State) -> GrpcListener | None:
    """The port for gRPC, if there shall be one."""
    if settings.grpc is None:
        return None
    from penstock.gateway.grpc.listener import GrpcListener  # noqa: PLC0415  grpcio is large, and most do without

    certificate, key = settings.tls_certificate, settings.tls_key
    tls = (certificate, key) if certificate is not None and key is not None else None
    return GrpcListener(state, settings.limits, *settings.grpc, tls=tls)
