"""What was moved in the last hour: a ConfigMap that outlives restarts, so that the budget does."""

from __future__ import annotations

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.decide.move_budget import Spent, recent_of
from penstock.kit.errors import NotFound
from penstock.resources.core import ConfigMap
from penstock.resources.meta import ObjectMeta

NAMESPACE, NAME = "penstock-system", "defragmentation"
KEY = "spent"


def spent_of(found: ConfigMap | None) -> tuple[Spent, ...]:
    """What the ConfigMap says; what cannot be read is begun anew."""
    if found is None:
        return ()
    try:
        return msgspec.json.decode(found.data.get(KEY, "[]"), type=tuple[Spent, ...])
    except msgspec.DecodeError:
        return ()


class MoveLedger:
    """Written before anything moves: who is killed in between has spent for nothing, and never moves more than it may."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def read(self) -> tuple[Spent, ...]:
        """All that is kept, oldest first."""
        return spent_of(await self._find())

    async def enter(self, spent: Spent) -> None:
        """Add to it, and forget what no longer counts. Raises Conflict or AlreadyExists where another wrote at the same time."""
        found = await self._find()
        kept = (*recent_of(spent_of(found), spent.at), spent)
        data = {KEY: msgspec.json.encode(kept).decode()}
        if found is None:
            await self._cluster.create(
                ConfigMap(metadata=ObjectMeta(name=NAME, namespace=NAMESPACE), data=data)
            )
        else:
            await self._cluster.replace(msgspec.structs.replace(found, data=data))

    async def _find(self) -> ConfigMap | None:
        try:
            return await self._cluster.get(ConfigMap, NAME, NAMESPACE)
        except NotFound:
            return None
