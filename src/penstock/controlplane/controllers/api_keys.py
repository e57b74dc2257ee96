"""API keys: says in the status of each where it stands, and sweeps out tokens whose time is over."""

from __future__ import annotations

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.decide.key_tokens import Standing, holding, standing
from penstock.kit.clock import Clock
from penstock.resources.access import ApiKey, ApiKeyStatus, Tenant
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition, Resource

READY = "Ready"
MAX_WAIT_S = 86_400.0
MIN_WAIT_S = 0.01
"""Timestamps are whole seconds, clocks are not."""


class ApiKeyController:
    """What gateways take does not hang on it: the route table is made from spec and hashes alone."""

    name = "api-keys"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Keys; and tenants, which their keys need."""
        return (Watch(ApiKey, own_key), Watch(Tenant, self._keys_of))

    async def reconcile(self, key: Key) -> float | None:
        """Write the status if it says something else; called again when time changes it."""
        found = self._cache.get(ApiKey, key.name, key.namespace)
        if found is None or found.metadata.deletion_timestamp is not None:
            return None
        now, tenant = self._clock.now(), found.spec.tenant
        exists = not tenant or self._cache.get(Tenant, tenant) is not None
        now_stands = standing(found, tenant_exists=exists, now=now)
        status = _status(found, now_stands, now)
        if status != found.status:
            await self._cluster.replace(msgspec.structs.replace(found, status=status), subresource="status")
            if status.phase != found.status.phase:
                self._recorder.event(found, "Normal", status.phase, now_stands.message)
        if now_stands.changes_at is None:
            return None
        return min(MAX_WAIT_S, max(MIN_WAIT_S, now_stands.changes_at - now))

    def _keys_of(self, tenant: Resource) -> list[Key]:
        name = tenant.metadata.name
        return [next(iter(own_key(key))) for key in self._cache.list(ApiKey) if key.spec.tenant == name]


def _status(key: ApiKey, stands: Standing, now: float) -> ApiKeyStatus:
    answer = "True" if stands.phase == "Active" else "False"
    ready = Condition(type=READY, status=answer, reason=stands.phase, message=stands.message)
    condition = dated(ready, key.status.conditions, now)
    lasting = msgspec.structs.replace(key.spec, expires_at=None)
    return ApiKeyStatus(
        id=key.status.id,
        hashes=tuple(token for token, _ in holding(lasting, key.status, now)),
        phase=stands.phase,
        conditions=(condition,),
    )
