"""How a pod's claims on devices are named (resource.k8s.io/v1)."""

from __future__ import annotations

from penstock.kit.hashing import short_hash
from penstock.resources.pod import Pod

POD_CLAIM_ANNOTATION = "resource.kubernetes.io/pod-claim-name"
"""On a claim that was made from a template: what its pod calls it."""
ADMIN_LABEL = "resource.kubernetes.io/admin-access"
"""On a namespace, with the value true: its claims may look at devices that others hold."""
MAX_RESULTS, MAX_RESERVED_FOR = 32, 256
"""Devices that one claim may be given, pods that may share it."""


def claim_name(pod: Pod, name: str) -> str:
    """The ResourceClaim behind a pod's own name for it; one that is made from a template is named after the pod, and so that no other pod's is."""
    given = next(
        (one.get("resourceClaimName") for one in pod.spec.resource_claims if one.get("name") == name), None
    )
    meta = pod.metadata
    return str(given) if given else f"{meta.name}-{name}-{short_hash(meta.uid or meta.name, 5)}"


def claim_key(pod: Pod, name: str) -> tuple[str, str]:
    """Its namespace and its name."""
    return pod.metadata.namespace, claim_name(pod, name)
