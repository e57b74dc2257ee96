"""Has a new endpoint compute the hottest beginnings of prompts before it takes requests.

While it does, it is among `warming`: endpoints that get a request only where there is no other. It is asked for one beginning after the
other, and let go when all are there, when it fails, or when the time of the service's profile has passed. Each gateway does this by what it
has seen itself; what another has had computed already costs the engine nothing again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from penstock.contracts.exchange import Endpoint, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Load, Prompt
from penstock.decide.prewarm import Spare, plan_prewarm
from penstock.gateway.errand import Answered, Errand
from penstock.gateway.hot_texts import HotText, HotTexts, warming_request
from penstock.gateway.kv_index import KvIndex
from penstock.gateway.outgoing import engine_path
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock

logger = logging.getLogger(__name__)


class Prewarm:
    """One for a service with a router. `outcomes` counts what became of the requests that it sent."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """No endpoint is known yet."""
        self._pool, self._clock = pool, clock
        self._texts = HotTexts()
        self._known: frozenset[str] | set[str] = frozenset()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._index: KvIndex | None = None
        self._block_tokens = 0.0
        self.warming: set[str] = set()
        self.outcomes: Counter[str] = Counter()

    def saw(self, prompt: Prompt, shared_blocks: int, path: str, body: bytes, index: KvIndex) -> None:
        """A request went to an engine's `path`; so many of its first blocks had been somewhere before."""
        if shared_blocks:
            self._hash_by(index)
            self._block_tokens = prompt.block_tokens
            self._texts.saw(prompt, shared_blocks, path, body, index, self._clock.monotonic())

    def apply(
        self, service: ServiceRoute, loads: Mapping[str, Load], index: KvIndex, *, waiting: int
    ) -> None:
        """The service has these endpoints now, and `loads` of them; `waiting` requests have none."""
        routing = service.routing
        assert routing is not None, "services without a profile have no router"
        self._hash_by(index)
        present = {e.name: e for r in service.revisions if r.weight_percent for e in r.endpoints}
        for name in self._tasks.keys() - present.keys():
            self._tasks[name].cancel()
        joined = [one for name, one in present.items() if name not in self._known]
        self._known = present.keys() | set()
        if joined and routing.prewarm_prefixes:
            others = len(present) - len(joined) - len(self.warming & present.keys())
            for endpoint in joined:
                self._begin(service, endpoint, _spare(routing, loads), index, others, waiting)

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks.values():
            task.cancel()

    def _hash_by(self, index: KvIndex) -> None:
        """Another index knows other hashes: what is kept by the old ones is of no use."""
        if index is not self._index:
            self._texts.clear()
            self._index = index

    def _begin(
        self,
        service: ServiceRoute,
        endpoint: Endpoint,
        spare: Spare,
        index: KvIndex,
        others: int,
        waiting: int,
    ) -> None:
        beginnings, texts = self._texts.hottest(index, self._clock.monotonic())
        plan = plan_prewarm(beginnings, self._block_tokens, spare, others=others, waiting=waiting)
        if not plan.places:
            return
        logger.info(
            "%s/%s: %s computes %d beginnings of prompts before it takes requests: %s",
            service.namespace,
            service.name,
            endpoint.name,
            len(plan.places),
            plan.reason,
        )
        chosen = [texts[place] for place in plan.places]
        self.warming.add(endpoint.name)
        task = asyncio.create_task(
            self._warm(service, endpoint, chosen, index, spare.seconds), name=f"warming of {endpoint.name}"
        )
        self._tasks[endpoint.name] = task
        task.add_done_callback(lambda _: self._release(endpoint.name))

    def _release(self, name: str) -> None:
        """It takes requests from now on."""
        self._tasks.pop(name, None)
        self.warming.discard(name)

    async def _warm(
        self,
        service: ServiceRoute,
        endpoint: Endpoint,
        texts: Sequence[HotText],
        index: KvIndex,
        within_s: float,
    ) -> None:
        until = self._clock.monotonic() + within_s
        for text in texts:
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                return
            body = warming_request(text)
            if body is None:
                continue
            message = _message(endpoint, engine_path(text.path, service), body)
            answered = await _asked(self._pool, endpoint, message, left_s)
            self.outcomes[answered.outcome] += 1
            if answered.outcome == "answered":
                index.warmed(endpoint.name, text.hashes, self._clock.monotonic())
            elif answered.outcome != "refused":
                logger.info("%s is let go before it has computed all: %s", endpoint.name, answered.outcome)
                return


async def _asked(pool: Pool, endpoint: Endpoint, message: bytes, timeout_s: float) -> Answered:
    answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

    def told(answered: Answered) -> None:
        if not answer.done():
            answer.set_result(answered)

    errand = Errand(pool, endpoint, message, told, timeout_s=timeout_s)
    try:
        return await answer
    finally:
        errand.give_up()


def _spare(routing: RoutingRoute, loads: Mapping[str, Load]) -> Spare:
    """A new endpoint is taken to be as the slowest and the smallest of those that are known."""
    return Spare(
        prefixes=routing.prewarm_prefixes,
        seconds=routing.prewarm_s,
        prefill_token_s=max(
            (load.prefill_token_s for load in loads.values() if load.is_measured), default=0.0
        ),
        kv_tokens=min((load.kv_tokens for load in loads.values() if load.kv_tokens), default=0),
    )


def _message(endpoint: Endpoint, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {endpoint.address}:{endpoint.port}\r\nuser-agent: penstock-gateway\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
