"""Says at admission that an autoscaler comes second: a warning, or KEDA's refusal where a ScaledObject finds its target taken."""

from __future__ import annotations

from typing import get_args

import msgspec
import orjson

from penstock.decide.scaling_conflict import Autoscaler, conflicts, target_of
from penstock.host.metadata import resource_of
from penstock.host.store import Store
from penstock.kit.errors import Cause, Invalid
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.meta import Resource
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.scheme import kind_of

AUTOSCALERS: tuple[type[Autoscaler], ...] = get_args(Autoscaler)
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
    found = conflicts(unborn, _stored(store, new.metadata.namespace, target_of(new).name))
    for conflict in found if isinstance(new, ScaledObject) else ():
        if isinstance(conflict.other, EXCLUSIVE):
            cause = Cause("spec.scaleTargetRef", f"Forbidden: {conflict.message}", "FieldValueForbidden")
            raise Invalid(conflict.message, causes=(cause,), about=new.metadata.name)
    return tuple(conflict.message for conflict in found)


def _stored(store: Store, namespace: str, target: str) -> list[Autoscaler]:
    """Autoscalers of the namespace that may have the target: what does not even mention its name is not decoded."""
    return [
        msgspec.convert(orjson.loads(row.document), type_)
        for type_ in AUTOSCALERS
        for row in store.list(resource_of(kind_of(type_)), namespace).rows
        if target.encode() in row.document
    ]
