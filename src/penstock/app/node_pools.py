"""Node pools that a file declares, and what they would do for the pods that wait."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from penstock.app.declared_nodes import declared_gpus
from penstock.app.declared_rows import declared_row
from penstock.app.dry_cluster import DryCluster
from penstock.app.node_settings import DeclaredNode
from penstock.contracts.controller import Cache
from penstock.contracts.devices import DeviceRequest
from penstock.decide.device_slices import slices_of
from penstock.decide.gang import Member, gang_of, missing
from penstock.decide.gpu_labels import gpu_labels
from penstock.decide.karpenter import NodeClass, node_pool_objects
from penstock.decide.node_pools import MOST_ADDED, Growth, NodePool, Unit, grow
from penstock.decide.pod_priority import prioritised
from penstock.decide.prices import CAPACITY_TYPE, INSTANCE_TYPE, PROVIDER, SPOT, Price, node_price
from penstock.host.placement import is_pending
from penstock.kit.errors import InvalidInput, PlatformError
from penstock.kit.quantity import parse_quantity
from penstock.resources.core import Node, NodeSpec, NodeStatus, PriorityClass, Taint
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Pod

MAX_BYTES = 1 << 20
MAX_POOLS = 64
MAX_QUEUE = 1000
"""Pods and gangs of which so many are looked at, in their order; how many more wait is said."""
MAX_PODS = "110"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_AFTER = re.compile(r"([0-9]+[smh])+|Never")
"""As Karpenter writes times."""


class DeclaredPool(DeclaredNode, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Nodes of one kind that could be had, each like the declared one. `most` are how many may be added; `node_class` and
    `consolidate_after` are for Karpenter."""

    provider: str = ""
    instance_type: str = ""
    spot: bool = False
    most: int = MOST_ADDED
    node_class: NodeClass | None = None
    consolidate_after: str = "10m"


class Pools(Struct, frozen=True):
    """All pools of a file, as they were declared and as decisions know them."""

    declared: tuple[DeclaredPool, ...]
    known: tuple[NodePool, ...]


def read_pools(path: Path, prices: Sequence[Price]) -> Pools:
    """Raises InvalidInput, which names file, pool and field, for a file that is not understood."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path}: found {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"{path}: is not YAML: {error}") from None
    rows = document.get("pools") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_POOLS:
        raise InvalidInput(f"{path}: pools: found no list of 1 to {MAX_POOLS} pools")
    declared = tuple(_declared(row, f"{path}: pools[{i}]") for i, row in enumerate(rows))
    names = [one.name for one in declared]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InvalidInput(f"{path}: pools[{i}].name: found {name!r}, which another pool has")
    known = tuple(_pool(one, prices, f"{path}: pools[{i}]") for i, one in enumerate(declared))
    return Pools(declared, known)


def karpenter_objects(pools: Pools) -> tuple[dict[str, Any], ...]:
    """NodePool objects. Raises InvalidInput for a pool that does not say of what its nodes are made."""
    classes = {one.name: one.node_class for one in pools.declared if one.node_class is not None}
    for i, one in enumerate(pools.declared):
        if one.name not in classes:
            raise InvalidInput(
                f"pools[{i}].nodeClass: found nothing, expected group, kind and name",
                hint="Karpenter makes nodes from an object of the provider, as EC2NodeClass of karpenter.k8s.aws",
            )
    after = {one.name: one.consolidate_after for one in pools.declared}
    return node_pool_objects(pools.known, classes, after)


def growth(cache: Cache, pools: Sequence[NodePool]) -> Growth:
    """What the pods that wait need, of all that `cache` holds."""
    dry = DryCluster(cache, [one for pool in pools for one in slices_of(f"pool-{pool.name}", pool.gpus)])
    units, left = _queue(dry.pods, dry.requests, cache.list(PriorityClass))
    found = grow(units[:MAX_QUEUE], dry.stock, pools, dry.place, dry.worth)
    unseen = max(0, len(units) - MAX_QUEUE)
    return msgspec.structs.replace(found, left=(*found.left, *left), unseen=unseen)


def _queue(
    pods: Sequence[Pod],
    requests: Mapping[str, tuple[DeviceRequest, ...] | str],
    classes: Sequence[PriorityClass],
) -> tuple[list[Unit], list[tuple[str, str]]]:
    """Pods and gangs in the order in which they are placed, and those that no node can help, with why."""
    members: dict[str, list[Member]] = {}
    left: dict[str, str] = {}
    sizes = Counter(map(gang_of, pods))
    for pod in sorted(filter(is_pending, pods), key=lambda pod: _turn(pod, classes)):
        gang = gang_of(pod)
        is_gang = gang is not None and gang.size > 1
        name = f"{pod.metadata.namespace}/{gang.name if gang and is_gang else pod.metadata.name}"
        wanted = requests[pod.metadata.uid]
        if isinstance(wanted, str):
            left[name] = wanted
        elif gang and is_gang and (why := missing(gang, sizes[gang])):
            left[name] = why
        else:
            members.setdefault(name, []).append(Member(pod, wanted))
    units = [Unit(name, tuple(some)) for name, some in members.items() if name not in left]
    return units, list(left.items())


def _turn(pod: Pod, classes: Sequence[PriorityClass]) -> tuple[int, str, str]:
    priority = prioritised(pod, classes).spec.priority or 0
    return -priority, pod.metadata.creation_timestamp or "", pod.metadata.name


def _declared(row: Any, where: str) -> DeclaredPool:
    one = declared_row(row, DeclaredPool, where, code="bad_pool")
    if not 0 < one.most <= MOST_ADDED:
        raise InvalidInput(f"{where}.most: found {one.most}, expected 1 to {MOST_ADDED}")
    if not _NAME.fullmatch(one.name):
        raise InvalidInput(f"{where}.name: found {one.name!r}, expected small letters, digits, - and .")
    if not _AFTER.fullmatch(one.consolidate_after):
        raise InvalidInput(
            f"{where}.consolidateAfter: found {one.consolidate_after!r}, expected a time such as 10m or 1h, or Never"
        )
    for field, quantity in (("cpu", one.cpu), ("memory", one.memory)):
        try:
            parse_quantity(quantity)
        except PlatformError as error:
            raise InvalidInput(f"{where}.{field}: {error.message}", hint=error.hint) from None
    return one


def _taints(one: DeclaredPool, where: str) -> tuple[Taint, ...]:
    try:
        return msgspec.convert(one.taints, tuple[Taint, ...])
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}.taints: {error}") from None


def _pool(one: DeclaredPool, prices: Sequence[Price], where: str) -> NodePool:
    gpus = declared_gpus(one, where)
    named = {INSTANCE_TYPE: one.instance_type, PROVIDER: one.provider}
    labels = {
        "kubernetes.io/os": "linux",
        **gpu_labels(gpus),
        **{key: value for key, value in named.items() if value},
        CAPACITY_TYPE: SPOT if one.spot else "on-demand",
        **one.labels,
    }
    status = NodeStatus(
        allocatable={"cpu": one.cpu, "memory": one.memory, "pods": MAX_PODS},
        conditions=(Condition(type="Ready", status="True"),),
    )
    node = Node(
        metadata=ObjectMeta(name=one.name, labels=labels),
        spec=NodeSpec(taints=_taints(one, where)),
        status=status,
    )
    return NodePool(
        name=one.name, node=node, gpus=gpus, quote=node_price(labels, gpus, prices), most=one.most
    )
