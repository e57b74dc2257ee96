"""PersistentVolumeClaims: on one machine every claim is a folder, bound at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.resources.core import PersistentVolumeClaim, PersistentVolumeClaimStatus


class ClaimController:
    """Makes `volumes/<namespace>/<claim>` and says Bound. The folder stays when the claim goes: it holds a user's data."""

    name = "claim"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, *, volumes: Path) -> None:
        """`volumes` is the folder of all claims."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._volumes = volumes

    def watches(self) -> tuple[Watch, ...]:
        """Claims alone."""
        return (Watch(PersistentVolumeClaim, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        """Bind, once."""
        claim = self._cache.get(PersistentVolumeClaim, key.name, key.namespace)
        if claim is None or claim.metadata.deletion_timestamp or claim.status.phase == "Bound":
            return None
        folder = self._volumes / key.namespace / key.name
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        asked = claim.spec.resources.requests if claim.spec.resources else {}
        status = PersistentVolumeClaimStatus(
            phase="Bound", access_modes=claim.spec.access_modes, capacity=asked
        )
        await self._cluster.replace(msgspec.structs.replace(claim, status=status), subresource="status")
        self._recorder.event(claim, "Normal", "ProvisioningSucceeded", f"The claim is the folder {folder}")
        return None
