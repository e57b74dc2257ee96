"""GPUs under the metric names of NVIDIA's DCGM exporter, so that its dashboards and alerts serve here too.

Of a device that NVML shows all that it tells, of its MIG instances their memory; of a declared one what is known: the memory that pods were
given, and its fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric, generate_latest

from penstock.contracts.controller import Cache
from penstock.contracts.devices import WHOLE_MILLI, Gpu, GpuType, Share
from penstock.decide.device_slices import gpus_of
from penstock.decide.gpu_health import XID
from penstock.decide.inventory import shares_of
from penstock.host.gpu_readings import INSTANCE_ID, Readings
from penstock.resources.claims import claim_key
from penstock.resources.devices import ResourceSlice
from penstock.resources.pod import Pod

PREFIX = "DCGM_FI_DEV_"
MIB = 1 << 20
FIELDS: Mapping[str, tuple[str, str]] = {
    "SM_CLOCK": ("gauge", "SM clock frequency (MHz)"),
    "MEM_CLOCK": ("gauge", "Memory clock frequency (MHz)"),
    "GPU_TEMP": ("gauge", "GPU temperature (C)"),
    "POWER_USAGE": ("gauge", "Power draw (W)"),
    "TOTAL_ENERGY_CONSUMPTION": ("unknown", "Energy since boot (mJ)"),
    "GPU_UTIL": ("gauge", "Share of time in which a kernel ran (%)"),
    "MEM_COPY_UTIL": ("gauge", "Share of time in which memory was read or written (%)"),
    "ENC_UTIL": ("gauge", "Encoder utilization (%)"),
    "DEC_UTIL": ("gauge", "Decoder utilization (%)"),
    "XID_ERRORS": ("gauge", "The last XID that took the device out of use, 0 for none"),
    "FB_FREE": ("gauge", "Memory free (MiB); of declared devices what no pod was given"),
    "FB_USED": ("gauge", "Memory used (MiB); of declared devices what pods were given"),
    "FB_RESERVED": ("gauge", "Memory reserved by the driver (MiB)"),
    "CORRECTABLE_REMAPPED_ROWS": ("unknown", "Rows remapped for correctable errors"),
    "UNCORRECTABLE_REMAPPED_ROWS": ("unknown", "Rows remapped for uncorrectable errors"),
    "ROW_REMAP_PENDING": ("gauge", "Whether a row remapping waits for a reset"),
    "ROW_REMAP_FAILURE": ("gauge", "Whether a row could not be remapped"),
    "ECC_SBE_VOL_TOTAL": ("unknown", "Corrected ECC errors since boot"),
    "ECC_DBE_VOL_TOTAL": ("unknown", "Uncorrected ECC errors since boot"),
    "PCIE_REPLAY_COUNTER": ("unknown", "PCIe retries"),
}
"""By name without PREFIX: the type, and what it means. The exporter's counters do not end in _total, so they go without a type."""


class _Holder(NamedTuple):
    pod: Pod
    share: Share


class _Told(CollectorRegistry):
    """Families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


class DeviceMetrics:
    """Reads anew at each scrape."""

    def __init__(
        self, cache: Cache, types: Sequence[GpuType], read: Callable[[], Mapping[str, Readings]]
    ) -> None:
        """`read` tells of the real devices, by UUID."""
        self._cache = cache
        self._types = tuple(types)
        self._read = read

    async def exposition(self) -> bytes:
        """In Prometheus' text format. The devices are asked in a thread, which takes milliseconds."""
        return generate_latest(_Told(self._families(await asyncio.to_thread(self._read))))

    def _families(self, real: Mapping[str, Readings]) -> Iterator[Metric]:
        """One for each field that some device has."""
        holders: dict[str, list[_Holder]] = {}
        for pod in self._cache.list(Pod):
            if pod.spec.node_name and pod.status.phase not in ("Succeeded", "Failed"):
                for share in shares_of(pod):
                    if not share.is_admin:
                        holders.setdefault(share.gpu, []).append(_Holder(pod, share))
        devices = [
            row
            for node, gpus in sorted(gpus_of(self._cache.list(ResourceSlice), self._types).items())
            for gpu in gpus
            for row in _rows(node, gpu, real, holders.get(gpu.uuid, []))
        ]
        for field, (kind, meaning) in FIELDS.items():
            family = Metric(PREFIX + field, meaning, kind)
            for labels, values in devices:
                if field in values:
                    family.add_sample(PREFIX + field, labels, values[field])
            if family.samples:
                yield family


