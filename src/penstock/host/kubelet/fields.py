"""What a pod may know of itself: the downward API's fields and resource fields.

Source: Kubernetes, "Downward API"; a divisor rounds up, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from penstock.kit.errors import Invalid
from penstock.kit.quantity import parse_quantity
from penstock.resources.pod import Container, Pod, ResourceFieldSelector

_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


def field_value(pod: Pod, path: str) -> str:
    """The value of a `fieldRef`; Invalid for a path that the downward API does not have."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    simple = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": spec.node_name,
        "spec.serviceAccountName": spec.service_account_name or spec.service_account or "default",
        "status.podIP": status.pod_ip,
        "status.podIPs": ",".join(address.ip for address in status.pod_ips) or status.pod_ip,
        "status.hostIP": status.host_ip,
        "status.hostIPs": status.host_ip,
    }
    if path in simple:
        return simple[path]
    if path in {"metadata.labels", "metadata.annotations"}:
        pairs = meta.labels if path.endswith("labels") else meta.annotations
        return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(pairs.items()))
    if match := _KEYED.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    raise Invalid(
        f"fieldRef.fieldPath: found {path!r}, which the downward API does not have",
        hint=f"use one of: {', '.join(simple)}, metadata.labels['KEY'], metadata.annotations['KEY']",
    )


def resource_value(pod: Pod, own: Container, wish: ResourceFieldSelector, node: Mapping[str, float]) -> str:
    """The value of a `resourceFieldRef`: a whole number of divisors, rounded up.

    `node` is what stands in for a missing limit: the node's allocatable `cpu` in cores and `memory` in bytes.
    """
    where, _, resource = wish.resource.partition(".")
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    named = (
        [each for each in containers if each.name == wish.container_name] if wish.container_name else [own]
    )
    if where not in {"limits", "requests"} or not resource or not named:
        raise Invalid(
            f"resourceFieldRef: no {wish.resource!r} of container {wish.container_name or own.name!r}",
            hint="resource is limits.cpu, limits.memory, requests.cpu or requests.memory",
        )
    needs = named[0].resources
    limits = needs.limits if needs else {}
    requests = needs.requests if needs else {}
    if where == "limits":
        given = limits.get(resource, node.get(resource, 0))
    else:
        given = requests.get(resource, limits.get(resource, 0))
    divisor = Decimal(str(parse_quantity(wish.divisor or 1))) or Decimal(1)
    return str(math.ceil(Decimal(str(parse_quantity(given))) / divisor))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
