"""What an autoscaler scales: the Deployment that it names, or the revision of the component that it names instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from penstock.decide.scale_target import aimed_at, revision_meant
from penstock.decide.scaling_conflict import Autoscaler, target_of
from penstock.decide.workload import COMPONENTS
from penstock.resources.meta import Resource
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment

A = TypeVar("A", bound=Autoscaler)
R = TypeVar("R", bound=Resource)


class Known(Protocol):
    """Where objects are looked up: a cache, or the store."""

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """One object, or None."""
        ...

    def list(self, kind: type[R], namespace: str | None = None) -> Sequence[R]:
        """Those of a namespace."""
        ...


def aimed(scaler: A, known: Known) -> A:
    """The autoscaler, with the revision in place of a component's name; what names neither stays as it is."""
    group, kind, name = target_of(scaler)
    namespace = scaler.metadata.namespace
    if group not in ("apps", "") or kind != "Deployment" or not name.endswith(COMPONENTS):
        return scaler
    if known.get(Deployment, name, namespace) is not None:
        return scaler
    services = known.list(InferenceService, namespace)
    revision = revision_meant(name, services, known.list(Deployment, namespace))
    return aimed_at(scaler, revision) if revision else scaler
