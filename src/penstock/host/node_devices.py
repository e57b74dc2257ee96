"""Keeps what is known of the nodes' GPUs: as ResourceSlices, with how they are shared and which of them must not be used.

The slices are the memory of faults: a device that failed stays out of use over restarts of the platform, until the machine was rebooted or
somebody says that it was reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Recorder
from penstock.contracts.devices import Gpu, GpuType
from penstock.decide.device_plugin import read_plugin_config
from penstock.decide.device_slices import gpus_of, slice_name, slices_of
from penstock.decide.gpu_health import ECC, XID, GpuFault, with_faults
from penstock.decide.mig_relayout import STANDING, laid_out, withheld
from penstock.kit.clock import Clock
from penstock.kit.errors import InvalidInput, NotFound
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.core import ConfigMap, Node, Taint
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource, controlled_by

CONFIG_LABEL = "nvidia.com/device-plugin.config"
"""On a node: which key of the device plugin's ConfigMap holds for it."""
TAINTS_ANNOTATION = "penstock.dev/gpu-taints"
"""On a node: taints that a person sets on devices, a JSON list of {gpu, key, value, effect}."""
RESET_ANNOTATION = "penstock.dev/gpus-reset-at"
"""On a node: since then its devices have been reset; faults that were reported earlier count no more."""
_REPORTED = (XID, ECC)
"""Faults that the driver tells once; the others it tells as long as they are there."""


class FaultSource(Protocol):
    """Where faults of this machine's devices are heard of."""

    def look(self) -> tuple[GpuFault, ...]:
        """What was reported since the last look, and what is wrong now. Blocks for milliseconds."""
        ...


class HandTaint(Taint, frozen=True, kw_only=True):
    """A taint that a person sets on one device, named by its UUID or its index."""

    gpu: str


