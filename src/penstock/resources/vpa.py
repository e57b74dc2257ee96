"""The vertical pod autoscaler (autoscaling.k8s.io/v1): how large a pod's containers should be, from what they used.

Source: kubernetes/autoscaler, `vertical-pod-autoscaler/deploy/vpa-v1-crd-gen.yaml`.
"""

from __future__ import annotations

from msgspec import field

from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition, Model, Quantity, Resource

Amounts = dict[str, Quantity]
"""A quantity for each resource by its name: `cpu` in cores, `memory` in bytes."""

OFF, INITIAL, RECREATE, AUTO = "Off", "Initial", "Recreate", "Auto"
IN_PLACE_OR_RECREATE, IN_PLACE = "InPlaceOrRecreate", "InPlace"
UPDATE_MODES = (OFF, INITIAL, RECREATE, IN_PLACE_OR_RECREATE, IN_PLACE, AUTO)
REQUESTS_AND_LIMITS, REQUESTS_ONLY = "RequestsAndLimits", "RequestsOnly"
TARGET_HIGHER, TARGET_LOWER = "TargetHigherThanRequests", "TargetLowerThanRequests"
RESOURCES = ("cpu", "memory")
ANY_CONTAINER = "*"
"""The container policy for every container that has none of its own."""
DEFAULT_RECOMMENDER = "default"


class VPARecommender(Model, frozen=True):
    """A recommender other than the default one; whoever runs it writes the recommendation."""

    name: str


class EvictionRequirement(Model, frozen=True):
    """A pod is evicted only if the change of one of `resources` has this direction."""

    resources: tuple[str, ...]
    change_requirement: str


class PodUpdatePolicy(Model, frozen=True):
    """When recommendations reach pods; see UPDATE_MODES."""

    update_mode: str | None = None
    min_replicas: int | None = None
    eviction_requirements: tuple[EvictionRequirement, ...] = ()
    evict_after_oom_seconds: int | None = field(default=None, name="evictAfterOOMSeconds")


class StartupBoostRule(Model, frozen=True):
    """More CPU while a container starts: times `factor`, or `quantity` more."""

    type: str
    factor: int | None = None
    quantity: Quantity | None = None
    duration_seconds: int | None = None


class StartupBoost(Model, frozen=True):
    """More of a resource while a container starts."""

    cpu: StartupBoostRule | None = None


class ContainerResourcePolicy(Model, frozen=True):
    """Bounds for one container, or for every one without a policy of its own (`*`)."""

    container_name: str = ""
    mode: str | None = None
    min_allowed: Amounts = {}
    max_allowed: Amounts = {}
    controlled_resources: tuple[str, ...] | None = None
    controlled_values: str | None = None
    oom_bump_up_ratio: Quantity | None = None
    oom_min_bump_up: Quantity | None = None
    memory_aggregation_interval_seconds: int | None = None
    memory_aggregation_interval_count: int | None = None
    startup_boost: StartupBoost | None = None


class PodResourcePolicy(Model, frozen=True):
    """Bounds for a pod's containers."""

    container_policies: tuple[ContainerResourcePolicy, ...] = ()


class VerticalPodAutoscalerSpec(Model, frozen=True):
    """What is sized, when its pods get their size, and between which bounds."""

    target_ref: CrossVersionObjectReference
    update_policy: PodUpdatePolicy | None = None
    resource_policy: PodResourcePolicy | None = None
    recommenders: tuple[VPARecommender, ...] = ()
    startup_boost: StartupBoost | None = None


class RecommendedContainerResources(Model, frozen=True):
    """The size of one container. `uncapped_target` is what it would be without the policy's bounds."""

    target: Amounts
    container_name: str = ""
    lower_bound: Amounts = {}
    upper_bound: Amounts = {}
    uncapped_target: Amounts = {}


class RecommendedPodResources(Model, frozen=True):
    """The sizes of a pod's containers."""

    container_recommendations: tuple[RecommendedContainerResources, ...] = ()


class VerticalPodAutoscalerStatus(Model, frozen=True):
    """Conditions are RecommendationProvided, LowConfidence, NoPodsMatched, ConfigUnsupported and ConfigDeprecated."""

    observed_generation: int | None = None
    recommendation: RecommendedPodResources | None = None
    conditions: tuple[Condition, ...] = ()