def _rows(
    node: str, gpu: Gpu, real: Mapping[str, Readings], holders: list[_Holder]
) -> Iterator[tuple[dict[str, str], Readings]]:
    """Labels and values of a device, and of each of its MIG instances."""
    whole = _labels(node, gpu)
    yield whole | _holder([one for one in holders if not one.share.profile]), _values(gpu, real, holders)
    made = {one.start: (one.profile, one.uuid) for one in gpu.instances}
    asked = {one.share.start: (one.share.profile, one.share.instance) for one in holders if one.share.profile}
    for start, (profile, uuid) in sorted((asked | made).items()):
        inside = [one for one in holders if one.share.profile and one.share.start == start]
        told = dict(real.get(uuid, {})) or _of_instance(gpu, profile, is_held=bool(inside))
        number = told.pop(INSTANCE_ID, start)
        yield whole | _holder(inside) | {"GPU_I_PROFILE": profile, "GPU_I_ID": f"{number:g}"}, told


def _of_instance(gpu: Gpu, profile: str, *, is_held: bool) -> dict[str, float]:
    """Of a declared one: a pod has all of it or nobody has."""
    memory = next((one.memory_bytes / MIB for one in gpu.type.profiles if one.name == profile), 0.0)
    return {"FB_USED": memory * is_held, "FB_FREE": memory * (not is_held)}


def _values(gpu: Gpu, real: Mapping[str, Readings], holders: list[_Holder]) -> Readings:
    codes = [int(taint.value) for taint in gpu.taints if taint.key == XID and taint.value.isdecimal()]
    fault = {"XID_ERRORS": float(codes[-1] if codes else 0)}
    if gpu.uuid in real:
        return {**real[gpu.uuid], **fault}
    used = min(gpu.type.memory_bytes, sum(_given_bytes(gpu, share) for share in _once(holders)))
    return {"FB_USED": used / MIB, "FB_FREE": (gpu.type.memory_bytes - used) / MIB, **fault}


def _once(holders: list[_Holder]) -> Iterable[Share]:
    """What a claim holds that several pods share counts once."""
    found = {
        (*claim_key(pod, share.claim), share.request)
        if share.claim
        else (pod.metadata.uid, str(i), ""): share
        for i, (pod, share) in enumerate(holders)
    }
    return found.values()


def _given_bytes(gpu: Gpu, share: Share) -> int:
    return share.memory_bytes or gpu.type.memory_bytes * share.milli // WHOLE_MILLI


def _labels(node: str, gpu: Gpu) -> dict[str, str]:
    """The exporter's, of the device."""
    return {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": gpu.bus,
        "device": f"nvidia{gpu.index}",
        "modelName": gpu.type.model or gpu.type.product,
        "Hostname": node,
        "DCGM_FI_DRIVER_VERSION": gpu.driver,
    }


def _holder(holders: list[_Holder]) -> dict[str, str]:
    """The exporter's labels of the pod, where one holds the device or the instance alone."""
    pods = {one.pod.metadata.uid for one in holders}
    only = holders[0] if len(pods) == 1 else None
    return {
        "namespace": only.pod.metadata.namespace if only else "",
        "pod": only.pod.metadata.name if only else "",
        "container": only.share.container if only else "",
    }
