"""This machine as a Node, and further nodes that are declared to try out a cluster's shape.

Declared nodes have a name, an amount of CPU and memory, and labels and taints of their own; their pods run on this machine.
"""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from penstock import __version__
from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.contracts.devices import Gpu
from penstock.decide.device_resources import device_counts
from penstock.decide.gpu_health import problem
from penstock.decide.gpu_labels import gpu_labels
from penstock.host.node_devices import NodeDevices
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.core import ConfigMap, Node, NodeAddress, NodeSpec, NodeStatus, Taint
from penstock.resources.meta import Condition, ObjectMeta, Quantity, Resource

HEARTBEAT_S = 30.0
GPU_LOOK_S = 10.0
"""How often this machine looks whether its GPUs changed or failed."""
MAX_PODS = 110
MEMORY_PRESSURE_BYTES = 256 << 20
DISK_PRESSURE_RATIO = 0.05
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class NodeTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What a node offers: quantities by resource name beside its GPUs, labels, taints. The GPUs of this machine are looked for anew at each beat."""

    name: str
    capacity: Mapping[str, Quantity]
    gpus: tuple[Gpu, ...] = ()
    labels: Mapping[str, str] = {}
    taints: tuple[Taint, ...] = ()


def local_node_name() -> str:
    """The machine's host name as a Kubernetes name."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name[:63].strip("-.") or "localhost"


def this_machine() -> NodeTemplate:
    """All CPUs and all memory of this machine."""
    capacity: dict[str, Quantity] = {
        "cpu": str(psutil.cpu_count() or 1),
        "memory": f"{psutil.virtual_memory().total // 1024}Ki",
    }
    return NodeTemplate(name=local_node_name(), capacity=capacity)


class NodeController:
    """Writes the nodes of this host and their heartbeats."""

    name = "nodes"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        home: Path,
        nodes: Sequence[NodeTemplate],
        devices: NodeDevices,
    ) -> None:
        """`home` is the data folder, whose disk is watched for pressure."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._home = home
        self._devices = devices
        self._gpus: dict[str, tuple[Gpu, ...]] = {}
        self._wishes: dict[str, object] = {}
        self._nodes = {template.name: template for template in nodes}

    def watches(self) -> tuple[Watch, ...]:
        """Nodes, so that one which somebody deletes comes back; and how their GPUs are shared."""
        return (Watch(Node, own_key), Watch(ConfigMap, self._shared))

    def _shared(self, obj: Resource) -> Iterable[Key]:
        return (Key("", name) for name in self._nodes) if self._devices.is_config(obj) else ()

    async def register(self) -> None:
        """Make what is missing and renew what is there; once, at start."""
        for template in self._nodes.values():
            try:
                await self._cluster.create(_node(template))
            except AlreadyExists:
                await self._renew(template)
            await self._beat(template)

    async def reconcile(self, key: Key) -> float | None:
        """A heartbeat every half minute, and at once when the node's GPUs changed or are to be shared otherwise."""
        template = self._nodes.get(key.name)
        if template is None:
            return None
        node = self._cache.get(Node, key.name)
        if node is None:
            await self.register()
            return self._again_in_s(template)
        is_due = self._due_in_s(node) <= 0 or self._wishes.get(key.name) != self._devices.wishes(node)
        if is_due or await self._devices.settle(node, template.gpus) != self._gpus.get(key.name):
            await self._beat(template)
            return self._again_in_s(template)
        return min(self._due_in_s(node), self._again_in_s(template))

    def _again_in_s(self, template: NodeTemplate) -> float:
        is_real = template.name == self._devices.local and bool(self._gpus.get(template.name))
        return GPU_LOOK_S if is_real else HEARTBEAT_S

    def _due_in_s(self, node: Node) -> float:
        beats = [c.last_heartbeat_time for c in node.status.conditions if c.type == "Ready"]
        if not beats or beats[0] is None:
            return 0.0
        from_now = HEARTBEAT_S - (self._clock.now() - parse_rfc3339(beats[0]))
        return from_now if from_now > 1 else 0.0

    async def _renew(self, template: NodeTemplate) -> None:
        """A machine may have changed while we were away; labels that others set are kept."""
        node = _node(template)
        patch = {"metadata": {"labels": dict(node.metadata.labels)}}
        await self._cluster.patch(Node, template.name, "", patch)

    async def _beat(self, template: NodeTemplate) -> None:
        node = await self._cluster.get(Node, template.name)
        gpus = await self._devices.settle(node, template.gpus)
        node = await self._labelled(node, template, gpus)
        if (wrong := problem(gpus)) and gpus != self._gpus.get(template.name):
            self._recorder.event(node, "Warning", "GPUUnhealthy", wrong)
        status = _status(template, node, gpus, _conditions(node, gpus, self._home, self._clock.now()))
        await self._cluster.replace(msgspec.structs.replace(node, status=status), subresource="status")
        self._gpus[template.name], self._wishes[template.name] = gpus, self._devices.wishes(node)

    async def _labelled(self, node: Node, template: NodeTemplate, gpus: tuple[Gpu, ...]) -> Node:
        """With the labels of its GPUs as they are, and without those of GPUs that it had."""
        wanted = {**gpu_labels(gpus), **template.labels}
        before = self._gpus.get(template.name, ())
        stale = (node.metadata.labels.keys() & gpu_labels(before).keys()) - wanted.keys()
        patch = {
            **{name: value for name, value in wanted.items() if node.metadata.labels.get(name) != value},
            **dict.fromkeys(stale),
        }
        if not patch:
            return node
        return await self._cluster.patch(Node, template.name, "", {"metadata": {"labels": patch}})