class VerticalPodAutoscaler(Resource, frozen=True, kw_only=True):
    """Keeps the requests of a workload's pods near what they use."""

    api_version: str = field(default_factory=lambda: "autoscaling.k8s.io/v1")
    kind: str = field(default_factory=lambda: "VerticalPodAutoscaler")
    spec: VerticalPodAutoscalerSpec
    status: VerticalPodAutoscalerStatus = field(default_factory=VerticalPodAutoscalerStatus)


class HistogramCheckpoint(Model, frozen=True):
    """A decaying histogram: weights of buckets by their number as whole parts of 10,000 of the heaviest, and their sum."""

    reference_timestamp: str | None = None
    bucket_weights: dict[str, int] = {}
    total_weight: float = 0.0


class CheckpointSpec(Model, frozen=True):
    """Of which autoscaler and container."""

    vpa_object_name: str = ""
    container_name: str = ""


class CheckpointStatus(Model, frozen=True):
    """What was seen of a container's use so far."""

    last_update_time: str | None = None
    version: str = ""
    cpu_histogram: HistogramCheckpoint = field(default_factory=HistogramCheckpoint)
    memory_histogram: HistogramCheckpoint = field(default_factory=HistogramCheckpoint)
    first_sample_start: str | None = None
    last_sample_start: str | None = None
    total_samples_count: int = 0


class VerticalPodAutoscalerCheckpoint(Resource, frozen=True, kw_only=True):
    """What a recommender remembers over a restart; it is no subresource, the whole object is written."""

    api_version: str = field(default_factory=lambda: "autoscaling.k8s.io/v1")
    kind: str = field(default_factory=lambda: "VerticalPodAutoscalerCheckpoint")
    spec: CheckpointSpec = field(default_factory=CheckpointSpec)
    status: CheckpointStatus = field(default_factory=CheckpointStatus)


FIELDS: tuple[tuple[str, str, str, str], ...] = (
    ("spec.targetRef", "required", "Deployment, ReplicaSet", "the workload whose pods are sized"),
    (
        "spec.updatePolicy.updateMode",
        "Auto",
        ", ".join(UPDATE_MODES),
        "Off recommends only; Initial sizes pods as they are created; Recreate and Auto evict pods, too. InPlaceOrRecreate acts"
        " as Recreate and InPlace as Initial, since processes are not resized while they run",
    ),
    ("spec.updatePolicy.minReplicas", "2", "≥ 1", "with fewer replicas nothing is evicted"),
    (
        "spec.updatePolicy.evictionRequirements[]",
        "none",
        "TargetHigherThanRequests, TargetLowerThanRequests",
        "a pod is evicted only if every requirement holds for one of its resources",
    ),
    (
        "spec.updatePolicy.evictAfterOOMSeconds",
        "600",
        "≥ 1",
        "a container that ran out of memory sooner than this after its start is evicted within the bounds, too",
    ),
    (
        "spec.resourcePolicy.containerPolicies[].containerName",
        "required",
        "a container, or *",
        "* is for all others",
    ),
    ("….mode", "Auto", "Auto, Off", "Off: no recommendation for the container"),
    ("….minAllowed", "none", "cpu, memory", "recommendations are at least this"),
    ("….maxAllowed", "none", "cpu, memory", "recommendations are at most this"),
    ("….controlledResources", "cpu, memory", "cpu, memory", "others are left alone"),
    (
        "….controlledValues",
        REQUESTS_AND_LIMITS,
        f"{REQUESTS_AND_LIMITS}, {REQUESTS_ONLY}",
        "limits grow and shrink with requests, or stay and bound them",
    ),
    ("….oomBumpUpRatio", "1.2", "≥ 1", "a container that ran out of memory is taken to need this times more"),
    ("….oomMinBumpUp", "100Mi", "≥ 0", "or this much more, whichever is larger"),
    ("….memoryAggregationIntervalSeconds", "86400", "≥ 1", "the peak of each interval is one sample"),
    ("….memoryAggregationIntervalCount", "8", "≥ 1", "a history without samples for so many intervals ends"),
    ("spec.startupBoost, ….startupBoost", "none", "Factor, Quantity", "not acted upon, with a warning"),
    (
        "spec.recommenders[]",
        DEFAULT_RECOMMENDER,
        "at most one",
        "another one's autoscalers get no recommendation from us",
    ),
)
"""For the reference: field, default, range, and what Penstock does with it."""
