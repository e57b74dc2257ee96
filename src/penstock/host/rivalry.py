"""Says at admission that an autoscaler comes second: a warning, or KEDA's refusal where a ScaledObject finds its target taken."""

from __future__ import annotations

from typing import TypeVar, get_args

import msgspec
import orjson

from penstock.decide.scaling_conflict import Autoscaler, conflicts, target_of
from penstock.host.metadata import resource_of
from penstock.host.scale_target import aimed
from penstock.host.store import Row, Store
from penstock.kit.errors import Cause, Invalid
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.meta import Resource
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.scheme import kind_of

AUTOSCALERS: tuple[type[Autoscaler], ...] = get_args(Autoscaler)
R = TypeVar("R", bound=Resource)
EXCLUSIVE = (ScaledObject, HorizontalPodAutoscaler)


def warn_of_rivals(new: Resource, store: Store) -> tuple[str, ...]:
    """Warnings about a new object. Raises Invalid for a ScaledObject whose target has an autoscaler (KEDA's webhook).

    All others are accepted, as Kubernetes accepts them, and say in their conditions that they are refused.
    """
    if not isinstance(new, AUTOSCALERS) or isinstance(new, PodAutoscaler):
        return ()  # PodAutoscalers are made by the platform, by the thousand, and nobody reads a warning about one
    unborn = msgspec.structs.replace(
        new, metadata=msgspec.structs.replace(new.metadata, creation_timestamp=None)
    )
    known = _Stored(store)
    meant = aimed(unborn, known)
    names = {target_of(unborn).name, target_of(meant).name}
    found = conflicts(meant, [aimed(other, known) for other in _naming(names, store, new.metadata.namespace)])
    for conflict in found if isinstance(new, ScaledObject) else ():
        if isinstance(conflict.other, EXCLUSIVE):
            cause = Cause("spec.scaleTargetRef", f"Forbidden: {conflict.message}", "FieldValueForbidden")
            raise Invalid(conflict.message, causes=(cause,), about=new.metadata.name)
    return tuple(conflict.message for conflict in found)


class _Stored:
    """The store as it is looked up for targets."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        row = self._store.read(resource_of(kind_of(kind)), namespace, name)
        return None if row is None else _typed(kind, row)

    def list(self, kind: type[R], namespace: str | None = None) -> tuple[R, ...]:
        return tuple(
            _typed(kind, row) for row in self._store.list(resource_of(kind_of(kind)), namespace).rows
        )


def _naming(names: set[str], store: Store, namespace: str) -> list[Autoscaler]:
    """Autoscalers of the namespace that may have one of these targets: what does not even mention a name is not decoded."""
    return [
        _typed(type_, row)
        for type_ in AUTOSCALERS
        for row in store.list(resource_of(kind_of(type_)), namespace).rows
        if any(name.encode() in row.document for name in names)
    ]


def _typed(kind: type[R], row: Row) -> R:
    return msgspec.convert(orjson.loads(row.document), kind)
