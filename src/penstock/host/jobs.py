"""Jobs: the shell around `decide/job.py`. Everything is read afresh: a finished pod must count once, never twice."""

from __future__ import annotations

import contextlib

from msgspec import structs

from penstock.contracts.cluster import Cluster, Preconditions
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key, owner_keys
from penstock.decide.job import JOB_NAME, TRACKING, JobPlan, plan_job, pod_of
from penstock.host.owned import is_owned
from penstock.kit.clock import Clock
from penstock.kit.errors import NotFound, PlatformError
from penstock.resources.pod import Pod
from penstock.resources.workload import Job


class JobController:
    """Runs each Job's pods until it has succeeded or failed."""

    name = "job"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Jobs, and the pods that they own."""
        return (Watch(Job, own_key), Watch(Pod, owner_keys("Job")))

    async def reconcile(self, key: Key) -> float | None:
        """One step."""
        try:
            job = await self._cluster.get(Job, key.name, key.namespace)
        except NotFound:
            job = None
        listing = await self._cluster.list(Pod, key.namespace, labels=f"{JOB_NAME}={key.name}")
        going_on = job is not None and job.metadata.deletion_timestamp is None
        own = tuple(pod for pod in listing.items if job is not None and going_on and is_owned(pod, job))
        for pod in listing.items:
            if pod not in own:
                await self._release(pod)
        if job is None or not going_on:
            return None
        plan = plan_job(job, own, self._clock.now())
        await self._apply(job, own, plan)
        return plan.again_s

    async def _apply(self, job: Job, pods: tuple[Pod, ...], plan: JobPlan) -> None:
        meta = job.metadata
        if plan.status != job.status:
            await self._cluster.replace(structs.replace(job, status=plan.status), subresource="status")
        if plan.event is not None:
            failed = any(c.type == "Failed" for c in plan.status.conditions)
            self._recorder.event(job, "Warning" if failed else "Normal", *plan.event)
        for pod in pods:
            if pod.metadata.name in plan.release:
                await self._release(pod)
        for name in plan.delete:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(Pod, name, meta.namespace)
                self._recorder.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
        for _ in range(plan.create):
            await self._create(job)
        if plan.remove:
            with contextlib.suppress(NotFound):
                only = Preconditions(uid=meta.uid)
                await self._cluster.delete(Job, meta.name, meta.namespace, preconditions=only)

    async def _create(self, job: Job) -> None:
        try:
            pod = await self._cluster.create(pod_of(job))
        except PlatformError as error:
            self._recorder.event(job, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(job, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _release(self, pod: Pod) -> None:
        """Take our finalizer off, so that the pod can go."""
        if TRACKING not in pod.metadata.finalizers:
            return
        kept = [name for name in pod.metadata.finalizers if name != TRACKING]
        patch = {"metadata": {"finalizers": kept, "resourceVersion": pod.metadata.resource_version}}
        with contextlib.suppress(NotFound):
            await self._cluster.patch(Pod, pod.metadata.name, pod.metadata.namespace, patch)
