"""What every object has: identity, ownership, conditions.

Field names are Kubernetes' own in snake case; on the wire they are camelCase (`rename="camel"`, exceptions by
`field(name=…)`). Optional fields default to None, lists to (), maps to {}, so that "not given" and "given as zero" differ
wherever Kubernetes lets them differ, and what was not given is not written back.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct, field

Quantity: TypeAlias = str | int | float
IntOrString: TypeAlias = int | str
Labels: TypeAlias = dict[str, str]
Json: TypeAlias = Any
"""A part of an object that Penstock keeps as it was given and does not interpret."""


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """Base of every typed part of an object. Objects are trees, so the garbage collector need not look at the many that are kept."""


class OwnerReference(Model, frozen=True):
    """The object that this one belongs to; it is collected when the last of its owners is gone."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model, frozen=True):
    """Identity of an object. Timestamps are RFC 3339 in UTC."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: Labels = {}
    annotations: Labels = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    managed_fields: tuple[Json, ...] = ()
    self_link: str = ""


class Resource(Model, frozen=True):
    """An object of any kind. Subclasses fix `api_version` and `kind`, which are always written."""

    api_version: str
    kind: str
    metadata: ObjectMeta = field(default_factory=ObjectMeta)


def controlled_by(owner: Resource) -> OwnerReference:
    """The reference by which an object is its controller's own: it goes with it, and holds up its foreground deletion."""
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


class Condition(Model, frozen=True):
    """One line of an object's status: `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None
    observed_generation: int | None = None
    severity: str = ""


class LocalObjectReference(Model, frozen=True):
    """An object of the same namespace, by name."""

    name: str = ""


class ObjectReference(Model, frozen=True):
    """Any object, as Events name it."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class LabelSelectorRequirement(Model, frozen=True):
    """`operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Model, frozen=True):
    """All of `match_labels` and all of `match_expressions` must hold."""

    match_labels: Labels = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
