"""What of a container's use is written down, and what is known of it after a restart?

In Kubernetes' own form (VerticalPodAutoscalerCheckpoint, version v3), so that a recommender elsewhere can go on from it.
"""

from __future__ import annotations

from msgspec import structs

from penstock.decide.vpa_history import NO_CPU, NO_MEMORY, History
from penstock.kit.errors import InvalidInput
from penstock.kit.hashing import short_hash
from penstock.kit.histogram import CompactHistogram, DecayingHistogram
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.meta import ObjectMeta, OwnerReference
from penstock.resources.vpa import (
    CheckpointSpec,
    CheckpointStatus,
    HistogramCheckpoint,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerCheckpoint,
)

VERSION = "v3"
MAX_NAME = 253


def checkpoint_of(
    autoscaler: VerticalPodAutoscaler, container: str, history: History, now: float
) -> VerticalPodAutoscalerCheckpoint:
    """The object to store; it goes when its autoscaler goes."""
    meta = autoscaler.metadata
    owner = OwnerReference(
        api_version=autoscaler.api_version,
        kind=autoscaler.kind,
        name=meta.name,
        uid=meta.uid,
        controller=True,
    )
    return VerticalPodAutoscalerCheckpoint(
        metadata=ObjectMeta(
            name=checkpoint_name(meta.name, container), namespace=meta.namespace, owner_references=(owner,)
        ),
        spec=CheckpointSpec(vpa_object_name=meta.name, container_name=container),
        status=CheckpointStatus(
            last_update_time=rfc3339(now),
            version=VERSION,
            cpu_histogram=_written(history.cpu),
            memory_histogram=_written(history.memory),
            first_sample_start=_stamp(history.first_sample_s),
            last_sample_start=_stamp(history.last_sample_s),
            total_samples_count=history.samples,
        ),
    )


def checkpoint_name(autoscaler: str, container: str) -> str:
    """`{autoscaler}-{container}`, as in Kubernetes; a name that would be too long ends in its hash."""
    name = f"{autoscaler}-{container}"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 11]}-{short_hash(name)[:10]}"


def history_of(checkpoint: VerticalPodAutoscalerCheckpoint) -> History | None:
    """What was known, or None for what cannot have been written by a recommender of this version."""
    status = checkpoint.status
    if status.version != VERSION or status.total_samples_count < 0:
        return None
    try:
        return History(
            cpu=_read(NO_CPU, status.cpu_histogram),
            memory=_read(NO_MEMORY, status.memory_histogram),
            first_sample_s=_moment(status.first_sample_start),
            last_sample_s=_moment(status.last_sample_start),
            samples=status.total_samples_count,
        )
    except (InvalidInput, ValueError):
        return None


def updated(
    stored: VerticalPodAutoscalerCheckpoint, fresh: VerticalPodAutoscalerCheckpoint
) -> VerticalPodAutoscalerCheckpoint:
    """The stored object with what is known now."""
    return structs.replace(stored, spec=fresh.spec, status=fresh.status)


def _written(histogram: DecayingHistogram) -> HistogramCheckpoint:
    compact = histogram.compact()
    return HistogramCheckpoint(
        reference_timestamp=rfc3339(compact.reference_s),
        bucket_weights={str(bucket): weight for bucket, weight in compact.weights.items()},
        total_weight=compact.total,
    )


def _read(empty: DecayingHistogram, written: HistogramCheckpoint) -> DecayingHistogram:
    weights = {int(bucket): weight for bucket, weight in written.bucket_weights.items()}
    reference_s = parse_rfc3339(written.reference_timestamp) if written.reference_timestamp else 0.0
    return empty.restored(CompactHistogram(weights, written.total_weight, reference_s))


def _stamp(moment_s: float | None) -> str | None:
    return None if moment_s is None else rfc3339(moment_s)


def _moment(text: str | None) -> float | None:
    return parse_rfc3339(text) if text else None
