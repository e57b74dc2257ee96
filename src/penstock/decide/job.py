"""Which pods should this Job start or end now, and has it succeeded or failed?

Kubernetes' rules (batch/v1) for jobs without an index. A finished pod is counted exactly once, even if it is deleted at once or
this process dies in between: every pod carries a finalizer; its uid is first written to `status.uncountedTerminatedPods`, then
its finalizer is taken off, then the uid becomes part of the counts. A pod that gave way to another is no failure of a job that goes on from a
checkpoint, or whose podFailurePolicy ignores DisruptionTarget: it is replaced at once, and its successor waits until it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from msgspec import structs

from penstock.decide.replica_set import is_active, is_ended, ready_since
from penstock.kit.backoff import delay_s
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.checkpoint import NOTICE, contract_of
from penstock.resources.meta import Condition, ObjectMeta, controlled_by
from penstock.resources.pod import Pod
from penstock.resources.workload import Job, JobStatus

TRACKING = "batch.kubernetes.io/job-tracking"
JOB_NAME = "batch.kubernetes.io/job-name"
DEFAULT_BACKOFF_LIMIT = 6
FIRST_BACKOFF_S = 10.0
LAST_BACKOFF_S = 600.0


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Written in this order: `status`, then finalizers off `release`, then `delete` and `create` pods.

    `remove` says that the Job itself has outlived its time to live; `again_s` when time alone changes the answer.
    """

    status: JobStatus
    release: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    create: int = 0
    remove: bool = False
    again_s: float | None = None
    event: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Tally:
    """The pods of a Job, sorted out. The numbers include pods that are recorded but not yet counted."""

    active: tuple[Pod, ...]
    ending: tuple[Pod, ...]
    succeeded: int
    failed: int
    last_failures: tuple[float, ...] = field(default=())
    """When the pods ended that failed since the last success, oldest first."""


def plan_job(job: Job, pods: tuple[Pod, ...], now: float) -> JobPlan:
    """`pods` are those that the Job owns, in any state; both must be fresh, not from a cache."""
    verdict = _condition(job, "Complete", "Failed")
    if verdict is not None:
        return _finished(job, pods, verdict, now)
    status, release = _counted(job, pods)
    tally = _tally(job, status, pods)
    status = structs.replace(
        status,
        active=len(tally.active),
        ready=sum(ready_since(pod) is not None for pod in tally.active),
        terminating=len(tally.ending),
    )
    if not job.spec.suspend and status.start_time is None:
        status = structs.replace(status, start_time=rfc3339(now))
    plan = JobPlan(status, release)
    ending = _condition(job, "SuccessCriteriaMet", "FailureTarget") or _verdict(job, status, tally, now)
    if ending is not None:
        return _end(job, plan, tally, ending, now)
    if job.spec.suspend:
        return _suspend(job, plan, tally, now)
    return _go_on(job, plan, tally, now)


def pod_of(job: Job) -> Pod:
    """A new pod of the Job's template; the cluster completes its name."""
    meta, template = job.metadata, job.spec.template
    labels = {
        JOB_NAME: meta.name,
        "job-name": meta.name,
        "batch.kubernetes.io/controller-uid": meta.uid,
        "controller-uid": meta.uid,
    }
    return Pod(
        metadata=ObjectMeta(
            generate_name=f"{meta.name}-",
            namespace=meta.namespace,
            labels=template.metadata.labels | labels,
            annotations=template.metadata.annotations,
            finalizers=(*template.metadata.finalizers, TRACKING),
            owner_references=(controlled_by(job),),
        ),
        spec=template.spec,
    )


def _counted(job: Job, pods: tuple[Pod, ...]) -> tuple[JobStatus, tuple[str, ...]]:
    """The status with newly ended pods recorded and released ones counted, and the pods to release once it is written."""
    status, by_uid = job.status, {pod.metadata.uid: pod for pod in pods}
    tracked = {uid for uid, pod in by_uid.items() if TRACKING in pod.metadata.finalizers}
    recorded = {word: _uids(status, word) for word in ("succeeded", "failed")}
    known = {uid for uids in recorded.values() for uid in uids}
    waiting = {word: [uid for uid in uids if uid in tracked] for word, uids in recorded.items()}
    release = [by_uid[uid].metadata.name for uids in waiting.values() for uid in uids]
    for uid in sorted(tracked - known):
        pod = by_uid[uid]
        if pod.status.phase == "Succeeded":
            waiting["succeeded"].append(uid)
        elif _is_forgiven(job, pod):
            if not _is_over(pod):
                continue
        elif pod.status.phase == "Failed" or (_is_ending(pod) and not job.spec.suspend):
            waiting["failed"].append(uid)
        elif not _is_ending(pod):
            continue
        release.append(pod.metadata.name)
    return structs.replace(
        status,
        succeeded=status.succeeded + sum(uid not in tracked for uid in recorded["succeeded"]),
        failed=status.failed + sum(uid not in tracked for uid in recorded["failed"]),
        uncounted_terminated_pods={word: uids for word, uids in waiting.items() if uids} or None,
    ), tuple(release)


