"""Do deployments, replica sets and jobs keep Kubernetes' rules?"""

from __future__ import annotations

from penstock.resources.meta import IntOrString, LabelSelector
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.selectors import matches_label_selector
from penstock.resources.validate_pod import validate_template
from penstock.resources.validation import (
    Causes,
    at_least,
    immutable,
    one_of,
    required,
    selector,
    unsupported,
    wrong,
)
from penstock.resources.workload import Deployment, Job, ReplicaSet


def validate_deployment(new: Deployment, old: Deployment | None) -> Causes:
    """Causes in a deployment."""
    spec = new.spec
    yield from _selected(spec.selector, spec.template)
    yield from at_least("spec.replicas", spec.replicas)
    yield from at_least("spec.minReadySeconds", spec.min_ready_seconds)
    yield from at_least("spec.revisionHistoryLimit", spec.revision_history_limit)
    if spec.strategy is not None:
        yield from one_of("spec.strategy.type", spec.strategy.type, ("Recreate", "RollingUpdate"))
        rolling = spec.strategy.rolling_update
        if rolling is not None:
            where = "spec.strategy.rollingUpdate"
            yield from _share(f"{where}.maxSurge", rolling.max_surge)
            yield from _share(f"{where}.maxUnavailable", rolling.max_unavailable)
            if _is_zero(rolling.max_unavailable) and _is_zero(rolling.max_surge):
                yield wrong(
                    f"{where}.maxUnavailable", rolling.max_unavailable, "may not be 0 when `maxSurge` is 0"
                )
    if old is not None:
        yield from immutable("spec.selector", old.spec.selector, spec.selector)


def validate_replica_set(new: ReplicaSet, old: ReplicaSet | None) -> Causes:
    """Causes in a replica set."""
    yield from _selected(new.spec.selector, new.spec.template)
    yield from at_least("spec.replicas", new.spec.replicas)
    yield from at_least("spec.minReadySeconds", new.spec.min_ready_seconds)
    if old is not None:
        yield from immutable("spec.selector", old.spec.selector, new.spec.selector)


def validate_job(new: Job, old: Job | None) -> Causes:
    """Causes in a job."""
    spec = new.spec
    yield from validate_template("spec.template", spec.template)
    policy = spec.template.spec.restart_policy
    if not policy:
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield unsupported("spec.template.spec.restartPolicy", policy, ("OnFailure", "Never"))
    for name, value in (
        ("parallelism", spec.parallelism),
        ("completions", spec.completions),
        ("backoffLimit", spec.backoff_limit),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
    ):
        yield from at_least(f"spec.{name}", value)
    yield from at_least("spec.activeDeadlineSeconds", spec.active_deadline_seconds, 1)
    if old is not None:
        yield from immutable("spec.completions", old.spec.completions, spec.completions)
        yield from immutable("spec.selector", old.spec.selector, spec.selector)
        yield from immutable("spec.template", old.spec.template, spec.template)


def _selected(wanted: LabelSelector, template: PodTemplateSpec) -> Causes:
    if not wanted.match_labels and not wanted.match_expressions:
        yield required("spec.selector")
    else:
        problems = tuple(selector("spec.selector", wanted))
        yield from problems
        if not problems and not matches_label_selector(wanted, template.metadata.labels):
            yield wrong(
                "spec.template.metadata.labels",
                template.metadata.labels,
                "`selector` does not match template `labels`",
            )
    yield from validate_template("spec.template", template)
    policy = template.spec.restart_policy
    if policy and policy != "Always":
        yield unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def _share(field: str, value: IntOrString | None) -> Causes:
    if isinstance(value, int):
        yield from at_least(field, value)
    elif value is not None and not (
        value.isascii() and value.removesuffix("%").isdecimal() and value.endswith("%")
    ):
        # KServe's own samples write "0" for 0, and Kubernetes refuses that in a Deployment.
        yield wrong(
            field,
            value,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%',"
            " regex used for validation is '[0-9]+%')",
        )


def _is_zero(value: IntOrString | None) -> bool:
    return value == 0 or (isinstance(value, str) and value.strip("0") == "%")
