"""What brings this model to that node, and when is it tried again?

As KServe's node agent: a Job per model and node, in a namespace of its own, kept to the node. Upstream a failed Job waits for a person
to delete it; here it is replaced, after a wait that doubles with every failure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from penstock.contracts.node_caches import ROOM
from penstock.decide.storage import INITIALIZER_IMAGE, MODELS, VOLUME
from penstock.decide.workload import FETCH_COMMAND, LOCAL_COMMANDS
from penstock.kit.backoff import delay_s
from penstock.kit.hashing import short_hash
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.caching import LocalModelInfo, LocalModelNode
from penstock.resources.meta import ObjectMeta, controlled_by
from penstock.resources.pod import (
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    PodSpec,
    PodTemplateSpec,
    Toleration,
    Volume,
    VolumeMount,
)
from penstock.resources.workload import Job, JobSpec

JOB_NAMESPACE = "kserve-localmodel-jobs"
CONTAINER = "kserve-localmodel-download"
MODEL_LABEL, NODE_LABEL = "model", "node"
ATTEMPT = "penstock.dev/attempt"
FIRST_WAIT_S, LAST_WAIT_S = 10.0, 600.0
TTL_S = 3600
TURN_S = 1.0
PENDING, DOWNLOADING, DOWNLOADED, ERROR = (
    "ModelDownloadPending",
    "ModelDownloading",
    "ModelDownloaded",
    "ModelDownloadError",
)


@dataclass(frozen=True, slots=True)
class Step:
    """`state` is what the node says about the model. `starts` is the attempt to begin now, 0 for none; `again_s` when to look again."""

    state: str
    starts: int = 0
    again_s: float | None = None


def next_step(job: Job | None, *, is_ready: bool, now: float, turn: bool = True) -> Step:
    """`is_ready` is what the disk says, and goes before what any Job says. Without its `turn` nothing is begun."""
    if is_ready:
        return Step(DOWNLOADED)
    if job is None:
        return Step(PENDING, starts=1) if turn else Step(PENDING, again_s=TURN_S)
    attempt = int(job.metadata.labels.get(ATTEMPT, "1"))
    ended = next(
        (c for c in job.status.conditions if c.type in ("Failed", "Complete") and c.status == "True"), None
    )
    if ended is not None:
        at = parse_rfc3339(ended.last_transition_time) if ended.last_transition_time else now
        left_s = at + delay_s(attempt, base_s=FIRST_WAIT_S, cap_s=LAST_WAIT_S) - now
        if ended.type == "Complete":
            # it was here and is not any more, or was brought to where nobody finds it
            return Step(PENDING, again_s=left_s) if left_s > 0 else Step(PENDING, starts=attempt + 1)
        return Step(ERROR, again_s=left_s) if left_s > 0 else Step(ERROR, starts=attempt + 1)
    return Step(DOWNLOADING if job.status.active else PENDING)


def is_turn(node: str, uri: str, holds: Iterable[LocalModelNode], ready: Collection[str]) -> bool:
    """Whether this node may begin: another has the model, or it is the first that brings it. Those that failed lose their turn.

    `holds` are the nodes that take models from each other, `ready` those of them that run pods.
    """
    waiting = []
    for hold in holds:
        said = {
            hold.status.model_status.get(model_name(info), PENDING)
            for info in hold.spec.local_models
            if info.source_model_uri == uri
        }
        if DOWNLOADED in said:
            return True
        if said and ERROR not in said and hold.metadata.name in ready:
            waiting.append(hold.metadata.name)
    return not waiting or min(waiting) == node


def model_name(info: LocalModelInfo) -> str:
    """As LocalModelNode's status names it."""
    return f"{info.namespace}/{info.model_name}" if info.namespace else info.model_name


def job_namespace(info: LocalModelInfo) -> str:
    """That of a namespace's own cache is where its credentials are."""
    return info.namespace or JOB_NAMESPACE


def job_name(node: str, info: LocalModelInfo) -> str:
    """One per node and address: entries with the same address share it."""
    return f"model-{short_hash([node, info.source_model_uri])}"


def download_job(
    node: LocalModelNode,
    info: LocalModelInfo,
    attempt: int,
    *,
    room_bytes: int | None = None,
    secret_env: tuple[EnvVar, ...] = (),
) -> Job:
    """It runs whatever taints the node has: the model is wanted there. What is larger than `room_bytes` is refused before its first byte."""
    name = node.metadata.name
    limit = () if room_bytes is None else (EnvVar(name=ROOM, value=str(room_bytes)),)
    container = Container(
        name=CONTAINER,
        image=INITIALIZER_IMAGE,
        args=(info.source_model_uri, MODELS),
        env=(*secret_env, *limit),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=(VolumeMount(name=VOLUME, mount_path=MODELS),),
    )
    labels = {MODEL_LABEL: info.model_name, NODE_LABEL: name}
    template = PodTemplateSpec(
        metadata=ObjectMeta(
            labels=labels, annotations={LOCAL_COMMANDS: json.dumps({CONTAINER: list(FETCH_COMMAND)})}
        ),
        spec=PodSpec(
            containers=(container,),
            restart_policy="Never",
            node_selector={"kubernetes.io/hostname": name},
            tolerations=(Toleration(operator="Exists"),),
            volumes=(Volume(name=VOLUME, empty_dir=EmptyDirVolumeSource()),),
        ),
    )
    return Job(
        metadata=ObjectMeta(
            name=job_name(name, info),
            namespace=job_namespace(info),
            labels={**labels, ATTEMPT: str(attempt)},
            owner_references=(controlled_by(node),),
        ),
        spec=JobSpec(template=template, backoff_limit=0, ttl_seconds_after_finished=TTL_S),
    )
