"""Pods: what runs, with which command, files, limits and probes (Kubernetes core/v1).

Every field that Kubernetes defines is kept. Those that Penstock acts upon are typed; the others are `Json` and pass
through as they were given.
"""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import (
    Condition,
    IntOrString,
    Json,
    Labels,
    LocalObjectReference,
    Model,
    ObjectMeta,
    Quantity,
    Resource,
)
from penstock.resources.volume import (
    ConfigMapVolumeSource,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    KeyToPath,
    PersistentVolumeClaimVolumeSource,
    SecretVolumeSource,
    Volume,
)

# A pod's volumes are part of its vocabulary: they are imported from here too.
__all__ = [
    "ConfigMapVolumeSource",
    "EmptyDirVolumeSource",
    "HostPathVolumeSource",
    "KeyToPath",
    "PersistentVolumeClaimVolumeSource",
    "SecretVolumeSource",
    "Volume",
]


class KeySelector(Model, frozen=True):
    """One key of a ConfigMap or Secret of the same namespace."""

    key: str
    name: str = ""
    optional: bool | None = None


class ObjectFieldSelector(Model, frozen=True):
    """A field of the pod itself, as `metadata.name` or `status.podIP`."""

    field_path: str
    api_version: str = ""


class ResourceFieldSelector(Model, frozen=True):
    """A container's own limit or request, as `limits.memory`, divided by `divisor`."""

    resource: str
    container_name: str = ""
    divisor: Quantity | None = None


class EnvVarSource(Model, frozen=True):
    """Where an environment variable's value comes from; exactly one is set."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: Json = None


class EnvVar(Model, frozen=True):
    """One environment variable; `value` may refer to earlier ones as `$(NAME)`."""

    name: str
    value: str | None = None
    value_from: EnvVarSource | None = None


class EnvFromTarget(Model, frozen=True):
    """A ConfigMap or Secret all of whose keys become variables."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Model, frozen=True):
    """Variables from every key of a ConfigMap or a Secret, with an optional prefix."""

    prefix: str = ""
    config_map_ref: EnvFromTarget | None = None
    secret_ref: EnvFromTarget | None = None


class ContainerPort(Model, frozen=True):
    """A port that the container listens on, at the pod's own address."""

    container_port: int
    name: str = ""
    protocol: str = ""
    host_port: int | None = None
    host_ip: str | None = field(default=None, name="hostIP")


class ResourceRequirements(Model, frozen=True):
    """Requests are what placement reserves, limits what is enforced."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    claims: tuple[Json, ...] = ()


class HTTPHeader(Model, frozen=True):
    """A header that a probe sends."""

    name: str
    value: str


class HTTPGetAction(Model, frozen=True):
    """Succeeds on any status from 200 to 399. `port` 0 means not given, as KServe allows: the container's first port."""

    port: IntOrString = 0
    path: str = ""
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(Model, frozen=True):
    """Succeeds when the port accepts a connection. `port` 0 means not given, as KServe allows: the container's first port."""

    port: IntOrString = 0
    host: str = ""


class ExecAction(Model, frozen=True):
    """Succeeds when the command exits with 0."""

    command: tuple[str, ...] = ()


class Probe(Model, frozen=True):
    """When to ask a container whether it is well; Kubernetes' defaults apply to what is None."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: Json = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    timeout_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Model, frozen=True):
    """An action around a container's start or stop."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: Json = None


class Lifecycle(Model, frozen=True):
    """Hooks of a container."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class VolumeMount(Model, frozen=True):
    """Where a pod's volume appears in a container."""

    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool | None = None
    recursive_read_only: str | None = None
    mount_propagation: str | None = None


class Container(Model, frozen=True):
    """One process of a pod. `name` may be empty where KServe allows it (framework predictors)."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    resources: ResourceRequirements | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str | None = None
    image_pull_policy: str = ""
    termination_message_path: str = ""
    termination_message_policy: str = ""
    security_context: Json = None
    volume_devices: tuple[Json, ...] = ()
    resize_policy: tuple[Json, ...] = ()
    restart_policy_rules: tuple[Json, ...] = ()
    stdin: bool | None = None
    stdin_once: bool | None = None
    tty: bool | None = None


class Toleration(Model, frozen=True):
    """A taint that the pod may live with; an empty key with operator Exists tolerates all."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class PodSpec(Model, frozen=True):
    """What a pod runs. `containers` may be empty only inside an InferenceService's predictor."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    node_name: str = ""
    node_selector: Labels = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: Json = None
    topology_spread_constraints: tuple[Json, ...] = ()
    priority_class_name: str = ""
    priority: int | None = None
    preemption_policy: str | None = None
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    scheduler_name: str = ""
    scheduling_gates: tuple[Json, ...] = ()
    resource_claims: tuple[Json, ...] = ()
    resources: ResourceRequirements | None = None
    runtime_class_name: str | None = None
    overhead: dict[str, Quantity] = {}
    ephemeral_containers: tuple[Json, ...] = ()
    security_context: Json = None
    dns_policy: str = ""
    dns_config: Json = None
    enable_service_links: bool | None = None
    host_aliases: tuple[Json, ...] = ()
    hostname: str = ""
    hostname_override: str | None = None
    subdomain: str = ""
    set_hostname_as_fqdn: bool | None = field(default=None, name="setHostnameAsFQDN")
    host_network: bool | None = None
    host_pid: bool | None = field(default=None, name="hostPID")
    host_ipc: bool | None = field(default=None, name="hostIPC")
    host_users: bool | None = None
    share_process_namespace: bool | None = None
    readiness_gates: tuple[Json, ...] = ()
    os: Json = None
    workload_ref: Json = None


class ContainerStateWaiting(Model, frozen=True):
    """Not running, and why: ContainerCreating, PodInitializing, CrashLoopBackOff, …"""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Model, frozen=True):
    """Running since `started_at`."""

    started_at: str | None = None


class ContainerStateTerminated(Model, frozen=True):
    """Ended. `reason` is Completed, Error, OOMKilled or ContainerCannotRun."""

    exit_code: int
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = field(default="", name="containerID")


class ContainerState(Model, frozen=True):
    """Exactly one is set."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Model, frozen=True):
    """One container as the kubelet last saw it."""

    name: str
    ready: bool
    restart_count: int
    image: str
    image_id: str = field(default="", name="imageID")
    container_id: str = field(default="", name="containerID")
    started: bool | None = None
    state: ContainerState = field(default_factory=ContainerState)
    last_state: ContainerState = field(default_factory=ContainerState)


class PodIP(Model, frozen=True):
    """One address of a pod."""

    ip: str


class PodClaimStatus(Model, frozen=True):
    """Which ResourceClaim was made from a template, under the pod's own name for it."""

    name: str
    resource_claim_name: str | None = None


class PodStatus(Model, frozen=True):
    """`phase` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    host_ip: str = field(default="", name="hostIP")
    host_ips: tuple[PodIP, ...] = field(default=(), name="hostIPs")
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    start_time: str | None = None
    nominated_node_name: str = ""
    qos_class: str = ""
    observed_generation: int | None = None
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    resource_claim_statuses: tuple[PodClaimStatus, ...] = ()


class Pod(Resource, frozen=True):
    """One running copy of something: on this host, a process group with its own loopback address."""

    api_version: str = field(default_factory=lambda: "v1")
    kind: str = field(default_factory=lambda: "Pod")
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


class PodTemplateSpec(Model, frozen=True):
    """The mould of a workload's pods."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
