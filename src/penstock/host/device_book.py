"""What devices the nodes have and what pods ask of them, as the cluster's objects say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from penstock.contracts.controller import Cache, Key, Watch
from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.decide.claim_status import is_full
from penstock.decide.device_claims import Claims
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.device_resources import is_device
from penstock.decide.device_slices import gpus_of
from penstock.decide.gpu_aliases import plain
from penstock.decide.inventory import NOTHING, Inventory, take_stock
from penstock.decide.node_rules import GPU_TYPES
from penstock.decide.pod_fit import certified
from penstock.decide.selector_conflict import contradiction
from penstock.host.fit_book import FitBook
from penstock.resources.claims import ADMIN_LABEL, MAX_RESERVED_FOR
from penstock.resources.core import Namespace, Node
from penstock.resources.devices import (
    DeviceClass,
    ResourceClaim,
    ResourceClaimSpec,
    ResourceClaimTemplate,
    ResourceSlice,
)
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

KINDS = (ResourceSlice, DeviceClass, ResourceClaim, ResourceClaimTemplate, Namespace)


class DeviceBook:
    """Reads the cache at each question. Whoever asks watches the kinds of `watches`."""

    def __init__(self, cache: Cache, types: Sequence[GpuType], fits: FitBook | None = None) -> None:
        """`types` are the types of GPU that names can mean; `fits` knows which of them pods' models fit, None where nobody asks."""
        self._cache = cache
        self._fits = fits
        self._types = tuple(types)
        self._versions: tuple[str, ...] = ()
        self._gpus: dict[str, tuple[Gpu, ...]] = {}
        self._uncounted: dict[str, tuple[Node, tuple[Gpu, ...], Node]] = {}
        self._stock = NOTHING

    @staticmethod
    def watches(keys: Callable[[Resource], Iterable[Key]]) -> tuple[Watch, ...]:
        """All kinds that are read here."""
        return tuple(Watch(kind, keys) for kind in KINDS)

    def gpus(self) -> Mapping[str, tuple[Gpu, ...]]:
        """By node. Slices are read anew only when one of them changed."""
        slices = self._cache.list(ResourceSlice)
        versions = tuple(one.metadata.resource_version for one in slices)
        if versions != self._versions:
            self._versions, self._gpus = versions, gpus_of(slices, self._types)
        return self._gpus

    def stock(self, bound: Iterable[Pod]) -> Inventory:
        """What is left of all nodes; those to which nothing happened are the same objects as the last time.

        Where it is known which GPUs a node has, they are looked at one by one and not counted.
        """
        gpus, nodes = self.gpus(), self._cache.list(Node)
        self._uncounted = {
            node.metadata.name: self._without_devices(node, own)
            for node in nodes
            if (own := gpus.get(node.metadata.name))
        }
        counted = [
            self._uncounted[node.metadata.name][2] if node.metadata.name in self._uncounted else node
            for node in nodes
        ]
        self._stock = take_stock(counted, bound, gpus, self._stock)
        return self._stock

    def requests(self, pod: Pod) -> tuple[DeviceRequest, ...] | str:
        """The devices that the pod asks for, or why neither they nor a node can ever be had."""
        if wrong := contradiction(plain(pod, self._types, asks=True)):
            return wrong
        if wrong := self._unusable(pod):
            return wrong
        gpus = tuple(gpu for found in self.gpus().values() for gpu in found)
        claims = Claims(
            specs={str(entry.get("name", "")): self._claim(pod, entry) for entry in pod.spec.resource_claims},
            classes={one.metadata.name: one for one in self._cache.list(DeviceClass)},
            types=self._types,
            may_administer=bool(pod.spec.resource_claims) and self._may_administer(pod.metadata.namespace),
        )
        pod = certified(pod)
        fleet = Fleet(gpus=gpus, types=self._types, claims=claims)
        if self._fits is None:
            return asked(pod, fleet)
        return self._fits.requests(pod, gpus, lambda one: asked(one, fleet))

    def plain(self, pod: Pod, requests: tuple[DeviceRequest, ...] | str) -> Pod:
        """The pod, with what it says of types of GPU in any provider's words as the nodes of `stock` are known by."""
        return plain(pod, self._types, asks=bool(requests))

    def _unusable(self, pod: Pod) -> str:
        """Why a claim that the pod shares with others cannot be used by one more, "" where they all can."""
        for entry in pod.spec.resource_claims if not pod.spec.node_name else ():
            claim = self._cache.get(
                ResourceClaim, str(entry.get("resourceClaimName", "")), pod.metadata.namespace
            )
            if claim is None:
                continue
            where = f"resourceClaims[{entry.get('name', '')}]: claim {claim.metadata.name}"
            if claim.metadata.deletion_timestamp is not None:
                return f"{where} is being deleted: wait until it is gone and make it anew, or name another"
            if is_full(claim, pod):
                return f"{where} is used by {MAX_RESERVED_FOR} pods, as many as may share one: make another"
        return ""

    def _may_administer(self, namespace: str) -> bool:
        found = self._cache.get(Namespace, namespace)
        return found is not None and found.metadata.labels.get(ADMIN_LABEL) == "true"

    def _claim(self, pod: Pod, entry: dict[str, str]) -> ResourceClaimSpec | None:
        namespace = pod.metadata.namespace
        if template_name := entry.get("resourceClaimTemplateName"):
            template = self._cache.get(ResourceClaimTemplate, template_name, namespace)
            return None if template is None else template.spec.spec
        claim = self._cache.get(ResourceClaim, entry.get("resourceClaimName", ""), namespace)
        return None if claim is None else claim.spec

    def _without_devices(self, node: Node, gpus: tuple[Gpu, ...]) -> tuple[Node, tuple[Gpu, ...], Node]:
        """The node, its GPUs, and what it offers beside them, with their types."""
        known = self._uncounted.get(node.metadata.name)
        if known is not None and known[0] is node and known[1] is gpus:
            return known
        offered = node.status.allocatable
        kept = {name: amount for name, amount in offered.items() if not is_device(name)}
        types = ",".join(sorted({gpu.type.name for gpu in gpus}))
        meta = replace(node.metadata, annotations={**node.metadata.annotations, GPU_TYPES: types})
        return node, gpus, replace(node, metadata=meta, status=replace(node.status, allocatable=kept))