def _uids(status: JobStatus, word: str) -> list[str]:
    return list((status.uncounted_terminated_pods or {}).get(word) or ())


def _tally(job: Job, status: JobStatus, pods: tuple[Pod, ...]) -> _Tally:
    failures: list[float] = []
    ended = [pod for pod in pods if is_ended(pod)]
    for pod in sorted((pod for pod in ended if not _is_forgiven(job, pod)), key=_ended_at):
        failures = [] if pod.status.phase == "Succeeded" else [*failures, _ended_at(pod)]
    return _Tally(
        active=tuple(filter(is_active, pods)),
        ending=tuple(pod for pod in pods if _is_ending(pod) and not is_ended(pod)),
        succeeded=status.succeeded + len(_uids(status, "succeeded")),
        failed=status.failed + len(_uids(status, "failed")),
        last_failures=tuple(failures),
    )


def _verdict(job: Job, status: JobStatus, tally: _Tally, now: float) -> Condition | None:
    """Success or failure, if there is one now, as the condition that announces it."""
    spec = job.spec
    if spec.completion_mode == "Indexed":
        message = "completionMode Indexed is not acted upon on one machine; use NonIndexed"
        return Condition(type="FailureTarget", status="True", reason="NotSupported", message=message)
    limit = DEFAULT_BACKOFF_LIMIT if spec.backoff_limit is None else spec.backoff_limit
    restarts = sum(s.restart_count for pod in tally.active for s in pod.status.container_statuses)
    in_place = spec.template.spec.restart_policy == "OnFailure" and limit and restarts >= limit
    if tally.failed > limit or in_place:
        return Condition(
            type="FailureTarget",
            status="True",
            reason="BackoffLimitExceeded",
            message="Job has reached the specified backoff limit",
        )
    if (left_s := _deadline_s(job, status, now)) is not None and left_s <= 0:
        return Condition(
            type="FailureTarget",
            status="True",
            reason="DeadlineExceeded",
            message="Job was active longer than specified deadline",
        )
    enough = (
        tally.succeeded >= 1 and not tally.active if _is_queue(job) else tally.succeeded >= _completions(job)
    )
    if not enough:
        return None
    message = "Reached expected number of succeeded pods"
    return Condition(type="SuccessCriteriaMet", status="True", reason="CompletionsReached", message=message)


def _end(job: Job, plan: JobPlan, tally: _Tally, ending: Condition, now: float) -> JobPlan:
    """Pods that still run are ended; when none is left the verdict becomes final."""
    status = _with(plan.status, ending, now)
    if tally.active or tally.ending or status.uncounted_terminated_pods:
        return replace(plan, status=status, delete=tuple(pod.metadata.name for pod in tally.active))
    succeeded = ending.type == "SuccessCriteriaMet"
    final = structs.replace(ending, type="Complete" if succeeded else "Failed")
    status = structs.replace(_with(status, final, now), completion_time=rfc3339(now) if succeeded else None)
    event = ("Completed", "Job completed") if succeeded else (final.reason, final.message)
    return replace(plan, status=status, again_s=_left_to_live_s(job, now, now), event=event)


def _finished(job: Job, pods: tuple[Pod, ...], verdict: Condition, now: float) -> JobPlan:
    """Nothing is done but letting go of the pods, and of the Job itself when its time to live is over."""
    tracked = tuple(pod.metadata.name for pod in pods if TRACKING in pod.metadata.finalizers)
    since = parse_rfc3339(verdict.last_transition_time) if verdict.last_transition_time else now
    left_s = _left_to_live_s(job, since, now)
    over = left_s is not None and left_s <= 0
    return JobPlan(job.status, release=tracked, remove=over, again_s=None if over else left_s)


def _suspend(job: Job, plan: JobPlan, tally: _Tally, now: float) -> JobPlan:
    condition = Condition(type="Suspended", status="True", reason="JobSuspended", message="Job suspended")
    status = structs.replace(_with(plan.status, condition, now), start_time=None)
    new = _condition(job, "Suspended") is None
    return replace(
        plan,
        status=status,
        delete=tuple(pod.metadata.name for pod in tally.active),
        event=("Suspended", "Job suspended") if new else None,
    )


