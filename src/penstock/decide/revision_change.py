"""What changes so that a revision of a service is promoted, aborted, or gone back to?

Revisions are immutable, and a service is what its spec says: to go back is to write the part of the spec that the kept revision was
made from. What belongs to the service as it is now (`decide/revision.py`, OF_THE_SERVICE) stays, except a canary's percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.decide.canaries import UNSCALED, canary_service
from penstock.decide.deployment import replicas_of
from penstock.decide.revision import CHANGE_CAUSE, COMPONENT_SPEC, OF_THE_SERVICE, number_of
from penstock.decide.rollout_policy import follows_policy
from penstock.decide.traffic import asked_percent
from penstock.decide.workload import ComponentName, component_of
from penstock.resources.annotations import STANDARD, mode_of
from penstock.resources.rollout import ABORT, PROMOTE
from penstock.resources.serving import Component, ComponentStatus, InferenceService
from penstock.resources.workload import Deployment


@dataclass(frozen=True, slots=True)
class Past:
    """One revision in the history: its pods (available of wished), its share in percent, since when and why it is there."""

    name: str
    available: int
    wished: int
    percent: int
    created_at: str
    cause: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A JSON patch (RFC 6902) of the service, the override of its Rollout, and what they do in words; or why there is none."""

    patch: tuple[dict[str, Any], ...] = ()
    override: tuple[str, str] | None = None
    told: str = ""
    refusal: str = ""


def history(
    service: InferenceService, name: ComponentName, deployments: Iterable[Deployment]
) -> tuple[Past, ...]:
    """The component's revisions, oldest first; `kept` are those that can be gone back to."""
    status = service.status.components.get(name, ComponentStatus())
    shares = {target.revision_name: target.percent or 0 for target in status.traffic}
    return tuple(
        Past(
            name=deployment.metadata.name,
            available=deployment.status.available_replicas,
            wished=replicas_of(deployment),
            percent=shares.get(deployment.metadata.name, 0),
            created_at=deployment.metadata.creation_timestamp or "",
            cause=deployment.metadata.annotations.get(CHANGE_CAUSE, ""),
            kept=COMPONENT_SPEC in deployment.metadata.annotations,
        )
        for deployment in sorted(deployments, key=lambda d: (number_of(d.metadata.name), d.metadata.name))
    )


def undo(
    service: InferenceService, name: ComponentName, deployments: Sequence[Deployment], to: str = ""
) -> Change:
    """Back to the revision `to`, by name or number; "" is the one before: what was rolled out before the newest."""
    component = component_of(service, name)
    assert component is not None, "the caller asks for components that exist"
    status = service.status.components.get(name, ComponentStatus())
    target = to or _before(status)
    if not target:
        return Change(refusal=f"{service.metadata.name} has no earlier revision of its {name}")
    found = [
        d
        for d in deployments
        if d.metadata.name == target or str(number_of(d.metadata.name)) == target.lstrip("0")
    ]
    if not found:
        known = ", ".join(past.name for past in history(service, name, deployments)) or "none"
        return Change(
            refusal=f"there is no revision {target} of {service.metadata.name}'s {name}; there are: {known}"
        )
    revision = found[0].metadata.name
    if revision == status.latest_created_revision and asked_percent(service, component) is None:
        return Change(refusal=f"{revision} is what the service asks for already")
    kept = found[0].metadata.annotations.get(COMPONENT_SPEC)
    if kept is None:
        return Change(refusal=f"{revision} does not say which spec it was made from")
    restored = msgspec.json.decode(kept) | _of_the_service(component)
    promote = (PROMOTE, revision) if follows_policy(service) else None
    return Change(_replace(service, f"/spec/{name}", restored), promote, f"{name} goes back to {revision}")


def promote(service: InferenceService, name: ComponentName, canary: str = "") -> Change:
    """Everything to the newest revision, or to the entry `canary` of `spec.canary` (Standard mode)."""
    component, status = component_of(service, name), service.status.components.get(name, ComponentStatus())
    assert component is not None, "the caller asks for components that exist"
    if service.spec.canary and name == "predictor":
        return _promote_entry(service, canary)
    newest = status.latest_created_revision
    asked = asked_percent(service, component)
    if newest == status.latest_rolledout_revision and asked is None:
        return Change(refusal=f"there is nothing to promote: {newest or 'no revision'} has everything")
    override = (PROMOTE, newest) if follows_policy(service) else None
    if asked is None and override is None:
        return Change(refusal=f"{newest} gets everything by itself as soon as it is ready")
    patch = _remove(service, f"/spec/{name}/canaryTrafficPercent") if asked is not None else ()
    return Change(patch, override, f"{newest} gets everything")


