"""Moves pods off devices that failed: the pod is told why and deleted, and whoever owns it makes another, which is placed elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, GpuType, Share
from penstock.decide.claim_status import tolerations_of
from penstock.decide.device_slices import gpus_of
from penstock.decide.gpu_health import problem
from penstock.decide.inventory import shares_of
from penstock.decide.tolerations import untolerated
from penstock.host.disruption import disrupt
from penstock.kit.clock import Clock
from penstock.resources.claims import claim_key
from penstock.resources.core import Taint
from penstock.resources.devices import ResourceClaim, ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod, Toleration


class DeviceEvictionController:
    """Looks at one node at a time. Only devices tainted NoExecute lose their pods, and of those only what does not tolerate it."""

    name = "device-eviction"

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock, *, types: Sequence[GpuType]
    ) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._types = tuple(types)

    def watches(self) -> tuple[Watch, ...]:
        """Slices, and pods that hold devices; the keys name nodes."""
        return (
            Watch(ResourceSlice, _node_of_slice),
            Watch(Pod, _node_of_pod),
            Watch(ResourceClaim, lambda _: ()),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Delete the pods of this node whose device must be left."""
        slices = [one for one in self._cache.list(ResourceSlice) if one.spec.node_name == key.name]
        gpus = gpus_of(slices, self._types).get(key.name, ())
        bad = {gpu.uuid: gpu for gpu in gpus if _ending(gpu)}
        if not bad:
            return None
        for pod in self._cache.list(Pod):
            if pod.spec.node_name != key.name or _is_leaving(pod):
                continue
            held = [(bad[share.gpu], share) for share in shares_of(pod) if share.gpu in bad]
            failed = next(
                (gpu for gpu, share in held if untolerated(_ending(gpu), self._tolerations(pod, share))), None
            )
            if failed is not None:
                await self._evict(pod, failed)
        return None

    def _tolerations(self, pod: Pod, share: Share) -> tuple[Toleration, ...]:
        """The pod's own, and those of the claim that was given the device."""
        own = pod.spec.tolerations
        namespace, name = claim_key(pod, share.claim) if share.claim else ("", "")
        claim = self._cache.get(ResourceClaim, name, namespace) if name else None
        return own if claim is None else (*own, *tolerations_of(claim, share.request))

    async def _evict(self, pod: Pod, gpu: Gpu) -> None:
        message = f"moved off a device that failed: {problem([gpu])}"
        if not await disrupt(self._cluster, pod, "DeletionByDeviceTaintManager", message, self._clock.now()):
            return  # its change brings us back
        self._recorder.event(pod, "Warning", "DeviceFailed", message)


def _ending(gpu: Gpu) -> tuple[Taint, ...]:
    """The taints that move pods which do not tolerate them."""
    return tuple(taint for taint in gpu.taints if taint.effect == "NoExecute")


def _is_leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Succeeded", "Failed")


def _node_of_slice(obj: Resource) -> Iterable[Key]:
    assert isinstance(obj, ResourceSlice), "the watch is on slices"
    return (Key("", obj.spec.node_name),) if obj.spec.node_name else ()


def _node_of_pod(obj: Resource) -> Iterable[Key]:
    assert isinstance(obj, Pod), "the watch is on pods"
    has_devices = DEVICES_ANNOTATION in obj.metadata.annotations and obj.spec.node_name
    return (Key("", obj.spec.node_name),) if has_devices else ()
