"""Probes, ends and limits: real processes, and a cluster in memory."""

from __future__ import annotations

import asyncio
import time

import pytest
from kubelet_world import FOREVER, World, is_ready, main_status, serve, sh
from msgspec import structs

from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.processes import is_alive
from penstock.resources.pod import (
    EnvVar,
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    ResourceRequirements,
    TCPSocketAction,
)


async def test_a_pod_runs_is_ready_and_goes_gracefully(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    assert pod.status.phase == "Running"
    assert pod.status.pod_ip.startswith("127.")
    assert main_status(pod).started is True
    folder = Layout(world.home).pod("n1", pod.metadata.uid).path
    await world.until_logged(pod, "up")
    identity = attempts(folder / "containers" / "main")[-1].identity()
    await world.cluster.delete(Pod, "a", "default")
    await world.gone("a")
    assert not folder.exists()
    assert identity and not is_alive(identity[1])
    assert world.events.reasons() == ["Created", "Started", "Killing"]


async def test_readiness_comes_as_soon_as_the_program_answers_and_not_a_period_later(world: World) -> None:
    await world.up()
    probe = Probe(http_get=HTTPGetAction(port="http", path="/moved"), period_seconds=600)
    await world.create("a", serve(readiness_probe=probe))
    await world.until("a", is_ready)


async def test_readiness_follows_the_probe(world: World) -> None:
    await world.up()
    probe = Probe(http_get=HTTPGetAction(port="http", path="/moved"), period_seconds=1, failure_threshold=1)
    await world.create("a", serve(readiness_probe=probe))
    pod = await world.until("a", is_ready)
    cwd = Layout(world.home).pod("n1", pod.metadata.uid).container("main") / "cwd"
    (cwd / "sick").touch()
    await world.until("a", lambda pod: not is_ready(pod))
    assert "Unhealthy" in world.events.reasons()
    (cwd / "sick").unlink()
    await world.until("a", is_ready)


async def test_a_failing_liveness_probe_restarts_the_container(world: World) -> None:
    await world.up()
    started = Probe(tcp_socket=TCPSocketAction(port=18081))
    fails_once = "if test -e sick; then rm sick; exit 1; fi"
    alive = Probe(
        exec=ExecAction(command=("/bin/sh", "-c", fails_once)),
        period_seconds=1,
        timeout_seconds=60,
        failure_threshold=1,
    )
    await world.create("a", serve(18081, startup_probe=started, liveness_probe=alive))
    pod = await world.until("a", is_ready)
    cwd = Layout(world.home).pod("n1", pod.metadata.uid).container("main") / "cwd"
    (cwd / "sick").touch()
    pod = await world.until("a", lambda pod: main_status(pod).restart_count == 1 and is_ready(pod))
    killing = [message for _, reason, message in world.events.seen if reason == "Killing"]
    assert killing[0] == "Container main failed liveness probe, will be restarted"


async def test_a_failing_startup_probe_restarts_the_container(world: World) -> None:
    await world.up()
    probe = Probe(tcp_socket=TCPSocketAction(port=1), period_seconds=1, failure_threshold=1)
    await world.create("a", sh(FOREVER, startup_probe=probe))
    pod = await world.until(
        "a", lambda pod: pod.status.container_statuses and main_status(pod).restart_count >= 1
    )
    assert not is_ready(pod)


async def test_grace_ends_with_sigkill(world: World) -> None:
    await world.up()
    stubborn = sh("trap '' TERM; echo up; while :; do sleep 0.05; done")
    await world.create("a", stubborn, termination_grace_period_seconds=1)
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "up")
    began = time.monotonic()
    await world.cluster.delete(Pod, "a", "default")
    await world.gone("a")
    assert 0.9 < time.monotonic() - began < 25, "the grace of a pod that says nothing is 30 s"


async def test_the_hook_has_ended_before_the_signal_comes(world: World) -> None:
    await world.up()
    command = ("/bin/sh", "-c", "sleep 0.3; touch $MARK")
    mark, seen = world.home.parent / "mark", world.home.parent / "seen"
    patient = sh(
        'trap \'test -e "$MARK" && touch "$SEEN"; exit 0\' TERM; echo up; while :; do sleep 0.05; done',
        lifecycle=Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=command))),
        env=(EnvVar(name="MARK", value=str(mark)), EnvVar(name="SEEN", value=str(seen))),
    )
    await world.create("a", patient, termination_grace_period_seconds=50)
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "up")
    await world.cluster.delete(Pod, "a", "default")
    await world.gone("a")
    assert mark.exists()
    assert seen.exists()


async def test_active_deadline_fails_the_pod(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER), active_deadline_seconds=10)  # ample for the container to begin
    await world.until("a", is_ready)
    pod = await world.until("a", lambda pod: pod.status.phase == "Failed")
    assert pod.status.reason == "DeadlineExceeded"
    assert main_status(pod).state.terminated


async def test_limits_that_are_not_enforced_are_said_once(world: World) -> None:
    kubelet = await world.up()
    if kubelet._tools.limits.base is not None:
        pytest.skip("this machine enforces limits")
    await world.create("a", sh(FOREVER, resources=ResourceRequirements(limits={"cpu": "1", "memory": "1Gi"})))
    await world.until("a", is_ready)
    assert world.events.reasons().count("LimitsNotEnforced") == 1


async def test_a_second_delete_may_shorten_the_grace(world: World) -> None:
    await world.up()
    await world.create(
        "a", sh("trap '' TERM; echo up; while :; do sleep 0.05; done"), termination_grace_period_seconds=60
    )
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "up")
    await world.cluster.delete(Pod, "a", "default")
    await world.until("a", lambda pod: pod.metadata.deletion_timestamp)
    await world.cluster.delete(Pod, "a", "default", grace_period_s=1)
    await world.gone("a")


async def test_a_pod_with_a_finalizer_ends_once_and_waits_for_whoever_holds_it(world: World) -> None:
    await world.up()
    pod = await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    held = structs.replace(pod.metadata, finalizers=("example.com/hold",), resource_version="")
    await world.cluster.replace(structs.replace(pod, metadata=held))
    await world.cluster.delete(Pod, "a", "default")
    folder = Layout(world.home).pod("n1", pod.metadata.uid)
    async with asyncio.timeout(30):
        while folder.path.exists():
            await asyncio.sleep(0.02)
        settled, later = pod, await world.pod("a")
        while later and later.metadata.resource_version != settled.metadata.resource_version:
            await asyncio.sleep(0.5)
            settled, later = later, await world.pod("a")
    assert later
    free = structs.replace(later.metadata, finalizers=())
    await world.cluster.replace(structs.replace(later, metadata=free))
    await world.gone("a")