def abort(
    service: InferenceService, name: ComponentName, deployments: Sequence[Deployment], canary: str = ""
) -> Change:
    """Nothing to the newest revision any more, or to the entry `canary` of `spec.canary` (Standard mode)."""
    status = service.status.components.get(name, ComponentStatus())
    if service.spec.canary and name == "predictor":
        return _drop_entry(service, canary)
    newest, stable = status.latest_created_revision, status.latest_rolledout_revision
    if not stable or newest == stable:
        return Change(refusal=f"there is nothing to abort: {stable or 'no revision'} has everything")
    if follows_policy(service):
        return Change(override=(ABORT, newest), told=f"{newest} gets nothing any more, {stable} all")
    if mode_of(service) != STANDARD and status.latest_ready_revision == newest:
        return Change(
            ({"op": "add", "path": f"/spec/{name}/canaryTrafficPercent", "value": 0},),
            told=f"{newest} gets nothing any more, {stable} all; canaryTrafficPercent: 0 holds it there",
        )
    return undo(service, name, deployments, stable)


def _before(status: ComponentStatus) -> str:
    """The one that served before the newest: what was rolled out last, if the newest is not that, else the one before it."""
    if status.latest_rolledout_revision != status.latest_created_revision:
        return status.latest_rolledout_revision
    previous = status.previous_rolledout_revision
    return previous if previous != status.latest_created_revision else ""


def _of_the_service(component: Component) -> dict[str, Any]:
    """What stays as it is now: not a canary's percent, as everything goes back."""
    present = {name: getattr(component, name) for name in OF_THE_SERVICE if name != "canary_traffic_percent"}
    fields = dict(zip(component.__struct_fields__, component.__struct_encode_fields__, strict=True))
    return {fields[name]: msgspec.to_builtins(value) for name, value in present.items() if value is not None}


def _promote_entry(service: InferenceService, canary: str) -> Change:
    index, refusal = _entry(service, canary)
    if refusal:
        return Change(refusal=refusal)
    entry = service.spec.canary[index]
    merged = msgspec.to_builtins(canary_service(service, entry).spec.predictor)
    stable = service.spec.predictor
    fields = dict(zip(stable.__struct_fields__, stable.__struct_encode_fields__, strict=True))
    for field in ("min_replicas", *UNSCALED):
        merged.pop(fields[field], None)
        if (value := getattr(stable, field)) is not None:
            merged[fields[field]] = msgspec.to_builtins(value)
    patch = (*_replace(service, "/spec/predictor", merged), {"op": "remove", "path": f"/spec/canary/{index}"})
    return Change(patch, told=f"canary {entry.predictor.name} becomes the stable predictor")


def _drop_entry(service: InferenceService, canary: str) -> Change:
    index, refusal = _entry(service, canary)
    if refusal:
        return Change(refusal=refusal)
    patch = _remove(service, f"/spec/canary/{index}")
    return Change(patch, told=f"canary {service.spec.canary[index].predictor.name} goes")


def _entry(service: InferenceService, canary: str) -> tuple[int, str]:
    """Where the entry is; why that cannot be said."""
    names = [entry.predictor.name or "" for entry in service.spec.canary]
    if canary in names:
        return names.index(canary), ""
    if not canary and len(names) == 1:
        return 0, ""
    return -1, f"{service.metadata.name} has the canaries {', '.join(names)}: say which one (--canary)"


def _replace(service: InferenceService, path: str, value: Any) -> tuple[dict[str, Any], ...]:
    return (*_unchanged(service), {"op": "replace", "path": path, "value": value})


def _remove(service: InferenceService, path: str) -> tuple[dict[str, Any], ...]:
    return (*_unchanged(service), {"op": "remove", "path": path})


def _unchanged(service: InferenceService) -> tuple[dict[str, Any], ...]:
    """The patch goes through only if nobody changed the service since it was read."""
    version = service.metadata.resource_version
    return ({"op": "test", "path": "/metadata/resourceVersion", "value": version},) if version else ()
