"""Lays out GPUs in MIG mode for what is asked for, on nodes that ask for it with the label `nvidia.com/mig.config=penstock`.

The node's state is told as NVIDIA's MIG manager tells it, by the label `nvidia.com/mig.config.state`. Layouts of declared nodes are applied; where the
devices are real, an Event says what is to be done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import GpuType
from penstock.decide.device_slices import gpus_of
from penstock.decide.inventory import shares_of
from penstock.decide.mig import Change, Plan
from penstock.decide.mig_parted import CONFIG_LABEL
from penstock.decide.mig_relayout import (
    OPT_IN,
    STANDING,
    STATE_LABEL,
    WITHHELD,
    Forecast,
    Standing,
    plan_relayout,
    settled,
    standing_of,
)
from penstock.host.device_book import DeviceBook
from penstock.host.dry_placement import DryPlacement
from penstock.host.usual_work import UsualWork
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.resources.core import Node
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

ROUND_S = 15.0
WITHHELD_S = 2.0
"""For so long a GPU is withheld before it is laid out: who was being placed there has bound by then."""
ALL = Key("", "MIG layouts")


class MigLayoutController:
    """One key: all nodes that ask for it are laid out together."""

    name = "mig-layouts"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        declared: Collection[str],
        gpu_types: Sequence[GpuType],
    ) -> None:
        """See `contracts/controller.py`; `declared` names the nodes whose devices are only declared."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._declared = frozenset(declared)
        self._types = tuple(gpu_types)
        self._book = DeviceBook(cache, gpu_types)
        self._usual = UsualWork()
        self._forecast = Forecast()
        self._next_at = 0.0
        self._withheld_at: dict[str, float] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Nodes that ask for it, and pods and devices so that the cache knows them."""
        return (Watch(Node, _asking), Watch(Pod, lambda _: ()), *self._book.watches(lambda _: ()))

    async def reconcile(self, key: Key) -> float | None:
        """Settle what is pending; with nothing pending, plan."""
        there = self._cache.list(Node)
        pending = [node for node in there if standing_of(node).pending]
        for node in pending:  # also where nobody asks any more: no GPU is withheld for good
            await self._settle(node)
        if pending:
            return WITHHELD_S / 2
        nodes = [node for node in there if asks(node)]
        if not nodes:
            return None
        left_s = self._next_at - self._clock.monotonic()
        if left_s <= 0:
            self._next_at = self._clock.monotonic() + ROUND_S
            await self._plan(nodes)
            left_s = ROUND_S
        return left_s

    async def _plan(self, nodes: Sequence[Node]) -> None:
        now = self._clock.now()
        listing = await self._cluster.list(Pod)
        pods = [pod for pod in listing.items if pod.status.phase not in ("Succeeded", "Failed")]
        dry = DryPlacement(self._book, pods, self._usual, now)
        self._forecast = self._forecast.seen(dry.leaning.mig_demand, now)
        changed = {gpu: at for node in nodes for gpu, at in standing_of(node).changed_at.items()}
        names = {node.metadata.name for node in nodes}
        plan = plan_relayout(dry.stock, names, self._forecast.levels, Standing(changed_at=changed), now)
        for node in nodes:
            mine = [one for one in plan.changes if one.node == node.metadata.name]
            if mine:
                await self._begin(node, mine, plan)

    async def _begin(self, node: Node, changes: Sequence[Change], plan: Plan) -> None:
        why = "; ".join(f"GPU {one.index}: {one.reason}" for one in changes)
        if node.metadata.name not in self._declared:
            told = f"{why}. To apply it: penstock mig-layout -o mig-parted, then nvidia-mig-parted apply"
            self._recorder.event(node, "Normal", "MigLayoutProposed", told)
            return
        pending = {one.gpu: one.after for one in changes}
        standing = msgspec.structs.replace(standing_of(node), pending=pending)
        if await self._write(node, standing, "pending"):
            self._recorder.event(node, "Normal", "MigLayoutPending", f"{why}. {plan.message}")

    async def _settle(self, node: Node) -> None:
        """Once the devices say that they are withheld, and a while later: whoever was placed there before is known by now."""
        standing, now = standing_of(node), self._clock.now()
        slices = [one for one in self._cache.list(ResourceSlice) if one.spec.node_name == node.metadata.name]
        gpus = gpus_of(slices, self._types).get(node.metadata.name, ())
        kept_off = {gpu.uuid for gpu in gpus if any(taint.key == WITHHELD for taint in gpu.taints)}
        there = {gpu.uuid for gpu in gpus}
        if (standing.pending.keys() & there) - kept_off:
            return
        began = self._withheld_at.setdefault(node.metadata.name, self._clock.monotonic())
        if self._clock.monotonic() < began + WITHHELD_S:
            return
        pods = (await self._cluster.list(Pod)).items
        in_use = {
            share.gpu
            for pod in pods
            if pod.spec.node_name == node.metadata.name and pod.status.phase not in ("Succeeded", "Failed")
            for share in shares_of(pod)
        }
        after, taken = settled(standing, in_use, now)
        if await self._write(node, after, "failed" if taken else "success"):
            del self._withheld_at[node.metadata.name]
            told = f"{len(standing.pending) - len(taken)} GPUs are laid out anew"
            if taken:
                told += f"; {', '.join(taken)} came into use meanwhile"
            self._recorder.event(node, "Warning" if taken else "Normal", "MigLayout", told)

    async def _write(self, node: Node, standing: Standing, state: str) -> bool:
        patch = {
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "annotations": {STANDING: msgspec.json.encode(standing).decode()},
                "labels": {STATE_LABEL: state},
            }
        }
        with suppress(Conflict, NotFound):
            await self._cluster.patch(Node, node.metadata.name, "", patch)
            return True
        return False


def asks(node: Node) -> bool:
    """Whether the node is to be laid out by us."""
    return node.metadata.labels.get(CONFIG_LABEL) == OPT_IN


def _asking(obj: Resource) -> Iterable[Key]:
    assert isinstance(obj, Node), "the watch is on nodes"
    return (ALL,) if asks(obj) or STANDING in obj.metadata.annotations else ()
