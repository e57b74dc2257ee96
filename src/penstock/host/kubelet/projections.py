"""The parts of `downwardAPI` and `projected` volumes that this host acts upon (Kubernetes core/v1)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import field

from penstock.kit.errors import Invalid
from penstock.resources.meta import Model
from penstock.resources.pod import KeyToPath, ObjectFieldSelector, ResourceFieldSelector

T = TypeVar("T", bound=Model)


class ConfigMapProjection(Model, frozen=True):
    """Keys of a ConfigMap as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None


class SecretProjection(Model, frozen=True):
    """Keys of a Secret as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None


class DownwardFile(Model, frozen=True):
    """One field of the pod as a file."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardProjection(Model, frozen=True):
    """Fields of the pod as files; `default_mode` only where it stands as a volume of its own."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int | None = None


class ProjectedSource(Model, frozen=True):
    """Exactly one is set; sources that this host does not have leave all of them empty."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardProjection | None = field(default=None, name="downwardAPI")


class Projected(Model, frozen=True):
    """Several sources in one folder; later ones win."""

    sources: tuple[ProjectedSource, ...] = ()
    default_mode: int | None = None


def decoded(value: Any, shape: type[T], volume: str) -> T:
    """`value`, kept as it was given, as `shape`; Invalid names the volume."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"volume {volume!r}: {error}") from None
