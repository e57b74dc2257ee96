"""Workloads: what keeps pods in being (apps/v1, batch/v1)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, IntOrString, Json, LabelSelector, Model, Resource
from penstock.resources.pod import PodTemplateSpec


class RollingUpdate(Model, frozen=True):
    """How far a rolling update may go above and below the wished number, as a count or a percentage."""

    max_surge: IntOrString | None = None
    max_unavailable: IntOrString | None = None


class DeploymentStrategy(Model, frozen=True):
    """`type` is RollingUpdate (default) or Recreate."""

    type: str = ""
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(Model, frozen=True):
    """A wished number of pods of one template; None means Kubernetes' default."""

    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    replicas: int | None = None
    strategy: DeploymentStrategy | None = None
    min_ready_seconds: int | None = None
    revision_history_limit: int | None = None
    progress_deadline_seconds: int | None = None
    paused: bool | None = None


class DeploymentStatus(Model, frozen=True):
    """Counts of pods, and the conditions Available, Progressing and ReplicaFailure."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int | None = None
    collision_count: int | None = None
    conditions: tuple[Condition, ...] = ()


class Deployment(Resource, frozen=True):
    """Pods of one template, replaced without a gap when the template changes."""

    api_version: str = field(default_factory=lambda: "apps/v1")
    kind: str = field(default_factory=lambda: "Deployment")
    spec: DeploymentSpec = field(default_factory=DeploymentSpec)
    status: DeploymentStatus = field(default_factory=DeploymentStatus)


class ReplicaSetSpec(Model, frozen=True):
    """A fixed number of pods of one template."""

    selector: LabelSelector = field(default_factory=LabelSelector)
    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    replicas: int | None = None
    min_ready_seconds: int | None = None


class ReplicaSetStatus(Model, frozen=True):
    """Counts of pods."""

    observed_generation: int = 0
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int | None = None
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Resource, frozen=True):
    """One revision of a Deployment."""

    api_version: str = field(default_factory=lambda: "apps/v1")
    kind: str = field(default_factory=lambda: "ReplicaSet")
    spec: ReplicaSetSpec = field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = field(default_factory=ReplicaSetStatus)


class JobSpec(Model, frozen=True):
    """Pods that must succeed `completions` times, at most `parallelism` at once, `backoff_limit` failures allowed."""

    template: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    parallelism: int | None = None
    completions: int | None = None
    completion_mode: str | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    selector: LabelSelector | None = None
    manual_selector: bool | None = None
    suspend: bool | None = None
    pod_failure_policy: Json = None
    pod_replacement_policy: str | None = None
    success_policy: Json = None
    max_failed_indexes: int | None = None
    managed_by: str | None = None


class JobStatus(Model, frozen=True):
    """Counts of pods, and the conditions Complete, Failed and Suspended."""

    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    start_time: str | None = None
    completion_time: str | None = None
    conditions: tuple[Condition, ...] = ()
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: Json = None


class Job(Resource, frozen=True):
    """Work that ends."""

    api_version: str = field(default_factory=lambda: "batch/v1")
    kind: str = field(default_factory=lambda: "Job")
    spec: JobSpec = field(default_factory=JobSpec)
    status: JobStatus = field(default_factory=JobStatus)
