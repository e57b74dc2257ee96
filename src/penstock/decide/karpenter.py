"""Which NodePool objects ask Karpenter for these nodes?

`karpenter.sh/v1`. A node that does not exist yet has no labels from GPU Feature Discovery, so the pool declares them: else no pod that selects
by product would ever bring a node up. Karpenter takes nodes away again by itself when they stand idle or their pods fit elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from penstock.contracts.devices import GPU_RESOURCE
from penstock.decide.device_resources import device_counts
from penstock.decide.node_pools import NodePool
from penstock.decide.pod_requests import offered, quantity_of
from penstock.decide.prices import gpu_hour
from penstock.kit.quantity import format_quantity

API_VERSION = "karpenter.sh/v1"
WELL_KNOWN = ("kubernetes.io", "k8s.io", "karpenter.sh", "karpenter.k8s.aws", "karpenter.azure.com")
"""Domains of labels that Karpenter chooses nodes by: they become requirements, all others labels of the nodes."""
MOST_WEIGHT = 100


class NodeClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider's own object that says how its nodes are made (EC2NodeClass, AKSNodeClass, …)."""

    group: str
    kind: str
    name: str


def node_pool_objects(
    pools: Sequence[NodePool], classes: Mapping[str, NodeClass], consolidate_after: Mapping[str, str]
) -> tuple[dict[str, Any], ...]:
    """One for each pool. Of those whose price is known the cheaper one, per GPU, has the greater weight: Karpenter tries it first.

    `classes` and `consolidate_after` (a duration as Karpenter writes it) are by the pool's name.
    """
    priced = [pool for pool in pools if pool.quote.usd_micros is not None]
    ordered = sorted(priced, key=lambda pool: (_per_gpu(pool), pool.name))
    weights = {pool.name: max(1, MOST_WEIGHT - place) for place, pool in enumerate(ordered)}
    return tuple(
        _object(pool, classes[pool.name], consolidate_after[pool.name], weights.get(pool.name))
        for pool in pools
    )


def _object(
    pool: NodePool, node_class: NodeClass, consolidate_after: str, weight: int | None
) -> dict[str, Any]:
    labels = pool.node.metadata.labels
    wanted = {key: value for key, value in labels.items() if _is_well_known(key)}
    own = {key: value for key, value in labels.items() if key not in wanted}
    taints = [
        {name: value for name, value in asdict(taint).items() if value and name != "time_added"}
        for taint in pool.node.spec.taints
    ]
    spec = {
        "nodeClassRef": asdict(node_class),
        "requirements": [
            {"key": key, "operator": "In", "values": [value]} for key, value in sorted(wanted.items())
        ],
        **({"taints": taints} if taints else {}),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "NodePool",
        "metadata": {"name": pool.name},
        "spec": {
            "template": {**({"metadata": {"labels": own}} if own else {}), "spec": spec},
            "limits": _limits(pool),
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": consolidate_after,
            },
            **({"weight": weight} if weight else {}),
        },
    }


def _limits(pool: NodePool) -> dict[str, str]:
    """What `most` nodes have together."""
    whole = offered(pool.node.status.allocatable)
    limits = {
        name: format_quantity(quantity_of(name, whole[name] * pool.most), binary=name == "memory")
        for name in ("cpu", "memory")
    }
    gpus = device_counts(pool.gpus).get(GPU_RESOURCE, 0)
    return limits | ({GPU_RESOURCE: str(gpus * pool.most)} if gpus else {})


def _is_well_known(key: str) -> bool:
    domain = key.rpartition("/")[0]
    return any(domain == one or domain.endswith(f".{one}") for one in WELL_KNOWN)


def _per_gpu(pool: NodePool) -> float:
    hour = gpu_hour(pool.quote, len(pool.gpus))
    return float(pool.quote.usd_micros or 0) if hour is None else hour
