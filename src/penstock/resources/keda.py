"""Event-driven autoscaling in KEDA's words (keda.sh/v1alpha1): what scales, between which bounds, and by which triggers.

Source: kedacore/keda v2.20, `config/crd/bases`.
"""

from __future__ import annotations

from msgspec import field

from penstock.resources.autoscaling import HorizontalPodAutoscalerBehavior
from penstock.resources.meta import Condition, Json, Model, Resource

FINALIZER = "finalizer.keda.sh"
NAME_LABEL = "scaledobject.keda.sh/name"
"""By which an autoscaler selects the metrics of one ScaledObject."""

POLLING_INTERVAL_S = 30
COOLDOWN_PERIOD_S = 300
MIN_REPLICAS = 0
MAX_REPLICAS = 100

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
PAUSED_SCALE_IN = "autoscaling.keda.sh/paused-scale-in"
PAUSED_SCALE_OUT = "autoscaling.keda.sh/paused-scale-out"
FORCE_ACTIVATION = "autoscaling.keda.sh/force-activation"

STATIC, CURRENT = "static", "currentReplicas"
CURRENT_IF_HIGHER, CURRENT_IF_LOWER = "currentReplicasIfHigher", "currentReplicasIfLower"
MODIFIED = "scalingModifiers"
FALLBACK_BEHAVIORS = (STATIC, CURRENT, CURRENT_IF_HIGHER, CURRENT_IF_LOWER, MODIFIED)

AVERAGE_VALUE, VALUE, UTILIZATION = "AverageValue", "Value", "Utilization"
RESOURCE_TRIGGERS = ("cpu", "memory")
"""Triggers that only the autoscaler reads: they can neither wake nor put to sleep."""


class ScaleTarget(Model, frozen=True):
    """What is scaled, in the ScaledObject's namespace; an apps/v1 Deployment unless said otherwise.

    `env_source_container_name` is the container whose variables `…FromEnv` means; the first one unless given.
    """

    name: str
    api_version: str = ""
    kind: str = ""
    env_source_container_name: str = ""


class AuthenticationReference(Model, frozen=True):
    """A TriggerAuthentication of the namespace, or a ClusterTriggerAuthentication."""

    name: str
    kind: str = ""


class ScaleTrigger(Model, frozen=True):
    """One source of a metric. `metric_type` is AverageValue (the default), Value, or Utilization (cpu and memory)."""

    type: str
    metadata: dict[str, str]
    name: str = ""
    metric_type: str = ""
    authentication_ref: AuthenticationReference | None = None
    use_cached_metrics: bool | None = None


class Fallback(Model, frozen=True):
    """How many replicas to run while a trigger failed more than `failure_threshold` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: str = ""


class HorizontalPodAutoscalerConfig(Model, frozen=True):
    """Name and behaviour of the autoscaler that is made."""

    name: str = ""
    behavior: HorizontalPodAutoscalerBehavior | None = None


class ScalingModifiers(Model, frozen=True):
    """One metric, computed by `formula` from those of the triggers by their names; target and activation are numbers as text."""

    formula: str = ""
    target: str = ""
    activation_target: str = ""
    metric_type: str = ""


class Advanced(Model, frozen=True):
    """What few need."""

    restore_to_original_replica_count: bool | None = None
    horizontal_pod_autoscaler_config: HorizontalPodAutoscalerConfig | None = None
    scaling_modifiers: ScalingModifiers | None = None


class ScaledObjectSpec(Model, frozen=True):
    """Times are in seconds. None is KEDA's default: polling 30, cooldown 300, replicas 0 to 100."""

    scale_target_ref: ScaleTarget
    triggers: tuple[ScaleTrigger, ...]
    polling_interval: int | None = None
    cooldown_period: int | None = None
    initial_cooldown_period: int | None = None
    idle_replica_count: int | None = None
    min_replica_count: int | None = None
    max_replica_count: int | None = None
    fallback: Fallback | None = None
    advanced: Advanced | None = None

    @property
    def min_replicas(self) -> int:
        """The least number of replicas while active, and while not unless there is an idle one."""
        return MIN_REPLICAS if self.min_replica_count is None else self.min_replica_count

    @property
    def max_replicas(self) -> int:
        """The greatest number of replicas."""
        return MAX_REPLICAS if self.max_replica_count is None else self.max_replica_count

    @property
    def formula(self) -> str:
        """The formula by which the metrics become one; "" where each counts for itself."""
        modifiers = self.advanced.scaling_modifiers if self.advanced else None
        return modifiers.formula if modifiers else ""

    @property
    def hpa_name(self) -> str:
        """The name of the autoscaler, if one is given."""
        config = self.advanced.horizontal_pod_autoscaler_config if self.advanced else None
        return config.name if config else ""


