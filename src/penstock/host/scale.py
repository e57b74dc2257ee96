"""The `scale` subresource: an autoscaling/v1 Scale as a view of a workload's `spec.replicas`."""

from __future__ import annotations

from typing import Any

from penstock.host.metadata import Document
from penstock.kit.errors import Cause, Invalid, InvalidInput

SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(workload: Document) -> Document:
    """The Scale of a Deployment or ReplicaSet."""
    meta, spec = workload["metadata"], workload.get("spec") or {}
    status = workload.get("status") or {}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {field: meta[field] for field in SHOWN if field in meta},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": selector_text(spec.get("selector") or {}),
        },
    }


def scaled(workload: Document, scale: Document) -> Document:
    """The workload with the replicas (and the resourceVersion, as a precondition) that a Scale asks for."""
    if scale.get("kind") not in (None, "Scale"):
        raise InvalidInput(f"kind: found {scale['kind']!r}, expected 'Scale'")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        problem = f"Invalid value: {replicas!r}: must be an integer greater than or equal to 0"
        name = workload["metadata"]["name"]
        raise Invalid(
            f'Scale.autoscaling "{name}" is invalid: spec.replicas: {problem}',
            causes=(Cause("spec.replicas", problem),),
        )
    given = scale.get("metadata") or {}
    meta = {**workload["metadata"]}
    for field in ("uid", "resourceVersion"):
        if given.get(field):
            meta[field] = given[field]
        else:
            meta.pop(field)
    return {**workload, "metadata": meta, "spec": {**(workload.get("spec") or {}), "replicas": replicas}}


def selector_text(selector: dict[str, Any]) -> str:
    """A label selector in kubectl's notation."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        key, operator, values = term["key"], term["operator"], ",".join(term.get("values") or ())
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(terms)
