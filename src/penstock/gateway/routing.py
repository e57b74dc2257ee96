"""The routers of all services that have a routing profile, with what keeps them true: engines' KV events and metrics.

A service without a profile has none, and is routed by fewest requests. A profile that cannot be opened here (a plugin of another
version) leaves the service with the router that it had, or with none, and is told in the log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable

from penstock.contracts.exchange import Endpoint, RouteTable, ServiceRoute
from penstock.contracts.scheduling import Load
from penstock.gateway.demand import Demand
from penstock.gateway.disaggregated import Disaggregated
from penstock.gateway.kv_events import KvEvents
from penstock.gateway.kv_index import Knowledge
from penstock.gateway.polls import Polled, Polls
from penstock.gateway.prewarm import Prewarm
from penstock.gateway.router import OpenProfile, Router
from penstock.gateway.wire.client import Address
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError

Id = tuple[str, str]
logger = logging.getLogger(__name__)


class Routing:
    """By service. Nothing is listened to, and no engine is asked, before a table with such a service is applied."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        open_profile: OpenProfile,
        demand: Demand,
        *,
        is_precise: Callable[[ServiceRoute], bool],
        waiting: Callable[[Id], int],
    ) -> None:
        """`open_profile` finds the plugins of a profile; it raises InvalidInput for one that is not there.

        What endpoints do for other services is counted in `demand`. Only where a service's prompts are hashed as its engines do it (`is_precise`) are their events heard. `waiting` says how many
        requests wait for a first endpoint.
        """
        self._pool, self._clock, self._demand = pool, clock, demand
        self._open_profile, self._is_precise, self._waiting = open_profile, is_precise, waiting
        self.prewarms: dict[Id, Prewarm] = {}
        self.disaggregated: dict[Id, Disaggregated] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._heard: Counter[str] = Counter()
        self._warmings: Counter[str] = Counter()
        self._remote_prompts: Counter[str] = Counter()
        self.routers: dict[Id, Router] = {}
        self._events: dict[Id, KvEvents] = {}
        self._polls = Polls(self._sized, self._restarted)
        pool.on_refused = self._refused
        self._owners: dict[int, Router] = {}
        self._closing: list[KvEvents] = []

    def apply(self, table: RouteTable) -> None:
        """Have a router for each service of `table` that has a profile, and for no other."""
        wanted = {(s.namespace, s.name): s for s in table.services if s.routing is not None}
        for key in [key for key in self.routers if key not in wanted]:
            del self.routers[key]
            self._remote_prompts += self.disaggregated.pop(key).outcomes
            prewarm = self.prewarms.pop(key)
            prewarm.close()
            self._warmings += prewarm.outcomes
            self._listen(key, (), hears=False)
        for key, service in wanted.items():
            self._update(key, service)
        self._watch()
        self.on_change()

    def renew(self, service: ServiceRoute) -> None:
        """One service has other endpoints now."""
        if service.routing is not None:
            self._update((service.namespace, service.name), service)
            self._watch()
            self.on_change()

    def rehash(self, key: Id) -> None:
        """A service's prompts are hashed otherwise from now on: what is known by the old hashes is of no use."""
        router = self.routers.get(key)
        if router is not None:
            self._listen(key, (), hears=False)
            router.rehash()
            self._hear(key, router)

    def indexed(self) -> dict[tuple[str, str, str], Knowledge]:
        """What is known of endpoints' caches."""
        return {
            (*key, name): known
            for key, router in self.routers.items()
            for name in router.loads
            if (known := router.index.knowledge(name)) is not None
        }

    def event_counts(self) -> Counter[str]:
        """Batches of KV events by outcome, of all services there were."""
        return sum((one.counts for one in self._events.values()), self._heard.copy())

    def warmings(self) -> Counter[str]:
        """Requests by which new endpoints were warmed by outcome, of all services there were."""
        return sum((one.outcomes for one in self.prewarms.values()), self._warmings.copy())

    def remote_prompts(self) -> Counter[str]:
        """Prompts that were to be computed elsewhere by outcome, of all services there were."""
        return sum((one.outcomes for one in self.disaggregated.values()), self._remote_prompts.copy())

    def tidy(self, now: float) -> None:
        """What may be forgotten is, a slice at a time."""
        for router in self.routers.values():
            router.index.tidy(now)

    async def close(self) -> None:
        """Listen to nobody, and ask nobody, any more."""
        self._polls.close()
        for prewarm in self.prewarms.values():
            prewarm.close()
        for events in (*self._events.values(), *self._closing):
            await events.close()
        self._events.clear()
        self._closing.clear()

    def _update(self, key: Id, service: ServiceRoute) -> None:
        router = self.routers.get(key)
        if router is not None and router.service is service:
            return
        try:
            if router is None:
                router = self.routers[key] = Router(service, self._open_profile)
                self.prewarms[key] = Prewarm(self._pool, self._clock)
                self.disaggregated[key] = Disaggregated(router, self._pool, self._clock, self._demand)
            else:
                before = router.index
                router.apply(service)
                if router.index is not before:
                    self._listen(key, (), hears=False)
        except PlatformError as error:
            logger.error("the routing profile of %s/%s cannot be used: %s", *key, error)
            if router is None:
                return
        self.prewarms[key].apply(service, router.loads, router.index, waiting=self._waiting(key))
        self._hear(key, router)

    def _hear(self, key: Id, router: Router) -> None:
        service = router.service
        assert service.routing is not None, "a service without a profile has no router"
        endpoints = []
        for name, load in router.loads.items():
            if load.ranks <= 1:
                endpoints.append(load.endpoint)
            elif router.index.is_precise(name):  # one rank's events say nothing of the others' caches
                router.index.distrust(name)
        self._listen(key, endpoints, hears=service.routing.kv_events and self._is_precise(service))

    def _listen(self, key: Id, endpoints: Iterable[Endpoint], *, hears: bool) -> None:
        events = self._events.get(key)
        publishing = [one for one in endpoints if one.kv_events_port] if hears else []
        if events is None and publishing:
            events = self._events[key] = KvEvents(self.routers[key].index)
        if events is not None:
            events.watch(publishing)
            if not publishing:
                self._heard += events.counts
                self._closing.append(self._events.pop(key))

    def _watch(self) -> None:
        polled, owners = [], {}
        for router in self.routers.values():
            for load in router.loads.values():
                owners[id(load)] = router
                polled.append(Polled(load, router.service.metrics_dialect))
        self._owners = owners
        self._polls.watch(polled)

    def _refused(self, address: Address) -> None:
        """Nobody listens there: what the engine held died with it."""
        for router in self.routers.values():
            for name, load in router.loads.items():
                if (load.endpoint.address, load.endpoint.port) == address:
                    router.index.died(name)

    def _restarted(self, load: Load) -> None:
        """Its metrics say so. One that tells of its cache has told that itself, and perhaps what it holds since."""
        router, name = self._owners.get(id(load)), load.endpoint.name
        if router is not None and not router.index.is_precise(name):
            router.index.died(name)

    def _sized(self, load: Load) -> None:
        router = self._owners.get(id(load))
        if router is not None:
            router.sized(load)
            self._hear((router.service.namespace, router.service.name), router)
