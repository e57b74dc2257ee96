"""Listens to what engines tell about their KV caches: one subscription for each endpoint that publishes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from penstock.contracts.exchange import Endpoint
from penstock.gateway.kv_subscription import Index, Shared, Source, Subscription
from penstock.kit.tasks import end, supervise


class KvEvents:
    """One task for each endpoint that publishes KV events; they write to one index."""

    def __init__(self, index: Index) -> None:
        """Nothing is opened before an endpoint that publishes is watched."""
        self._index = index
        self._shared: Shared | None = None
        self._subscriptions: dict[Source, Subscription] = {}
        self._tasks: dict[Source, asyncio.Task[None]] = {}

    def watch(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen to those of these that publish from now on, and to no others."""
        wanted = {_source(endpoint) for endpoint in endpoints if endpoint.kv_events_port}
        for source in self._tasks.keys() - wanted:
            self._tasks.pop(source).cancel()
            del self._subscriptions[source]
        for source in wanted - self._tasks.keys():
            subscription = self._subscriptions[source] = Subscription(source, self._opened())
            name = f"KV events of {source.endpoint}"
            self._tasks[source] = asyncio.create_task(supervise(name, subscription.run), name=name)

    def trusts(self, endpoint: Endpoint) -> bool:
        """Whether it is listened to, and nothing is missing of what it told."""
        subscription = self._subscriptions.get(_source(endpoint))
        return subscription is not None and subscription.is_trusted

    @property
    def counts(self) -> Counter[str]:
        """Batches by their outcome (kv_sequence.Outcome), `malformed` batches and events, and those of `other_rank`s."""
        return self._shared.counts if self._shared else Counter()

    async def close(self) -> None:
        """Listen to nobody any more."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._subscriptions.clear()
        await end(tasks)
        if self._shared is not None:
            self._shared.context.destroy(linger=0)
            self._shared = None

    def _opened(self) -> Shared:
        if self._shared is None:
            import zmq  # noqa: PLC0415  only gateways of engines that publish need it

            self._shared = Shared(self._index, zmq.Context())
        return self._shared


def _source(endpoint: Endpoint) -> Source:
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return Source(
        endpoint.name,
        f"tcp://{host}:{endpoint.kv_events_port}",
        f"tcp://{host}:{endpoint.kv_replay_port}" if endpoint.kv_replay_port else "",
    )