class TargetKind(Model, frozen=True):
    """The scaled kind as it was found."""

    group: str
    version: str
    kind: str
    resource: str


class Health(Model, frozen=True):
    """`status` is Happy or Failing; failures are those since the last success."""

    number_of_failures: int | None = None
    status: str = ""


class TriggerActivity(Model, frozen=True):
    """Whether a trigger calls for replicas now."""

    is_active: bool | None = None


class ScaledObjectStatus(Model, frozen=True):
    """Conditions are Ready, Active, Fallback and Paused; `health` and `triggers_activity` are by metric name."""

    scale_target_kind: str = ""
    scale_target_gvkr: TargetKind | None = field(default=None, name="scaleTargetGVKR")
    original_replica_count: int | None = None
    last_active_time: str | None = None
    external_metric_names: tuple[str, ...] = ()
    resource_metric_names: tuple[str, ...] = ()
    composite_scaler_name: str = ""
    conditions: tuple[Condition, ...] = ()
    health: dict[str, Health] = {}
    paused_replica_count: int | None = None
    hpa_name: str = ""
    triggers_types: str = ""
    authentications_types: str = ""
    triggers_activity: dict[str, TriggerActivity] = {}


class ScaledObject(Resource, frozen=True, kw_only=True):
    """Scales a workload between nothing and many by what waits for it."""

    api_version: str = field(default_factory=lambda: "keda.sh/v1alpha1")
    kind: str = field(default_factory=lambda: "ScaledObject")
    spec: ScaledObjectSpec
    status: ScaledObjectStatus = field(default_factory=ScaledObjectStatus)


class SecretTarget(Model, frozen=True):
    """A parameter from one key of a Secret, or of a ConfigMap."""

    parameter: str
    name: str
    key: str


class EnvironmentTarget(Model, frozen=True):
    """A parameter from a variable of the scaled workload's container, of the first one unless named."""

    parameter: str
    name: str
    container_name: str = ""


class TriggerAuthenticationSpec(Model, frozen=True):
    """Parameters for triggers. One machine reads Secrets, ConfigMaps and variables; the clouds' stores only a cluster reads."""

    secret_target_ref: tuple[SecretTarget, ...] = ()
    config_map_target_ref: tuple[SecretTarget, ...] = ()
    env: tuple[EnvironmentTarget, ...] = ()
    pod_identity: Json = None
    hashi_corp_vault: Json = None
    azure_key_vault: Json = None
    aws_secret_manager: Json = None
    gcp_secret_manager: Json = None
    bound_service_account_token: Json = None
    file_path: Json = None
    oauth2: Json = None


class TriggerAuthenticationStatus(Model, frozen=True):
    """Who uses it."""

    scaledobjects: str = ""
    scaledjobs: str = ""


class TriggerAuthentication(Resource, frozen=True, kw_only=True):
    """How triggers of one namespace prove who they are."""

    api_version: str = field(default_factory=lambda: "keda.sh/v1alpha1")
    kind: str = field(default_factory=lambda: "TriggerAuthentication")
    spec: TriggerAuthenticationSpec = field(default_factory=TriggerAuthenticationSpec)
    status: TriggerAuthenticationStatus = field(default_factory=TriggerAuthenticationStatus)


class ClusterTriggerAuthentication(Resource, frozen=True, kw_only=True):
    """The same for all namespaces; what it refers to is in the namespace `keda`, as KEDA has it by default."""

    api_version: str = field(default_factory=lambda: "keda.sh/v1alpha1")
    kind: str = field(default_factory=lambda: "ClusterTriggerAuthentication")
    spec: TriggerAuthenticationSpec = field(default_factory=TriggerAuthenticationSpec)
    status: TriggerAuthenticationStatus = field(default_factory=TriggerAuthenticationStatus)
