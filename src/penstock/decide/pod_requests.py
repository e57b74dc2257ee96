"""What does a pod reserve of its node?

Amounts as kube-scheduler counts them: CPU in whole thousandths of a core, everything else in whole units, both rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from penstock.contracts.devices import GPU_RESOURCE, MEMORY_ANNOTATION
from penstock.kit.quantity import parse_quantity
from penstock.resources.meta import Quantity
from penstock.resources.pod import Container, Pod

Amounts = Mapping[str, Decimal]
Units = dict[str, int]
"""Whole numbers of each resource: `cpu` in thousandths of a core, the others as they are counted."""


def requests_of(pod: Pod) -> Amounts:
    """What the pod reserves: the sum over its containers, or one init container's if that is more; and one pod."""
    total: dict[str, Decimal] = {}
    for container in pod.spec.containers:
        for name, amount in _container_requests(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in pod.spec.init_containers:
        for name, amount in _container_requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    for name, quantity in pod.spec.overhead.items():
        total[name] = total.get(name, Decimal(0)) + parse_quantity(quantity)
    return total | {"pods": Decimal(1)}


def needs_of(pod: Pod) -> Units:
    """`requests_of` in whole units, never less than what was asked. A pod that takes memory of GPUs takes no GPU whole."""
    takes_parts = MEMORY_ANNOTATION in pod.metadata.annotations
    return {
        name: _units(name, amount, ROUND_CEILING)
        for name, amount in requests_of(pod).items()
        if not (takes_parts and name == GPU_RESOURCE)
    }


def offered(allocatable: Mapping[str, Quantity]) -> Units:
    """What a node has in whole units, never more than it says."""
    return {
        name: _units(name, parse_quantity(quantity), ROUND_FLOOR) for name, quantity in allocatable.items()
    }


def quantity_of(name: str, units: int) -> Decimal:
    """The exact quantity of whole units: 1500 of `cpu` is 1.5."""
    return Decimal(units) / 1000 if name == "cpu" else Decimal(units)


def _units(name: str, amount: Decimal, rounding: str) -> int:
    return int((amount * 1000 if name == "cpu" else amount).to_integral_value(rounding))


def _container_requests(container: Container) -> Amounts:
    """A limit without a request counts as the request (Kubernetes)."""
    if container.resources is None:
        return {}
    merged: dict[str, Quantity] = {**container.resources.limits, **container.resources.requests}
    return {name: parse_quantity(quantity) for name, quantity in merged.items()}
