"""Model files kept on nodes ahead of need (KServe v1alpha1 LocalModel kinds)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.core import PersistentVolumeClaimSpec
from penstock.resources.meta import Json, Labels, Model, ObjectReference, Quantity, Resource
from penstock.resources.pod import HostPathVolumeSource


class LocalModelStorage(Model, frozen=True):
    """Credentials of the source: a `key` of the secret `storage-config`, with parameters that override it."""

    key: str | None = None
    parameters: Labels = {}


class LocalModelCacheSpec(Model, frozen=True):
    """A model, its size, and the node groups that shall hold it. `source_model_uri` never changes."""

    source_model_uri: str
    model_size: Quantity
    node_groups: tuple[str, ...]
    service_account_name: str = ""
    storage: LocalModelStorage | None = None


class NamespacedName(Model, frozen=True):
    """An object by namespace and name."""

    name: str = ""
    namespace: str = ""


class CacheCopies(Model, frozen=True):
    """On how many nodes the model is; `total` counts all nodes of its groups."""

    available: int = 0
    total: int = 0
    failed: int = 0


class LocalModelCacheStatus(Model, frozen=True):
    """`node_status` by node: NodeNotReady, NodeDownloadPending, NodeDownloading, NodeDownloaded, NodeDownloadError."""

    node_status: Labels = {}
    copies: CacheCopies | None = None
    inference_services: tuple[NamespacedName, ...] = ()
    llm_inference_services: tuple[NamespacedName, ...] = ()


class LocalModelCache(Resource, frozen=True, kw_only=True):
    """A model kept on nodes, for services of every namespace."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "LocalModelCache")
    spec: LocalModelCacheSpec
    status: LocalModelCacheStatus = field(default_factory=LocalModelCacheStatus)


class LocalModelNamespaceCache(Resource, frozen=True, kw_only=True):
    """A model kept on nodes, for services of its own namespace."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "LocalModelNamespaceCache")
    spec: LocalModelCacheSpec
    status: LocalModelCacheStatus = field(default_factory=LocalModelCacheStatus)


class NodeSelectorRequirement(Model, frozen=True):
    """`operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Model, frozen=True):
    """All requirements must hold; a term without any matches nothing."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(Model, frozen=True):
    """One of the terms must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...]


class VolumeNodeAffinity(Model, frozen=True):
    """The nodes from which a volume can be reached."""

    required: NodeSelector | None = None


class LocalVolumeSource(Model, frozen=True):
    """A folder of the node."""

    path: str
    fs_type: str | None = None


class PersistentVolumeSpec(Model, frozen=True):
    """A piece of storage. The node group reads `node_affinity`, `capacity` and where it is; the rest passes through."""

    capacity: dict[str, Quantity] = {}
    access_modes: tuple[str, ...] = ()
    local: LocalVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    node_affinity: VolumeNodeAffinity | None = None
    storage_class_name: str = ""
    persistent_volume_reclaim_policy: str = ""
    mount_options: tuple[str, ...] = ()
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None
    claim_ref: ObjectReference | None = None
    aws_elastic_block_store: Json = None
    azure_disk: Json = None
    azure_file: Json = None
    cephfs: Json = None
    cinder: Json = None
    csi: Json = None
    fc: Json = None
    flex_volume: Json = None
    flocker: Json = None
    gce_persistent_disk: Json = None
    glusterfs: Json = None
    iscsi: Json = None
    nfs: Json = None
    photon_persistent_disk: Json = None
    portworx_volume: Json = None
    quobyte: Json = None
    rbd: Json = None
    scale_io: Json = field(default=None, name="scaleIO")
    storageos: Json = None
    vsphere_volume: Json = None


class PersistentVolume(Resource, frozen=True, kw_only=True):
    """Storage of a cluster. The embedded host serves none: there every claim is a folder, and nodes' caches are linked into pods."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "PersistentVolume")
    spec: PersistentVolumeSpec


class LocalModelNodeGroupSpec(Model, frozen=True):
    """Nodes by their volume's affinity, and how much of them models may take."""

    storage_limit: Quantity
    persistent_volume_spec: PersistentVolumeSpec
    persistent_volume_claim_spec: PersistentVolumeClaimSpec


class LocalModelNodeGroupStatus(Model, frozen=True):
    """How much of `storage_limit` is taken and free."""

    used: Quantity | None = None
    available: Quantity | None = None


class LocalModelNodeGroup(Resource, frozen=True, kw_only=True):
    """Nodes that hold the same models."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "LocalModelNodeGroup")
    spec: LocalModelNodeGroupSpec
    status: LocalModelNodeGroupStatus = field(default_factory=LocalModelNodeGroupStatus)


class LocalModelInfo(Model, frozen=True):
    """A model that a node shall hold; no `namespace` for a cluster-wide cache."""

    source_model_uri: str
    model_name: str
    namespace: str = ""
    node_group: str = ""
    service_account_name: str = ""
    storage: LocalModelStorage | None = None


class LocalModelNodeSpec(Model, frozen=True):
    """The models that one node shall hold."""

    local_models: tuple[LocalModelInfo, ...]


class LocalModelNodeStatus(Model, frozen=True):
    """By model (`name` or `namespace/name`): ModelDownloadPending, ModelDownloading, ModelDownloaded, ModelDownloadError."""

    model_status: Labels = {}


class LocalModelNode(Resource, frozen=True, kw_only=True):
    """What one node holds; its name is the node's."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "LocalModelNode")
    spec: LocalModelNodeSpec
    status: LocalModelNodeStatus = field(default_factory=LocalModelNodeStatus)