def _go_on(job: Job, plan: JobPlan, tally: _Tally, now: float) -> JobPlan:
    status, event = plan.status, None
    if _condition(job, "Suspended") is not None:
        resumed = Condition(type="Suspended", status="False", reason="JobResumed", message="Job resumed")
        status, event = _with(status, resumed, now), ("Resumed", "Job resumed")
    wished = _wished(job, tally)
    surplus = sorted(tally.active, key=_keep_rank)[: max(0, len(tally.active) - wished)]
    is_patient = job.spec.pod_replacement_policy == "Failed" or contract_of(job.spec.template.metadata)
    occupied = len(tally.active) + (len(tally.ending) if is_patient else 0)
    missing = max(0, wished - occupied)
    wait_s = _backoff_s(tally, now) if missing else 0.0
    times = [t for t in (wait_s, _deadline_s(job, status, now)) if t]
    return replace(
        plan,
        status=status,
        delete=tuple(pod.metadata.name for pod in surplus),
        create=0 if wait_s > 0 else missing,
        again_s=min(times, default=None),
        event=event,
    )


def _wished(job: Job, tally: _Tally) -> int:
    """How many pods should run now."""
    parallelism = 1 if job.spec.parallelism is None else job.spec.parallelism
    if not _is_queue(job):
        return max(0, min(parallelism, _completions(job) - tally.succeeded))
    return min(parallelism, len(tally.active)) if tally.succeeded else parallelism


def _is_queue(job: Job) -> bool:
    """Whether the pods share a queue: the first success says that it is empty, and the others are left to end."""
    return job.spec.completions is None and job.spec.parallelism is not None


def _completions(job: Job) -> int:
    return 1 if job.spec.completions is None else job.spec.completions


def _backoff_s(tally: _Tally, now: float) -> float:
    """Until the next pod may start: 10 s after a failure, twice as long after each further one in a row."""
    if not tally.last_failures:
        return 0.0
    pause_s = delay_s(len(tally.last_failures), base_s=FIRST_BACKOFF_S, cap_s=LAST_BACKOFF_S)
    return max(0.0, tally.last_failures[-1] + pause_s - now)


def _deadline_s(job: Job, status: JobStatus, now: float) -> float | None:
    limit_s = job.spec.active_deadline_seconds
    if limit_s is None or status.start_time is None:
        return None
    return parse_rfc3339(status.start_time) + limit_s - now


def _left_to_live_s(job: Job, since: float, now: float) -> float | None:
    ttl_s = job.spec.ttl_seconds_after_finished
    return None if ttl_s is None else max(0.0, since + ttl_s - now)


def _keep_rank(pod: Pod) -> tuple[bool, bool, float, str]:
    """Lowest goes first: unassigned, not ready, newest."""
    created = pod.metadata.creation_timestamp
    age = -parse_rfc3339(created) if created else 0.0
    return bool(pod.spec.node_name), ready_since(pod) is not None, age, pod.metadata.name


def _is_ending(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _is_over(pod: Pod) -> bool:
    """Whether its processes are gone; a pod that is only marked may still end with success."""
    return is_ended(pod) or (_is_ending(pod) and not pod.metadata.deletion_grace_period_seconds)


def _is_forgiven(job: Job, pod: Pod) -> bool:
    """Whether the pod was told to give way, and the job does not count that against it."""
    if NOTICE not in pod.metadata.annotations or not _is_ending(pod):
        return False
    if contract_of(job.spec.template.metadata) is not None:
        return True
    rules = (job.spec.pod_failure_policy or {}).get("rules") or ()
    return any(
        rule.get("action") == "Ignore"
        and any(wish.get("type") == "DisruptionTarget" for wish in rule.get("onPodConditions") or ())
        for rule in rules
    )


def _ended_at(pod: Pod) -> float:
    times = [
        container.state.terminated.finished_at
        for container in pod.status.container_statuses
        if container.state.terminated is not None and container.state.terminated.finished_at
    ]
    times = times or [pod.metadata.deletion_timestamp or pod.metadata.creation_timestamp or rfc3339(0.0)]
    return max(map(parse_rfc3339, times))


def _condition(job: Job, *types: str) -> Condition | None:
    return next((c for c in job.status.conditions if c.type in types and c.status == "True"), None)


def _with(status: JobStatus, condition: Condition, now: float) -> JobStatus:
    """The status with this condition; its times stay if it says nothing new."""
    known = next((c for c in status.conditions if c.type == condition.type), None)
    if known is not None and (known.status, known.reason) == (condition.status, condition.reason):
        return status
    moment = rfc3339(now)
    stamped = structs.replace(condition, last_probe_time=moment, last_transition_time=moment)
    others = tuple(c for c in status.conditions if c.type != condition.type)
    return structs.replace(status, conditions=(*others, stamped))
