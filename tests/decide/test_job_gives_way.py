"""A pod that gave way is no failure of a job that goes on from a checkpoint, and its successor waits until it is gone."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from penstock.decide.job import TRACKING, JobPlan, plan_job
from penstock.resources.checkpoint import CHECKPOINT, NOTICE
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec, PodStatus, PodTemplateSpec
from penstock.resources.workload import Job, JobSpec

NOW = 1_000_000.0
IGNORING = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}


def job(*, keeps_contract: bool = True, **spec: Any) -> Job:
    noted = {CHECKPOINT: "/data"} if keeps_contract else {}
    template = PodTemplateSpec(metadata=ObjectMeta(annotations=noted), spec=PodSpec(restart_policy="Never"))
    return Job(
        metadata=ObjectMeta(name="train", uid="j"), spec=JobSpec(template=template, backoff_limit=0, **spec)
    )


def pod(phase: str, *, grace_s: int | None = 30, told: bool = True) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name="a",
            uid="a",
            finalizers=(TRACKING,),
            annotations={NOTICE: '{"deadline": 1.0, "reason": "Preempted"}'} if told else {},
            deletion_timestamp="1970-01-12T13:46:40Z",
            deletion_grace_period_seconds=grace_s,
        ),
        spec=PodSpec(node_name="n"),
        status=PodStatus(phase=phase),
    )


def outcome(plan: JobPlan) -> tuple[int, int, list[str]]:
    """Pods to create, those recorded as failed, and verdicts."""
    recorded = plan.status.uncounted_terminated_pods or {}
    return plan.create, len(recorded.get("failed", ())), [c.type for c in plan.status.conditions]


def test_while_it_saves_nothing_is_counted_and_no_other_is_started() -> None:
    plan = plan_job(job(), (pod("Running"),), NOW)
    assert outcome(plan) == (0, 0, [])
    assert plan.release == ()


def test_once_it_is_gone_it_is_let_go_without_a_failure_and_replaced_at_once() -> None:
    for ended in (pod("Failed"), pod("Running", grace_s=0)):
        plan = plan_job(job(), (ended,), NOW)
        assert plan.release == ("a",)
        assert outcome(plan)[1:] == (0, [])
    assert outcome(plan_job(job(), (pod("Failed"),), NOW))[0] == 1


def test_one_that_ended_with_success_has_done_its_work() -> None:
    plan = plan_job(job(), (pod("Succeeded"),), NOW)
    assert (plan.status.uncounted_terminated_pods or {})["succeeded"] == ["a"]


def test_without_the_contract_it_counts_unless_the_jobs_policy_ignores_disruptions() -> None:
    plain = plan_job(job(keeps_contract=False), (pod("Failed"),), NOW)
    assert outcome(plain) == (0, 1, ["FailureTarget"])
    ignoring = plan_job(job(keeps_contract=False, pod_failure_policy=IGNORING), (pod("Failed"),), NOW)
    assert outcome(ignoring)[1:] == (0, [])


def test_one_that_somebody_deleted_counts_as_ever() -> None:
    assert outcome(plan_job(job(), (pod("Failed", told=False),), NOW))[1] == 1


def test_a_suspended_job_forgives_too() -> None:
    suspended = job(suspend=True)
    plan = plan_job(replace(suspended), (pod("Failed"),), NOW)
    assert outcome(plan)[1] == 0
