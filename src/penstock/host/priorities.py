"""Fills a new pod's priority from its PriorityClass, and keeps the classes to one default, as Kubernetes' admission plugin Priority does."""

from __future__ import annotations

from typing import Any

import orjson

from penstock.host.metadata import Document, resource_of
from penstock.host.store import Store
from penstock.kit.errors import Forbidden
from penstock.resources.core import PriorityClass
from penstock.resources.scheme import Kind, kind_of

PREEMPT = "PreemptLowerPriority"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""Those that every cluster has."""


def with_priority(kind: Kind, document: Document, store: Store) -> Document:
    """The pod with `spec.priority` and `spec.preemptionPolicy`; other kinds as they are.

    Raises Forbidden where no such class is, where the pod says other numbers than its class, or for a second default class.
    """
    check_default(kind, document, store)
    if kind.kind != "Pod" or not isinstance(document.get("spec"), dict):
        return document
    spec = document["spec"]
    name = document["metadata"].get("name", "")
    given = spec.get("priorityClassName") or ""
    chosen = _named(given, store) if given else _default(store)
    if given and chosen is None:
        raise Forbidden(
            f'pods "{name}" is forbidden: no PriorityClass with name {given} was found',
            hint="kubectl get priorityclasses shows which there are",
        )
    chosen = chosen or {}
    value, policy = int(chosen.get("value") or 0), chosen.get("preemptionPolicy") or PREEMPT
    for field, word, found, expected in (
        ("priority", "integer value of priority", spec.get("priority"), value),
        ("preemptionPolicy", "string value of PreemptionPolicy", spec.get("preemptionPolicy"), policy),
    ):
        if found is not None and found != expected:
            raise Forbidden(
                f'pods "{name}" is forbidden: the {word} ({found}) must not be provided in pod spec; priority admission'
                f" controller computed {expected} from the given PriorityClass name",
                hint=f"leave spec.{field} out, or name a PriorityClass that has it",
            )
    filled: Document = {**spec, "priority": value, "preemptionPolicy": policy}
    if not given and chosen:
        filled["priorityClassName"] = chosen["metadata"]["name"]
    return {**document, "spec": filled}


def check_default(kind: Kind, document: Document, store: Store) -> None:
    """Raise Forbidden for a PriorityClass that would be a second default."""
    if kind.kind != "PriorityClass" or not document.get("globalDefault"):
        return
    own = document["metadata"].get("name")
    other = next(
        (one for one in _classes(store) if one.get("globalDefault") and one["metadata"]["name"] != own), None
    )
    if other is not None:
        taken = other["metadata"]["name"]
        raise Forbidden(
            f'priorityclasses.scheduling.k8s.io "{own}" is forbidden: PriorityClass {taken} is already marked as default.'
            " Only one default can exist",
            hint=f"take globalDefault off {taken} first",
        )


def _classes(store: Store) -> list[dict[str, Any]]:
    return [orjson.loads(row.document) for row in store.list(resource_of(kind_of(PriorityClass)), None).rows]


def _named(name: str, store: Store) -> dict[str, Any] | None:
    row = store.read(resource_of(kind_of(PriorityClass)), "", name)
    if row is not None:
        found: dict[str, Any] = orjson.loads(row.document)
        return found
    return {"value": SYSTEM_CLASSES[name]} if name in SYSTEM_CLASSES else None


def _default(store: Store) -> dict[str, Any] | None:
    """If ever there are two, the lower one, as Kubernetes chooses."""
    defaults = [one for one in _classes(store) if one.get("globalDefault")]
    return min(defaults, key=lambda one: int(one.get("value") or 0), default=None)
