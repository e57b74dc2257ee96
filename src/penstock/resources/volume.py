"""Volumes: where a pod's files come from (Kubernetes core/v1)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Json, Model, Quantity


class KeyToPath(Model, frozen=True):
    """One key written as one file below a volume's root."""

    key: str
    path: str
    mode: int | None = None


class SecretVolumeSource(Model, frozen=True):
    """Each key of a Secret as a file."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool | None = None


class ConfigMapVolumeSource(Model, frozen=True):
    """Each key of a ConfigMap as a file."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int | None = None
    optional: bool | None = None


class EmptyDirVolumeSource(Model, frozen=True):
    """A folder that lives as long as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Model, frozen=True):
    """A folder or file of the node."""

    path: str
    type: str | None = None


class PersistentVolumeClaimVolumeSource(Model, frozen=True):
    """A claim of the same namespace."""

    claim_name: str
    read_only: bool | None = None


class Volume(Model, frozen=True):
    """Exactly one source is set. `other` sources are kept, and refused by the embedded host when a pod needs them."""

    name: str
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    projected: Json = None
    downward_api: Json = field(default=None, name="downwardAPI")
    csi: Json = None
    ephemeral: Json = None
    image: Json = None
    nfs: Json = None
    iscsi: Json = None
    rbd: Json = None
    fc: Json = None
    cephfs: Json = None
    cinder: Json = None
    glusterfs: Json = None
    flocker: Json = None
    flex_volume: Json = None
    git_repo: Json = None
    azure_disk: Json = None
    azure_file: Json = None
    aws_elastic_block_store: Json = field(default=None, name="awsElasticBlockStore")
    gce_persistent_disk: Json = None
    photon_persistent_disk: Json = None
    portworx_volume: Json = None
    quobyte: Json = None
    scale_io: Json = field(default=None, name="scaleIO")
    storageos: Json = None
    vsphere_volume: Json = None
