"""Jobs count every pod once, give up when they should, and clean up behind themselves."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import on_virtual_time

from penstock.contracts.controller import Key
from penstock.decide.job import TRACKING
from penstock.host.jobs import JobController
from penstock.kit.errors import NotFound, Unavailable
from penstock.resources.pod import Pod
from penstock.resources.workload import Job
from penstock.testing.factories import job
from penstock.testing.world import World, condition, is_active

pytestmark = pytest.mark.looptime


def jobs(world: World) -> JobController:
    return JobController(world.cluster, world.cache, world.recorder.named("job"), world.clock)


class JobWorld(World):
    """Pods run for ten seconds; `codes` are their exit codes in order, 0 afterwards."""

    def __init__(self, *codes: int) -> None:
        super().__init__(jobs)
        self.kubelet.start_s, self.kubelet.run_s = 1.0, 10.0
        self.codes = list(codes)
        self.kubelet.exit_code = lambda pod: self.codes.pop(0) if self.codes else 0

    async def job(self, name: str = "work") -> Job:
        return await self.cluster.get(Job, name, "default")


async def test_a_job_runs_its_pods_to_completion() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", completions=5, parallelism=2))
        await asyncio.sleep(5)
        early = (await world.job()).status
        assert (early.active, early.ready, early.succeeded) == (2, 2, 0)
        assert early.start_time
        await asyncio.sleep(60)
        done = await world.job()
        assert (done.status.active, done.status.succeeded, done.status.failed) == (0, 5, 0)
        assert condition(done, "Complete").status == "True"
        assert condition(done, "Complete").reason == "CompletionsReached"
        assert done.status.completion_time
        assert done.status.uncounted_terminated_pods is None
        pods = await world.pods("job-name=work")
        assert len(pods) == 5
        assert not any(pod.metadata.finalizers for pod in pods)
        assert "Completed: Job completed" in await world.events()


async def test_failures_are_tried_again_after_growing_waits_until_the_limit() -> None:
    async with JobWorld(1, 1, 1, 1, 1) as world:
        await world.cluster.create(job("work", backoff_limit=2))
        starts: dict[str, float] = {}
        for _ in range(200):
            await asyncio.sleep(1)
            for pod in await world.pods():
                starts.setdefault(pod.metadata.name, asyncio.get_running_loop().time())
        times = sorted(starts.values())
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits == [pytest.approx(21, abs=1.5), pytest.approx(31, abs=1.5)], (
            "10 s, then 20 s, after 11 s each"
        )
        failed = await world.job()
        assert failed.status.failed == 3
        assert condition(failed, "Failed").reason == "BackoffLimitExceeded"
        assert condition(failed, "Failed").message == "Job has reached the specified backoff limit"
        assert condition(failed, "Complete") is None


async def test_a_deadline_ends_running_pods_and_fails_the_job_when_they_are_gone() -> None:
    async with JobWorld() as world:
        world.kubelet.run_s, world.kubelet.stop_s = 1000.0, 20.0
        await world.cluster.create(job("work", active_deadline_seconds=30))
        await asyncio.sleep(35)
        ending = await world.job()
        assert condition(ending, "FailureTarget").reason == "DeadlineExceeded"
        assert condition(ending, "Failed") is None, "a pod still runs"
        await asyncio.sleep(30)
        assert condition(await world.job(), "Failed").reason == "DeadlineExceeded"
        assert not [pod for pod in await world.pods() if is_active(pod)]


async def test_a_suspended_job_has_no_pods_and_goes_on_where_it_was() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", completions=3, suspend=True))
        await asyncio.sleep(10)
        assert not await world.pods()
        assert condition(await world.job(), "Suspended").status == "True"
        await world.patch(Job, "work", {"spec": {"suspend": False}})
        await asyncio.sleep(15)
        await world.patch(Job, "work", {"spec": {"suspend": True}})
        await asyncio.sleep(10)
        held = await world.job()
        assert (held.status.succeeded, held.status.failed, held.status.active) == (1, 0, 0)
        assert held.status.start_time is None
        await world.patch(Job, "work", {"spec": {"suspend": False}})
        await asyncio.sleep(60)
        done = await world.job()
        assert (done.status.succeeded, done.status.failed) == (3, 0)
        assert condition(done, "Complete").status == "True"
        assert condition(done, "Suspended").reason == "JobResumed"


async def test_a_finished_job_goes_when_its_time_to_live_is_over() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", ttl_seconds_after_finished=60))
        await asyncio.sleep(40)
        assert condition(await world.job(), "Complete")
        await asyncio.sleep(50)
        with pytest.raises(NotFound):
            await world.job()
        assert not await world.pods()


async def test_without_completions_the_first_success_ends_the_queue() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", parallelism=3))
        await asyncio.sleep(60)
        assert (await world.job()).status.succeeded == 3
        assert condition(await world.job(), "Complete")
        assert len(await world.pods()) == 3


async def test_a_pod_that_somebody_deletes_counts_as_failed_and_is_replaced() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work"))
        await asyncio.sleep(5)
        [pod] = await world.pods()
        await world.cluster.delete(Pod, pod.metadata.name, "default")
        await asyncio.sleep(60)
        done = (await world.job()).status
        assert (done.succeeded, done.failed) == (1, 1)


async def test_deleting_a_job_lets_its_pods_go_whatever_they_were_doing() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", completions=4, parallelism=2))
        await asyncio.sleep(15)
        await world.cluster.delete(Job, "work", "default")
        await asyncio.sleep(20)
        assert not await world.pods()


async def test_an_indexed_job_is_refused_in_words() -> None:
    async with JobWorld() as world:
        await world.cluster.create(job("work", completions=2, completion_mode="Indexed"))
        await asyncio.sleep(5)
        failed = condition(await world.job(), "Failed")
        assert failed.reason == "NotSupported"
        assert "use NonIndexed" in failed.message
        assert not await world.pods()


async def test_restarts_in_place_count_against_the_limit() -> None:
    async with JobWorld() as world:
        world.kubelet.run_s = None
        template = job("x").spec.template
        await world.cluster.create(job("work", backoff_limit=2, template=template))
        await asyncio.sleep(5)
        await world.cluster.delete(Job, "work", "default")
        await asyncio.sleep(10)
        await world.cluster.create(
            job("again", backoff_limit=2, template=type(template)(spec=_on_failure(template.spec)))
        )
        await asyncio.sleep(5)
        [pod] = await world.pods("job-name=again")
        counts = {"name": "main", "ready": True, "restartCount": 2, "image": "example"}
        patch = {"status": {"containerStatuses": [counts]}}
        await world.cluster.patch(Pod, pod.metadata.name, "default", patch, subresource="status")
        await asyncio.sleep(10)
        assert condition(await world.job("again"), "Failed").reason == "BackoffLimitExceeded"


def _on_failure(spec):  # type: ignore[no-untyped-def]
    from msgspec import structs

    return structs.replace(spec, restart_policy="OnFailure")


class Interrupted(JobController):
    """Dies at random between any two steps, as a process that is killed."""

    chance = random.Random(0)

    async def reconcile(self, key: Key) -> float | None:
        real, chance = self._cluster, self.chance

        class Flaky:
            def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
                async def call(*args, **kwargs):  # type: ignore[no-untyped-def]
                    if name in ("replace", "patch", "create", "delete") and chance.random() < 0.3:
                        raise Unavailable("killed here")
                    return await getattr(real, name)(*args, **kwargs)

                return call

        self._cluster = Flaky()  # type: ignore[assignment]
        try:
            return await super().reconcile(key)
        finally:
            self._cluster = real


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.sampled_from([0, 0, 1]), max_size=8), st.integers())
def test_every_pod_counts_exactly_once_even_if_it_is_deleted_at_once_and_the_controller_dies_anywhere(
    completions: int, parallelism: int, codes: list[int], seed: int
) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        world = JobWorld(*codes)
        started: set[str] = set()
        made = Interrupted(world.cluster, world.cache, world.recorder.named("job"), world.clock)
        made.chance = chance
        world._manager._loops[-1].controller = made
        async with world:
            await world.cluster.create(
                job("work", completions=completions, parallelism=parallelism, backoff_limit=20)
            )
            for _ in range(1500):  # more than all back-offs of eight failures in a row
                await asyncio.sleep(4)
                for pod in await world.pods():
                    started.add(pod.metadata.name)
                    ended = pod.status.phase in ("Succeeded", "Failed")
                    if ended and not pod.metadata.deletion_timestamp and chance.random() < 0.3:
                        await world.cluster.delete(Pod, pod.metadata.name, "default")
                if condition(await world.job(), "Complete"):
                    break
            done = await world.job()
            assert condition(done, "Complete"), done.status
            assert done.status.succeeded == completions
            assert done.status.succeeded + done.status.failed == len(started)
            assert not [pod for pod in await world.pods() if TRACKING in pod.metadata.finalizers]

    on_virtual_time(run)
