"""ResourceClaims: makes those of templates for their pods, and tells what each was given and who uses it (`decide/claim_status.py`).

Placement gives the devices; what it gave is on the pods. A claim that is in use is protected from deletion, as on Kubernetes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Watch, own_key
from penstock.decide.claim_status import claim_status, users_of
from penstock.decide.replica_set import is_ended
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, Conflict, NotFound
from penstock.resources.claims import POD_CLAIM_ANNOTATION, claim_key, claim_name
from penstock.resources.devices import DeviceClass, ResourceClaim, ResourceClaimTemplate
from penstock.resources.meta import ObjectMeta, Resource, controlled_by
from penstock.resources.pod import Pod

IN_USE = "resource.kubernetes.io/delete-protection"
"""The finalizer of a claim that has devices."""


class ResourceClaimController:
    """One reconcile per claim, whether it exists or is still to be made."""

    name = "resource-claims"

    def __init__(self, cluster: Cluster, cache: Cache, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Claims, the pods that use them, and what claims are made from."""
        return (
            Watch(ResourceClaim, own_key),
            Watch(Pod, _claims_of),
            Watch(ResourceClaimTemplate, self._waiting),
            Watch(DeviceClass, lambda _: ()),
        )

    def _waiting(self, obj: Resource) -> Iterable[Key]:
        """The claims of pods that waited for their template."""
        for pod in self._cache.list(Pod, obj.metadata.namespace):
            if any(e.get("resourceClaimTemplateName") == obj.metadata.name for e in pod.spec.resource_claims):
                yield from _claims_of(pod)

    async def reconcile(self, key: Key) -> float | None:
        """Make, tell, protect or let go; and take away what was made for a pod that has ended."""
        pods = [pod for pod in self._cache.list(Pod, key.namespace) if key in _claims_of(pod)]
        claim = self._cache.get(ResourceClaim, key.name, key.namespace)
        if claim is None:
            await self._make(key, pods)
        else:
            with contextlib.suppress(Conflict, NotFound):  # what changed or went meanwhile brings us back
                await self._settle(claim, pods)
        return None

    async def _settle(self, claim: ResourceClaim, pods: list[Pod]) -> None:
        await self._tell_pods(claim, pods)
        is_used = bool(users_of(claim, pods))
        if is_used:
            claim = await self._protected(claim)
        classes = {one.metadata.name: one for one in self._cache.list(DeviceClass)}
        status = claim_status(claim, pods, self._clock.now(), classes)
        if status != claim.status:
            wanted = msgspec.structs.replace(claim, status=status)
            claim = await self._cluster.replace(wanted, subresource="status")
        if not is_used:
            await self._let_go(claim, pods)

    async def _make(self, key: Key, pods: Iterable[Pod]) -> None:
        for pod in pods:
            name = _own_name(pod, key.name)
            entries = (one for one in pod.spec.resource_claims if one.get("name") == name)
            template_name = next((one.get("resourceClaimTemplateName") for one in entries), None)
            if not template_name or is_ended(pod) or pod.metadata.deletion_timestamp is not None:
                continue
            template = self._cache.get(ResourceClaimTemplate, str(template_name), key.namespace)
            if template is None:
                continue  # it brings us back when it is made
            mould = template.spec.metadata
            metadata = ObjectMeta(
                name=key.name,
                namespace=key.namespace,
                labels=mould.labels,
                annotations={**mould.annotations, POD_CLAIM_ANNOTATION: name},
                owner_references=(controlled_by(pod),),
            )
            with contextlib.suppress(AlreadyExists):
                await self._cluster.create(ResourceClaim(metadata=metadata, spec=template.spec.spec))
            return

    async def _tell_pods(self, claim: ResourceClaim, pods: Iterable[Pod]) -> None:
        """The status of a pod says which claim was made for it."""
        name = claim.metadata.annotations.get(POD_CLAIM_ANNOTATION)
        for pod in pods:
            known = pod.status.resource_claim_statuses
            if name is None or is_ended(pod) or any(one.name == name for one in known):
                continue
            made = [{"name": name, "resourceClaimName": claim.metadata.name}]
            others = [{"name": one.name, "resourceClaimName": one.resource_claim_name} for one in known]
            patch = {
                "metadata": {"resourceVersion": pod.metadata.resource_version},
                "status": {"resourceClaimStatuses": [*others, *made]},
            }
            meta = pod.metadata
            with contextlib.suppress(Conflict, NotFound):
                await self._cluster.patch(Pod, meta.name, meta.namespace, patch, subresource="status")

    async def _protected(self, claim: ResourceClaim) -> ResourceClaim:
        meta = claim.metadata
        if IN_USE in meta.finalizers or meta.deletion_timestamp is not None:
            return claim
        return await self._finalized(claim, (*meta.finalizers, IN_USE))

    async def _let_go(self, claim: ResourceClaim, pods: list[Pod]) -> None:
        meta = claim.metadata
        if IN_USE in meta.finalizers:
            await self._finalized(claim, tuple(one for one in meta.finalizers if one != IN_USE))
        if POD_CLAIM_ANNOTATION in meta.annotations and pods and all(map(is_ended, pods)):
            await self._cluster.delete(ResourceClaim, meta.name, meta.namespace)

    async def _finalized(self, claim: ResourceClaim, finalizers: tuple[str, ...]) -> ResourceClaim:
        meta = claim.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "finalizers": list(finalizers)}}
        return await self._cluster.patch(ResourceClaim, meta.name, meta.namespace, patch)


def _claims_of(obj: Resource) -> tuple[Key, ...]:
    assert isinstance(obj, Pod), "the watch is on pods"
    return tuple(Key(*claim_key(obj, str(entry.get("name", "")))) for entry in obj.spec.resource_claims)


def _own_name(pod: Pod, claim: str) -> str:
    """What the pod calls the claim."""
    names = (str(entry.get("name", "")) for entry in pod.spec.resource_claims)
    return next((name for name in names if claim_name(pod, name) == claim), "")
