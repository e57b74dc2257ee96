"""The openb traces as Penstock's own objects: nodes with declared GPUs, and pods that ask as users do.

One production cluster's 1,213 GPU nodes (6,212 GPUs) and lists of its tasks, published by Alibaba with FGD (Weng et al., ATC'23).
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from penstock.contracts.devices import MEMORY_ANNOTATION, WHOLE_MILLI, DeviceRequest, Gpu, GpuType
from penstock.decide.fragmentation import Mix, Shape, typical
from penstock.decide.inventory import Inventory, take_stock
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "gpu"
WORKLOADS = ("default", "gpuspec33", "multigpu50", "gpushare100", "cpu250")
ARRIVED_AT_MOST = 1.3
GPU_BYTES = WHOLE_MILLI << 20
"""The traces speak of thousandths of a GPU. Here every GPU has a thousand MiB, so that a fraction by memory is the same number."""


class Task(NamedTuple):
    """One line of a trace; equal lines are equal tasks."""

    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    types: frozenset[str]

    @property
    def demand(self) -> int:
        """Thousandths of GPUs."""
        return self.gpus * self.gpu_milli


class Machine(NamedTuple):
    """One node of the trace."""

    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


@cache
def machines() -> tuple[Machine, ...]:
    """Those that have GPUs."""
    with (TRACES / "openb_node_list_all_node.csv").open() as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Machine(r["sn"], int(r["cpu_milli"]), int(r["memory_mib"]), int(r["gpu"]), r["model"])
        for r in rows
        if int(r["gpu"])
    )


@cache
def capacity() -> int:
    """Thousandths of GPUs in all."""
    return WHOLE_MILLI * sum(machine.gpus for machine in machines())


@cache
def tasks(workload: str) -> tuple[Task, ...]:
    """All lines of one workload."""
    with (TRACES / f"openb_pod_list_{workload}.csv").open() as file:
        return tuple(_task(row) for row in csv.DictReader(file))


def _task(row: dict[str, str]) -> Task:
    gpus = int(row["num_gpu"])
    types = frozenset((row.get("gpu_spec") or "").split("|")) - {""}
    return Task(
        int(row["cpu_milli"]), int(row["memory_mib"]), gpus, int(row["gpu_milli"]) if gpus else 0, types
    )


def arrivals(workload: str, seed: int) -> list[Task]:
    """The whole list in random order, and then tasks drawn from it at random until all ask for 1.3 times what there is.

    Of a list that asks for more, random tasks are left out. So the authors' simulator does it (`TunePodsByNodeTotalResource`): what the list
    asks of cores is the same in every run. If all tasks are drawn, runs of `cpu250`, in which cores run out first, differ by 1.5 points.
    """
    draw, lines = random.Random(seed), tasks(workload)
    found = list(lines)
    draw.shuffle(found)
    asked, most = sum(task.demand for task in found), ARRIVED_AT_MOST * capacity()
    while asked > most:
        asked -= found.pop(draw.randrange(len(found))).demand
    while asked + (task := draw.choice(lines)).demand <= most:
        found.append(task)
        asked += task.demand
    return found


def shape_of(task: Task) -> Shape:
    """What the task is to the estimate of the usual work."""
    return Shape(task.cpu_milli, task.gpus, task.gpu_milli, task.types)


@cache
def usual(workload: str) -> Mix:
    """The mix of the whole list, as the published protocol gives it to FGD."""
    return typical((shape, float(count)) for shape, count in Counter(map(shape_of, tasks(workload))).items())


def supply() -> Counter[str]:
    """GPUs of each model."""
    return Counter(
        {
            model: sum(m.gpus for m in machines() if m.model == model)
            for model in {m.model for m in machines()}
        }
    )


def inventory(seed: int) -> Inventory:
    """All nodes, empty. Their names, which break ties, are dealt out at random as the published simulator does."""
    order = list(range(len(machines())))
    random.Random(seed).shuffle(order)
    kinds = {model: GpuType(name=model, product=model, memory_bytes=GPU_BYTES) for model in supply()}
    named = [
        (f"{place:04d}-{machine.name}", machine) for place, machine in zip(order, machines(), strict=True)
    ]
    gpus = {
        name: tuple(Gpu(index=i, uuid=f"{name}/{i}", type=kinds[m.model]) for i in range(m.gpus))
        for name, m in named
    }
    return take_stock([_node(name, machine) for name, machine in named], [], gpus)


def _node(name: str, machine: Machine) -> Node:
    amounts = {"cpu": f"{machine.cpu_milli}m", "memory": f"{machine.memory_mib}Mi", "pods": "1000"}
    status = NodeStatus(
        capacity=dict(amounts),
        allocatable=dict(amounts),
        conditions=(Condition(type="Ready", status="True", reason="KubeletReady"),),
    )
    return Node(metadata=ObjectMeta(name=name), status=status)


@cache
def pod_of(task: Task) -> tuple[Pod, tuple[DeviceRequest, ...]]:
    """The pod, and what it asks of devices."""
    amounts = {"cpu": f"{task.cpu_milli}m", "memory": f"{task.memory_mib}Mi"}
    container = Container(name="main", resources=ResourceRequirements(requests=dict(amounts)))
    is_part = 0 < task.gpu_milli < WHOLE_MILLI
    annotations = {MEMORY_ANNOTATION: f"{task.gpu_milli}Mi"} if is_part else {}
    meta = ObjectMeta(name="task", namespace="default", annotations=annotations)
    pod = Pod(metadata=meta, spec=PodSpec(containers=(container,)))
    if not task.gpus:
        return pod, ()
    asked = DeviceRequest(
        container="main",
        count=task.gpus,
        milli=0 if is_part else WHOLE_MILLI,
        memory_bytes=task.gpu_milli << 20 if is_part else 0,
        types=task.types,
    )
    return pod, (asked,)