class NodeDevices:
    """The GPUs of this host's nodes. `local` is the node that is this machine; `started_at` when it was booted, in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        types: Sequence[GpuType],
        local: str,
        discover: Callable[[], tuple[Gpu, ...]],
        faults: FaultSource,
        plugin_config: tuple[str, str],
        started_at: float = 0.0,
    ) -> None:
        """`plugin_config` is the namespace and name of the device plugin's ConfigMap."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._types = tuple(types)
        self.local = local
        self._discover = discover
        self._faults = faults
        self._plugin_config = plugin_config
        self._started_at = started_at

    async def settle(self, node: Node, declared: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """The node's GPUs as they are now; its slices say the same afterwards."""
        name = node.metadata.name
        stored = await self._stored(name)
        gpus = laid_out(node, declared)
        faults: tuple[GpuFault, ...] = ()
        if name == self.local:
            gpus, faults = await asyncio.to_thread(lambda: (self._discover(), self._faults.look()))
        known = {gpu.uuid: gpu for gpu in gpus_of(stored, self._types).get(name, ())}
        gpus = _with_lost(gpus, known, faults)
        gpus = self._shared(node, gpus)
        gpus = tuple(
            replace(gpu, taints=self._taints(node, gpu, known.get(gpu.uuid), faults)) for gpu in gpus
        )
        await self._write(node, slices_of(name, gpus), stored)
        return gpus

    def is_config(self, obj: Resource) -> bool:
        """Whether this is the device plugin's ConfigMap."""
        return (obj.metadata.namespace, obj.metadata.name) == self._plugin_config

    def wishes(self, node: Node) -> object:
        """What people asked of the node's devices; where it differs, they are to be settled anew."""
        config = self._cache.get(ConfigMap, self._plugin_config[1], self._plugin_config[0])
        version = config.metadata.resource_version if config else ""
        meta = node.metadata
        return (
            meta.labels.get(CONFIG_LABEL),
            meta.annotations.get(TAINTS_ANNOTATION),
            meta.annotations.get(RESET_ANNOTATION),
            meta.annotations.get(STANDING),
            version,
        )

    async def _stored(self, node: str) -> tuple[ResourceSlice, ...]:
        """Read afresh: the cache may lag behind what was written here."""
        found: list[ResourceSlice] = []
        while True:
            try:
                found.append(await self._cluster.get(ResourceSlice, slice_name(node, len(found))))
            except NotFound:
                return tuple(found)

    def _shared(self, node: Node, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        key = node.metadata.labels.get(CONFIG_LABEL)
        if key is None or not gpus:
            return gpus
        namespace, name = self._plugin_config
        config = self._cache.get(ConfigMap, name, namespace)
        where = f"ConfigMap {namespace}/{name}"
        if config is None or key not in config.data:
            missing = "there is none" if config is None else f"it has no key {key!r}"
            self._warn(node, f"{where}, which the label {CONFIG_LABEL} asks for: {missing}")
            return gpus
        found = read_plugin_config(config.data[key])
        if found.mistakes:
            self._warn(node, f"{where}, key {key}: {'; '.join(found.mistakes)}")
            return gpus
        return tuple(
            replace(gpu, mig_strategy=found.mig_strategy)
            if gpu.is_mig
            else replace(gpu, sharing=found.sharing)
            for gpu in gpus
        )

    def _warn(self, node: Node, message: str) -> None:
        self._recorder.event(node, "Warning", "InvalidDeviceConfig", message)

    def _taints(
        self, node: Node, gpu: Gpu, known: Gpu | None, faults: Iterable[GpuFault]
    ) -> tuple[Taint, ...]:
        before = known.taints if known else ()
        since = max(self._started_at if node.metadata.name == self.local else 0.0, _reset_at(node))
        kept = tuple(
            taint
            for taint in before
            if taint.key in _REPORTED and taint.time_added and parse_rfc3339(taint.time_added) >= since
        )
        here = [fault for fault in faults if fault.gpu == gpu.uuid]
        now = rfc3339(self._clock.now())
        taints = with_faults(kept, here, now)
        return (
            *(_since_first_seen(taint, before) for taint in taints),
            *self._by_hand(node, gpu),
            *withheld(node, gpu),
        )

    def _by_hand(self, node: Node, gpu: Gpu) -> tuple[Taint, ...]:
        text = node.metadata.annotations.get(TAINTS_ANNOTATION)
        if not text:
            return ()
        try:
            given = msgspec.json.decode(text, type=tuple[HandTaint, ...])
        except msgspec.DecodeError as error:
            self._warn(node, f"annotation {TAINTS_ANNOTATION}: {error}")
            return ()
        return tuple(
            Taint(key=one.key, value=one.value, effect=one.effect)
            for one in given
            if one.gpu in (gpu.uuid, str(gpu.index))
        )

    async def _write(
        self, node: Node, wanted: tuple[ResourceSlice, ...], stored: tuple[ResourceSlice, ...]
    ) -> None:
        there = {one.metadata.name: one for one in stored}
        if [_content(one) for one in wanted] == [_content(there.get(one.metadata.name)) for one in wanted]:
            stale = there.keys() - {one.metadata.name for one in wanted}
            if not stale:
                return
        generation = 1 + max((one.spec.pool.generation for one in stored), default=0)
        for one in wanted:
            old = there.pop(one.metadata.name, None)
            pool = replace(one.spec.pool, generation=generation)
            spec = replace(one.spec, pool=pool)
            if old is None:
                metadata = replace(one.metadata, owner_references=(controlled_by(node),))
                await self._cluster.create(replace(one, metadata=metadata, spec=spec))
            else:
                await self._cluster.replace(replace(old, spec=spec))
        for name in sorted(there, reverse=True):  # so that a cut leaves no gap
            try:
                await self._cluster.delete(ResourceSlice, name)
            except NotFound:
                continue


def _with_lost(gpus: tuple[Gpu, ...], known: dict[str, Gpu], faults: Iterable[GpuFault]) -> tuple[Gpu, ...]:
    """A device that was there and does not answer is still listed, so that its pods can be told of it."""
    here = {gpu.uuid for gpu in gpus}
    lost = [known[fault.gpu] for fault in faults if fault.gpu in known and fault.gpu not in here]
    unique = {gpu.uuid: gpu for gpu in lost}
    return tuple(sorted((*gpus, *unique.values()), key=lambda gpu: gpu.index))


def _since_first_seen(taint: Taint, before: Iterable[Taint]) -> Taint:
    """A fault that stands keeps the time at which it was first seen."""
    if taint.key in _REPORTED:
        return taint
    same = (old for old in before if (old.key, old.value) == (taint.key, taint.value) and old.time_added)
    return next(same, taint)


def _reset_at(node: Node) -> float:
    text = node.metadata.annotations.get(RESET_ANNOTATION)
    if not text:
        return 0.0
    try:
        return parse_rfc3339(text)
    except InvalidInput:
        return 0.0


def _content(one: ResourceSlice | None) -> object:
    """What a slice says, whichever generation it is of."""
    return one and replace(one.spec, pool=replace(one.spec.pool, generation=0))
