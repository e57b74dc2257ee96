"""What was given for this claim, and which pods use it?

Written as kube-scheduler does (resource.k8s.io/v1): the devices of its requests by driver, pool and name, the node on which they can be used, and the
pods for which they are reserved. All of it follows from what bound pods hold, so that nothing is told of pods that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from penstock.contracts.devices import Share
from penstock.decide.device_slices import DRIVER
from penstock.decide.inventory import shares_of
from penstock.decide.replica_set import is_ended
from penstock.kit.hashing import stable_hash
from penstock.kit.quantity import format_quantity
from penstock.kit.timestamps import rfc3339
from penstock.resources.claims import MAX_RESERVED_FOR, claim_key
from penstock.resources.devices import (
    AllocationResult,
    ClaimAllocation,
    ClaimConsumer,
    DeviceAllocation,
    DeviceClass,
    DeviceWish,
    ResourceClaim,
    ResourceClaimStatus,
)
from penstock.resources.meta import Json
from penstock.resources.pod import Pod, Toleration

CLASSES: Mapping[str, DeviceClass] = {}


def users_of(claim: ResourceClaim, pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """The pods that have a node and name the claim, those first that are longest there."""
    key = (claim.metadata.namespace, claim.metadata.name)
    found = [
        pod
        for pod in pods
        if pod.spec.node_name
        and not is_ended(pod)
        and any(claim_key(pod, str(entry.get("name", ""))) == key for entry in pod.spec.resource_claims)
    ]
    return tuple(sorted(found, key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name)))


def claim_status(
    claim: ResourceClaim, pods: Iterable[Pod], now: float, classes: Mapping[str, DeviceClass] = CLASSES
) -> ResourceClaimStatus:
    """The whole status; what drivers wrote of devices stays as long as those are given. `pods` may be all of the namespace."""
    users, old = users_of(claim, pods), claim.status
    given = _given(claim, users)
    if not given:
        return ResourceClaimStatus(reserved_for=_consumers(users))
    results = tuple(_result(claim, node, share) for node, share in given)
    before = old.allocation
    since = before.allocation_timestamp if before and before.devices.results == results else None
    return ResourceClaimStatus(
        allocation=ClaimAllocation(
            devices=DeviceAllocation(results=results, config=tuple(_configs(claim, classes))),
            node_selector=_only(given[0][0]),
            allocation_timestamp=since or rfc3339(now),
        ),
        reserved_for=_consumers(users),
        devices=old.devices if since else (),
        conditions=old.conditions,
    )


def is_full(claim: ResourceClaim, pod: Pod) -> bool:
    """Whether as many other pods share the claim as may."""
    others = [one for one in claim.status.reserved_for if one.uid != pod.metadata.uid]
    return len(others) >= MAX_RESERVED_FOR


def tolerations_of(claim: ResourceClaim, request: str) -> tuple[Toleration, ...]:
    """Which taints of devices a request lives with, by its name in a share."""
    wish = _wish(claim, request)
    return () if wish is None else msgspec.convert(wish.tolerations, tuple[Toleration, ...])


def _given(claim: ResourceClaim, users: Iterable[Pod]) -> list[tuple[str, Share]]:
    """Each device once, with its node, in the order of the claim's requests."""
    key = (claim.metadata.namespace, claim.metadata.name)
    found = {
        (share.request, share.device): (pod.spec.node_name, share)
        for pod in reversed([*users])
        for share in shares_of(pod)
        if share.claim and claim_key(pod, share.claim) == key
    }
    order = [one.name for one in claim.spec.devices.requests]
    return sorted(found.values(), key=lambda one: (_place(order, one[1].request), one[1].device))


def _place(order: list[str], request: str) -> int:
    name = request.partition("/")[0]
    return order.index(name) if name in order else len(order)


def _result(claim: ResourceClaim, node: str, share: Share) -> AllocationResult:
    wish = _wish(claim, share.request)
    is_part = bool(share.memory_bytes) and not share.profile and not share.milli
    key = (claim.metadata.uid, share.request, share.device)
    return AllocationResult(
        request=share.request,
        driver=DRIVER,
        pool=node,
        device=share.device,
        admin_access=True if share.is_admin else None,
        tolerations=wish.tolerations if wish else (),
        share_id=_uuid(stable_hash(key)) if is_part else None,
        consumed_capacity={"memory": format_quantity(share.memory_bytes, binary=True)} if is_part else {},
    )


def _wish(claim: ResourceClaim, name: str) -> DeviceWish | None:
    request, _, way = name.partition("/")
    found = next((one for one in claim.spec.devices.requests if one.name == request), None)
    if found is None:
        return None
    return found.exactly or next((one for one in found.first_available if one.name == way), None)


def _configs(claim: ResourceClaim, classes: Mapping[str, DeviceClass]) -> Iterable[dict[str, Any]]:
    """What classes and the claim say to the driver, with whom each comes from."""
    for request in claim.spec.devices.requests:
        kind = classes.get(request.exactly.device_class_name) if request.exactly else None
        for one in kind.spec.config if kind else ():
            yield {"source": "FromClass", "requests": [request.name], **_dict(one)}
    for one in claim.spec.devices.config:
        yield {"source": "FromClaim", **_dict(one)}


def _dict(config: Json) -> dict[str, Any]:
    return dict(config) if isinstance(config, dict) else {}


def _only(node: str) -> dict[str, Any]:
    """The node selector that means this node."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {"nodeSelectorTerms": [{"matchFields": [field]}]}


def _consumers(users: Iterable[Pod]) -> tuple[ClaimConsumer, ...]:
    found = (ClaimConsumer(resource="pods", name=p.metadata.name, uid=p.metadata.uid) for p in users)
    return tuple(found)[:MAX_RESERVED_FOR]


def _uuid(digits: str) -> str:
    d = digits[:32].ljust(32, "0")
    return f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}"
