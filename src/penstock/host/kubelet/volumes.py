"""A pod's volumes as folders of the machine."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.host.kubelet.fields import field_value, resource_value
from penstock.host.kubelet.files import File, write_files
from penstock.host.kubelet.layout import Layout, PodFolder, segment
from penstock.host.kubelet.projections import (
    ConfigMapProjection,
    DownwardProjection,
    Projected,
    SecretProjection,
    decoded,
)
from penstock.host.kubelet.references import References, key_of
from penstock.kit.errors import Invalid
from penstock.resources.pod import Container, HostPathVolumeSource, KeyToPath, Pod, Volume

CONFIG_MODE = 0o644
SECRET_MODE = 0o600


@dataclass(frozen=True, slots=True)
class VolumeContext:
    """What the volumes of one pod are made from."""

    layout: Layout
    folder: PodFolder
    pod: Pod
    references: References
    node: Mapping[str, float]


async def prepare_volume(context: VolumeContext, volume: Volume) -> Path:
    """The folder (or file) that stands for `volume`, made or brought up to date.

    Raises Missing for an absent ConfigMap, Secret, key or claim; Invalid for a source that this host does not have.
    """
    root = context.folder.volumes / segment(volume.name)
    if volume.host_path:
        return _host_path(volume.host_path, volume.name)
    if claim := volume.persistent_volume_claim:
        await context.references.claim(claim.claim_name)
        root = context.layout.claim(context.pod.metadata.namespace, claim.claim_name)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return root
    files = await _files(context, volume)
    if files is not None:
        write_files(root, files)
        return root
    if volume.empty_dir is None and _source_of(volume) is not None:
        raise Invalid(
            f"volume {volume.name!r}: {_source_of(volume)} is not supported on the embedded host",
            hint="use emptyDir, hostPath, configMap, secret, downwardAPI, projected or persistentVolumeClaim",
        )
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


async def _files(context: VolumeContext, volume: Volume) -> dict[str, File] | None:
    if source := volume.config_map:
        return await _config_map(
            context,
            ConfigMapProjection(name=source.name, items=source.items, optional=source.optional),
            CONFIG_MODE if source.default_mode is None else source.default_mode,
        )
    if secret := volume.secret:
        return await _secret(
            context,
            SecretProjection(name=secret.secret_name, items=secret.items, optional=secret.optional),
            SECRET_MODE if secret.default_mode is None else secret.default_mode,
        )
    if volume.downward_api is not None:
        downward = decoded(volume.downward_api, DownwardProjection, volume.name)
        return _downward(context, downward, downward.default_mode or CONFIG_MODE)
    if volume.projected is not None:
        return await _projected(context, decoded(volume.projected, Projected, volume.name), volume.name)
    return None


async def _projected(context: VolumeContext, projected: Projected, name: str) -> dict[str, File]:
    files: dict[str, File] = {}
    for source in projected.sources:
        if source.config_map:
            files |= await _config_map(context, source.config_map, projected.default_mode or CONFIG_MODE)
        elif source.secret:
            files |= await _secret(context, source.secret, projected.default_mode or SECRET_MODE)
        elif source.downward_api:
            files |= _downward(context, source.downward_api, projected.default_mode or CONFIG_MODE)
        else:
            raise Invalid(
                f"volume {name!r}: this projected source is not supported on the embedded host",
                hint="project configMap, secret or downwardAPI; there are no service account tokens here",
            )
    return files


async def _config_map(context: VolumeContext, source: ConfigMapProjection, mode: int) -> dict[str, File]:
    data = await context.references.config_map(source.name, optional=bool(source.optional))
    return _selected(data, source.items, mode, f"ConfigMap {source.name}", optional=bool(source.optional))


async def _secret(context: VolumeContext, source: SecretProjection, mode: int) -> dict[str, File]:
    data = await context.references.secret(source.name, optional=bool(source.optional))
    return _selected(data, source.items, mode, f"Secret {source.name}", optional=bool(source.optional))


def _selected(
    data: Mapping[str, bytes], items: tuple[KeyToPath, ...], mode: int, what: str, *, optional: bool
) -> dict[str, File]:
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        value = key_of(data, what, item.key, optional=optional)
        if value is not None:
            files[item.path] = File(value, mode if item.mode is None else item.mode)
    return files


def _downward(context: VolumeContext, source: DownwardProjection, mode: int) -> dict[str, File]:
    files = {}
    for item in source.items:
        if item.field_ref:
            text = field_value(context.pod, item.field_ref.field_path)
        elif item.resource_field_ref:
            text = resource_value(context.pod, Container(), item.resource_field_ref, context.node)
        else:
            continue
        files[item.path] = File(text.encode(), mode if item.mode is None else item.mode)
    return files


def _host_path(source: HostPathVolumeSource, name: str) -> Path:
    """The path itself, checked against its `type` (Kubernetes, HostPathVolumeSource)."""
    path, type_ = Path(source.path), source.type or ""
    if type_ == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif type_ == "FileOrCreate" and not path.exists():
        path.touch()
    mode = path.stat().st_mode if path.exists() else 0
    checks = {
        "DirectoryOrCreate": stat.S_ISDIR,
        "Directory": stat.S_ISDIR,
        "FileOrCreate": stat.S_ISREG,
        "File": stat.S_ISREG,
        "Socket": stat.S_ISSOCK,
        "CharDevice": stat.S_ISCHR,
        "BlockDevice": stat.S_ISBLK,
    }
    if type_ and not (type_ in checks and checks[type_](mode)):
        raise Invalid(
            f"volume {name!r}: hostPath type check failed: {source.path} is not a {type_}",
            hint=f"known types: {', '.join(checks)}",
        )
    return path


def _source_of(volume: Volume) -> str | None:
    skipped = {"name", "empty_dir"}
    fields = zip(volume.__struct_fields__, volume.__struct_encode_fields__, strict=True)
    return next(
        (wire for own, wire in fields if own not in skipped and getattr(volume, own) is not None), None
    )
