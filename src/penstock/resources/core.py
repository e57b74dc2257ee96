"""The other Kubernetes core kinds: nodes, configuration, secrets, storage claims, events, priorities."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import (
    Condition,
    Json,
    LocalObjectReference,
    Model,
    ObjectReference,
    Quantity,
    Resource,
)


class Taint(Model, frozen=True):
    """Keeps pods away that do not tolerate it; `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class NodeSpec(Model, frozen=True):
    """Wishes about a node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool | None = None
    provider_id: str = field(default="", name="providerID")
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = field(default=(), name="podCIDRs")
    config_source: Json = None
    external_id: str = field(default="", name="externalID")


class NodeAddress(Model, frozen=True):
    """`type` is Hostname, InternalIP or ExternalIP."""

    type: str
    address: str


class NodeStatus(Model, frozen=True):
    """What a node has and how it is. Quantities are keyed by resource name: cpu, memory, nvidia.com/gpu, …"""

    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()
    node_info: dict[str, Json] = {}
    phase: str = ""
    daemon_endpoints: Json = None
    images: tuple[Json, ...] = ()
    volumes_in_use: tuple[str, ...] = ()
    volumes_attached: tuple[Json, ...] = ()
    config: Json = None
    runtime_handlers: tuple[Json, ...] = ()
    features: Json = None
    declared_features: tuple[str, ...] = ()


class Node(Resource, frozen=True):
    """A machine, or on the embedded host a declared slice of one."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Node")
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)


class NamespaceStatus(Model, frozen=True):
    """`phase` is Active or Terminating."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class NamespaceSpec(Model, frozen=True):
    """Finalizers of the namespace's content."""

    finalizers: tuple[str, ...] = ()


class Namespace(Resource, frozen=True):
    """A scope of names."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Namespace")
    spec: NamespaceSpec = field(default_factory=NamespaceSpec)
    status: NamespaceStatus = field(default_factory=NamespaceStatus)


class ConfigMap(Resource, frozen=True):
    """Configuration as text."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "ConfigMap")
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(Resource, frozen=True):
    """Secrets: `data` is base64; `string_data` is write-only and folded into `data` on admission."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Secret")
    type: str = ""
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    immutable: bool | None = None


class ServiceAccount(Resource, frozen=True):
    """An identity whose secrets a storage initializer may use."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "ServiceAccount")
    secrets: tuple[ObjectReference, ...] = ()
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    automount_service_account_token: bool | None = None


class VolumeResourceRequirements(Model, frozen=True):
    """How much storage a claim asks for."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PersistentVolumeClaimSpec(Model, frozen=True):
    """A wish for storage; on the embedded host every claim is a folder of the data directory."""

    access_modes: tuple[str, ...] = ()
    resources: VolumeResourceRequirements | None = None
    storage_class_name: str | None = None
    volume_name: str = ""
    volume_mode: str | None = None
    selector: Json = None
    data_source: Json = None
    data_source_ref: Json = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimStatus(Model, frozen=True):
    """`phase` is Pending, Bound or Lost."""

    phase: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: dict[str, Quantity] = {}
    conditions: tuple[Condition, ...] = ()


class PersistentVolumeClaim(Resource, frozen=True):
    """A folder that outlives pods."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "PersistentVolumeClaim")
    spec: PersistentVolumeClaimSpec = field(default_factory=PersistentVolumeClaimSpec)
    status: PersistentVolumeClaimStatus = field(default_factory=PersistentVolumeClaimStatus)


class EventSource(Model, frozen=True):
    """Which component reported an event."""

    component: str = ""
    host: str = ""


class Event(Resource, frozen=True):
    """Something that happened, and why. `type` is Normal or Warning; repeats raise `count`."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Event")
    involved_object: ObjectReference = field(default_factory=ObjectReference)
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    source: EventSource = field(default_factory=EventSource)
    action: str = ""
    reporting_component: str = ""
    reporting_instance: str = ""
    related: ObjectReference | None = None
    series: Json = None


class PriorityClass(Resource, frozen=True):
    """Who may push whom aside: a higher `value` goes first (scheduling.k8s.io/v1)."""

    api_version: str = field(default_factory=lambda: "scheduling.k8s.io/v1")
    kind: str = field(default_factory=lambda: "PriorityClass")
    value: int = 0
    global_default: bool | None = None
    description: str = ""
    preemption_policy: str | None = None
