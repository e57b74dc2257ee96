"""One endpoint picker: what it consists of, how it serves, how it ends. It knows what a gateway's worker knows, and passes no bytes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from penstock.contracts.exchange import RouteTable, ServiceRoute
from penstock.gateway.access import Access
from penstock.gateway.epp.listener import Listener
from penstock.gateway.epp.picking import Manner
from penstock.gateway.feed import Feed
from penstock.gateway.quota import Quota
from penstock.gateway.router import OpenProfile
from penstock.gateway.state import State
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.tokenizer_process import TokenizerProcess
from penstock.gateway.tokenizers import Tokenizers
from penstock.gateway.trace import Traces
from penstock.gateway.wire.message import Limits
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock, SteadyClock
from penstock.kit.tasks import end, supervise

UPKEEP_S = 1.0


@dataclass(frozen=True, slots=True)
class EppSettings:
    """Where to listen, and whose endpoints to pick.

    Either `service` is all there is, or a control plane tells of services at `feed_socket` (the last table is kept in `state_file`). `only`
    is the namespace and name of the one that all requests are for. `fallbacks` is how many endpoints are told beside the first.
    `tokenizer` is the command of a process that tokenizes, for models whose folders lie below `models`.
    """

    listen: tuple[str, int]
    service: ServiceRoute | None = None
    feed_socket: Path | None = None
    state_file: Path | None = None
    only: tuple[str, str] | None = None
    fallbacks: int = 2
    models: Path | None = None
    tokenizer: tuple[str, ...] = ()
    tls: tuple[Path, Path] | None = None
    drain_s: float = 10.0
    max_in_flight: int = 10_000
    limits: Limits = field(default_factory=Limits)


async def serve(
    settings: EppSettings,
    stop: asyncio.Event,
    *,
    open_profile: OpenProfile,
    clock: Clock | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Until `stop`; then conversations get `drain_s` to end. Raises Unavailable if it cannot listen."""
    clock = clock or SteadyClock()
    tokenizers = (
        Tokenizers(TokenizerProcess(settings.tokenizer), settings.models, clock)
        if settings.tokenizer and settings.models is not None
        else None
    )
    state = _state(settings, clock, open_profile, tokenizers)
    running: dict[str, Callable[[], Awaitable[None]]] = {"upkeep": lambda: _keep_up(state, tokenizers, clock)}
    only = settings.only
    if settings.service is not None:
        only = (settings.service.namespace, settings.service.name)
        state.apply(RouteTable(version=1, services=(settings.service,)))
    elif settings.feed_socket is not None and settings.state_file is not None:
        feed = Feed(settings.feed_socket, settings.state_file, clock, state.apply, state.report)
        state.on_wake = feed.wake
        if feed.load():
            state.kept_since = clock.monotonic()
        running["feed"] = feed.run
    manner = Manner(only, settings.fallbacks)
    listener = Listener(state, settings.limits, settings.listen, settings.tls, manner)
    await listener.start()
    tasks = [
        asyncio.create_task(supervise(f"the endpoint picker's {name}", body))
        for name, body in running.items()
    ]
    on_ready()
    try:
        await stop.wait()
    finally:
        await listener.stop(settings.drain_s)
        await end(tasks)
        if tokenizers is not None:
            await tokenizers.close()
        state.probes.close()
        await state.routing.close()
        state.pool.close()


def _state(
    settings: EppSettings, clock: Clock, open_profile: OpenProfile, tokenizers: Tokenizers | None
) -> State:
    """Callers are whom Envoy lets in: no keys, and no limits of keys."""
    telemetry = Telemetry(latest_names=False)
    return State(
        clock,
        f"epp-{os.getpid()}",
        settings.max_in_flight,
        access=Access(b"", False, clock),
        quota=Quota(clock),
        traces=Traces(0.0),
        pool=Pool(None),
        telemetry=telemetry,
        records=Records(telemetry, clock),
        open_profile=open_profile,
        tokenizers=tokenizers,
    )


async def _keep_up(state: State, tokenizers: Tokenizers | None, clock: Clock) -> None:
    while True:
        await clock.sleep(UPKEEP_S)
        state.pool.prune()
        state.routing.tidy(clock.monotonic())
        if tokenizers is not None:
            tokenizers.tidy(clock.monotonic())
