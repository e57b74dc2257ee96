"""The columns that `kubectl get` shows, per kind: a name, and how a cell is read from an object.

Built-in kinds have Kubernetes' own columns, KServe's kinds the printer columns of their CRDs; wide ones (-o wide) are marked.
"""

from __future__ import annotations

from typing import Any

from penstock.host.api.cache_columns import CACHE_COLUMNS
from penstock.host.api.cells import AGE, NAME, Cell, Column, age, condition, count, pairs, path
from penstock.host.api.durations import human_duration
from penstock.host.api.hpa_cells import hpa_targets
from penstock.host.api.pod_cells import pod_age_of_restart, pod_ready, pod_status
from penstock.host.metadata import Document
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.scheme import Kind


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind; Name and Age for kinds without columns of their own."""
    return COLUMNS.get(kind.kind, (NAME, AGE))


def _joined(*parts: str, of: str, default: str = "") -> Cell:
    """The named field of every entry of a list, joined by commas; `default` where there is no list."""
    read = path(*parts, default=({of: default},))
    return lambda document, now_s: ",".join(str(entry.get(of, "")) for entry in read(document, now_s))


def _recommended(resource: str) -> Cell:
    """What the first container should request."""

    def cell(document: Document, now_s: float) -> Any:
        containers = path("status", "recommendation", "containerRecommendations", default=())(document, now_s)
        return containers[0].get("target", {}).get(resource, "") if containers else ""

    return cell


def _traffic(which: str) -> Cell:
    """KServe's PREV and LATEST: the predictor's traffic percentages."""

    def cell(document: Document, now_s: float) -> Any:
        traffic = path("status", "components", "predictor", "traffic", default=())(document, now_s)
        wanted = [entry for entry in traffic if bool(entry.get("latestRevision")) == (which == "latest")]
        if which == "previous":
            wanted = [entry for entry in wanted if entry.get("tag") == "prev"] or wanted
        return next((entry.get("percent", "") for entry in wanted), "")

    return cell


def _ready_of(ready: str, wished: str) -> Cell:
    def cell(document: Document, now_s: float) -> str:
        have = path("status", ready, default=0)(document, now_s)
        return f"{have}/{path('spec', wished, default=1)(document, now_s)}"

    return cell


def _node_status(document: Document, now_s: float) -> str:
    status = {"True": "Ready", "False": "NotReady"}.get(condition("Ready")(document, now_s), "Unknown")
    return (
        f"{status},SchedulingDisabled"
        if path("spec", "unschedulable", default=False)(document, now_s)
        else status
    )


def _job_status(document: Document, now_s: float) -> str:
    for type, shown in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if condition(type)(document, now_s) == "True":
            return shown
    return "Terminating" if "deletionTimestamp" in document["metadata"] else "Running"


def _job_duration(document: Document, now_s: float) -> str:
    start, end = (
        path("status", field, default=None)(document, now_s) for field in ("startTime", "completionTime")
    )
    if not start:
        return ""
    return human_duration((parse_rfc3339(end) if end else now_s) - parse_rfc3339(start))


def _object_of(document: Document, now_s: float) -> str:
    about = document.get("involvedObject") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _claim_state(document: Document, now_s: float) -> str:
    """As kubectl shows it: pending, or what has been done for the claim."""
    status = document.get("status") or {}
    states = [
        *(("deleted",) if document["metadata"].get("deletionTimestamp") else ()),
        *(("allocated",) if status.get("allocation") else ()),
        *(("reserved",) if status.get("reservedFor") else ()),
    ]
    return ",".join(states) or "pending"


def _event_age(document: Document, now_s: float) -> str:
    last = next(
        (document[f] for f in ("lastTimestamp", "eventTime", "firstTimestamp") if document.get(f)), None
    )
    if last is None:
        return "<unknown>"
    shown, first, times = (
        human_duration(now_s - parse_rfc3339(last)),
        document.get("firstTimestamp"),
        document.get("count"),
    )
    if first and times and times > 1:
        return f"{shown} (x{times} over {human_duration(now_s - parse_rfc3339(first))})"
    return shown


def _formats(document: Document, now_s: float) -> str:
    entries = path("spec", "supportedModelFormats", default=())(document, now_s)
    return str(entries[0].get("name", "")) if entries else ""


CONTAINERS = ("spec", "template", "spec", "containers")
TEMPLATE = (
    Column("Containers", _joined(*CONTAINERS, of="name"), wide=True),
    Column("Images", _joined(*CONTAINERS, of="image"), wide=True),
    Column("Selector", pairs("spec", "selector", "matchLabels"), wide=True),
)
RUNTIME = (
    NAME,
    Column("Disabled", path("spec", "disabled", default=""), "boolean"),
    Column("ModelType", _formats),
    Column(
        "Containers",
        lambda d, now_s: next((c.get("name", "") for c in (d.get("spec") or {}).get("containers") or ()), ""),
    ),
    AGE,
)
PREDICTOR = ("status", "components", "predictor")

COLUMNS: dict[str, tuple[Column, ...]] = {
    **CACHE_COLUMNS,
    "InferenceService": (
        NAME,
        Column("URL", path("status", "url")),
        Column("Ready", condition("Ready")),
        Column("Prev", _traffic("previous"), "integer"),
        Column("Latest", _traffic("latest"), "integer"),
        Column("PrevRolledoutRevision", path(*PREDICTOR, "previousRolledoutRevision")),
        Column("LatestReadyRevision", path(*PREDICTOR, "latestReadyRevision")),
        AGE,
        Column(
            "Replicas",
            path("status", "modelStatus", "copies", "totalCopies", default=0),
            "integer",
            wide=True,
        ),
        Column("Revision", path(*PREDICTOR, "latestCreatedRevision"), wide=True),
        Column(
            "Runtime",
            lambda d, now_s: (
                path("status", "servingRuntimeName")(d, now_s)
                or path("status", "clusterServingRuntimeName")(d, now_s)
            ),
            wide=True,
        ),
        Column("Reason", condition("Ready", "reason"), wide=True),
    ),
    "ServingRuntime": RUNTIME,
    "ClusterServingRuntime": RUNTIME,
    "Pod": (
        NAME,
        Column("Ready", pod_ready),
        Column("Status", pod_status),
        Column("Restarts", pod_age_of_restart),
        AGE,
        Column("IP", path("status", "podIP", default="<none>"), wide=True),
        Column("Node", path("spec", "nodeName", default="<none>"), wide=True),
        Column("Nominated Node", path("status", "nominatedNodeName", default="<none>"), wide=True),
        Column("Readiness Gates", lambda d, now_s: "<none>", wide=True),
    ),
    "Deployment": (
        NAME,
        Column("Ready", _ready_of("readyReplicas", "replicas")),
        Column("Up-to-date", path("status", "updatedReplicas", default=0), "integer"),
        Column("Available", path("status", "availableReplicas", default=0), "integer"),
        AGE,
        *TEMPLATE,
    ),
    "ReplicaSet": (
        NAME,
        Column("Desired", path("spec", "replicas", default=1), "integer"),
        Column("Current", path("status", "replicas", default=0), "integer"),
        Column("Ready", path("status", "readyReplicas", default=0), "integer"),
        AGE,
        *TEMPLATE,
    ),
    "Job": (
        NAME,
        Column("Status", _job_status),
        Column("Completions", _ready_of("succeeded", "completions")),
        Column("Duration", _job_duration),
        AGE,
        *TEMPLATE,
    ),
    "Node": (
        NAME,
        Column("Status", _node_status),
        Column("Roles", lambda d, now_s: "<none>"),
        AGE,
        Column("Version", path("status", "nodeInfo", "kubeletVersion")),
        Column("Internal-IP", lambda d, now_s: _address(d, "InternalIP"), wide=True),
        Column("OS-Image", path("status", "nodeInfo", "osImage", default="<unknown>"), wide=True),
        Column("Kernel-Version", path("status", "nodeInfo", "kernelVersion", default="<unknown>"), wide=True),
    ),
    "Namespace": (NAME, Column("Status", path("status", "phase", default="Active")), AGE),
    "ConfigMap": (NAME, count("data"), AGE),
    "Secret": (NAME, Column("Type", path("type")), count("data"), AGE),
    "ServiceAccount": (NAME, count("secrets"), AGE),
    "PersistentVolumeClaim": (
        NAME,
        Column("Status", path("status", "phase", default="Pending")),
        Column("Volume", path("spec", "volumeName")),
        Column("Capacity", path("status", "capacity", "storage")),
        Column("Access Modes", lambda d, now_s: ",".join(path("spec", "accessModes", default=())(d, now_s))),
        Column("StorageClass", path("spec", "storageClassName")),
        AGE,
    ),
    "ResourceClaim": (NAME, Column("State", _claim_state), AGE),
    "Event": (
        Column("Last Seen", _event_age),
        Column("Type", path("type")),
        Column("Reason", path("reason")),
        Column("Object", _object_of),
        Column("Source", path("source", "component"), wide=True),
        Column("Message", lambda d, now_s: str(d.get("message", "")).strip()),
        Column("First Seen", age("firstTimestamp"), wide=True),
        Column("Count", path("count", default=1), "integer", wide=True),
        Column("Name", path("metadata", "name"), wide=True),
    ),
    "PriorityClass": (
        NAME,
        Column("Value", path("value", default=0), "integer"),
        Column("Global-Default", path("globalDefault", default=False), "boolean"),
        AGE,
        Column("PreemptionPolicy", path("preemptionPolicy", default="PreemptLowerPriority")),
    ),
    "HorizontalPodAutoscaler": (
        NAME,
        Column(
            "Reference",
            lambda d, now_s: "/".join(
                path("spec", "scaleTargetRef", part)(d, now_s) for part in ("kind", "name")
            ),
        ),
        Column("Targets", hpa_targets),
        Column("MinPods", path("spec", "minReplicas", default=1), "integer"),
        Column("MaxPods", path("spec", "maxReplicas", default=0), "integer"),
        Column("Replicas", path("status", "currentReplicas", default=0), "integer"),
        AGE,
    ),
    "VerticalPodAutoscaler": (
        NAME,
        Column("Mode", path("spec", "updatePolicy", "updateMode", default="Auto")),
        Column("CPU", _recommended("cpu")),
        Column("Mem", _recommended("memory")),
        Column("Provided", condition("RecommendationProvided")),
        AGE,
        Column("MinReplicas", path("spec", "updatePolicy", "minReplicas", default=2), "integer", wide=True),
    ),
    "ScaledObject": (
        NAME,
        Column("ScaleTargetKind", path("status", "scaleTargetKind")),
        Column("ScaleTargetName", path("spec", "scaleTargetRef", "name")),
        Column("Min", path("spec", "minReplicaCount", default=0), "integer"),
        Column("Max", path("spec", "maxReplicaCount", default=100), "integer"),
        *(Column(name, condition(name)) for name in ("Ready", "Active", "Fallback", "Paused")),
        Column("Triggers", path("status", "triggersTypes")),
        Column("Authentications", path("status", "authenticationsTypes")),
        AGE,
    ),
    "InferenceGraph": (NAME, Column("URL", path("status", "url")), Column("Ready", condition("Ready")), AGE),
    "TrainedModel": (NAME, Column("URL", path("status", "url")), Column("Ready", condition("Ready")), AGE),
    "ApiKey": (
        NAME,
        Column("Tenant", path("spec", "tenant")),
        Column("Phase", path("status", "phase", default="Pending")),
        Column("Expires", path("spec", "expiresAt", default="never")),
        AGE,
        Column("ID", path("status", "id"), wide=True, description="The public part of the key's tokens."),
        Column("Admin", path("spec", "admin", default=False), "boolean", wide=True),
    ),
    "Tenant": (NAME, Column("Display-Name", path("spec", "displayName")), AGE),
    "Rollout": (
        NAME,
        Column("Phase", path("status", "phase")),
        Column("Weight", path("status", "weight"), "integer"),
        Column("Stable", path("status", "stable")),
        Column("Canary", path("status", "canary")),
        AGE,
        Column("Message", path("status", "message"), wide=True),
    ),
    "RolloutPolicy": (NAME, count("spec", "steps"), count("spec", "gates"), AGE),
    "InferenceObjective": (
        NAME,
        Column("Inference Pool", path("spec", "poolRef", "name")),
        Column("Priority", path("spec", "priority"), "integer"),
        AGE,
    ),
    "RoutingProfile": (
        NAME,
        Column("Default", path("spec", "default", default=False), "boolean"),
        Column("Filters", _joined("spec", "filters", of="name", default="healthy,saturation")),
        Column("Scorers", _joined("spec", "scorers", of="name", default="predicted-latency")),
        Column("Picker", path("spec", "picker", "name", default="max-score")),
        AGE,
        Column("Threshold", path("spec", "promptClasses", "thresholdTokens"), "integer", wide=True),
    ),
    "PodAutoscaler": (
        NAME,
        Column("DesiredScale", path("status", "desiredScale"), "integer"),
        Column("ActualScale", path("status", "actualScale"), "integer"),
        Column("Ready", condition("Ready")),
        Column("Reason", condition("Ready", "reason")),
        Column("Mode", path("status", "mode"), wide=True),
        Column("Sleep", path("status", "sleep", "depth"), wide=True),
        AGE,
    ),
    "LLMInferenceService": (
        NAME,
        Column("URL", path("status", "url")),
        Column("Ready", condition("Ready")),
        Column("Reason", condition("Ready", "reason")),
        AGE,
    ),
}


def _address(document: Document, type: str) -> str:
    addresses = path("status", "addresses", default=())(document, 0.0)
    return next((entry["address"] for entry in addresses if entry.get("type") == type), "<none>")