def _node(template: NodeTemplate) -> Node:
    labels = {
        "kubernetes.io/hostname": template.name,
        "kubernetes.io/os": platform.system().lower(),
        "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        **template.labels,
    }
    return Node(metadata=ObjectMeta(name=template.name, labels=labels), spec=NodeSpec(taints=template.taints))


def _status(
    template: NodeTemplate, node: Node, gpus: tuple[Gpu, ...], conditions: tuple[Condition, ...]
) -> NodeStatus:
    own: dict[str, Quantity] = {**template.capacity, "pods": str(MAX_PODS)}
    healthy = tuple(msgspec.structs.replace(gpu, taints=()) for gpu in gpus)
    return NodeStatus(
        capacity=own | {name: str(count) for name, count in device_counts(healthy).items()},
        allocatable=own | {name: str(count) for name, count in device_counts(gpus).items()},
        conditions=conditions,
        addresses=(
            NodeAddress(type="InternalIP", address="127.0.0.1"),
            NodeAddress(type="Hostname", address=template.name),
        ),
        node_info={
            "kernelVersion": platform.release(),
            "osImage": platform.platform(terse=True),
            "operatingSystem": platform.system().lower(),
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "containerRuntimeVersion": f"process://{__version__}",
            "kubeletVersion": f"v{__version__}+penstock",
            "kubeProxyVersion": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
        },
    )


def _conditions(node: Node, gpus: tuple[Gpu, ...], home: Path, now: float) -> tuple[Condition, ...]:
    memory_low = psutil.virtual_memory().available < MEMORY_PRESSURE_BYTES
    disk = psutil.disk_usage(str(home))
    disk_low = disk.free < DISK_PRESSURE_RATIO * disk.total
    gpu_problem = problem(gpus)
    facts = [
        ("MemoryPressure", memory_low, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
        ("DiskPressure", disk_low, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
        ("Ready", True, "KubeletReady", "KubeletNotReady"),
    ]
    if gpus:
        facts.append(("GPUProblem", bool(gpu_problem), "DeviceFault", "DevicesAreHealthy"))
    known = {condition.type: condition for condition in node.status.conditions}
    conditions = []
    for kind, holds, if_true, if_false in facts:
        status = "True" if holds else "False"
        same = kind in known and known[kind].status == status
        conditions.append(
            Condition(
                type=kind,
                status=status,
                reason=if_true if holds else if_false,
                message=gpu_problem if kind == "GPUProblem" else "",
                last_heartbeat_time=rfc3339(now),
                last_transition_time=known[kind].last_transition_time if same else rfc3339(now),
            )
        )
    return tuple(conditions)
