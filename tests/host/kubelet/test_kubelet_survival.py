"""What survives what: real processes, and a cluster in memory."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from kubelet_world import FOREVER, World, is_ready, main_status, serve, sh, waiting_reason
from msgspec import structs

from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.logs import PodLogs
from penstock.host.kubelet.orphans import kill_all
from penstock.host.kubelet.processes import is_alive
from penstock.kit.clock import SystemClock
from penstock.kit.errors import InvalidInput
from penstock.resources.pod import (
    Pod,
    PodStatus,
    Probe,
    TCPSocketAction,
)


async def test_a_running_pod_is_adopted_and_stays_ready(world: World) -> None:
    await world.up()
    probe = Probe(tcp_socket=TCPSocketAction(port="http"))
    await world.create("a", serve(18082, readiness_probe=probe))
    before = await world.until("a", is_ready)
    await world.down()
    await world.up()
    await asyncio.sleep(0.3)
    after = await world.until("a", is_ready)
    assert main_status(after).container_id == main_status(before).container_id
    assert after.status.pod_ip == before.status.pod_ip
    assert world.events.reasons().count("Started") == 1
    ready = [each for each in after.status.conditions if each.type == "Ready"]
    assert ready == [each for each in before.status.conditions if each.type == "Ready"]


async def test_an_exit_that_nobody_watched_is_still_seen(world: World) -> None:
    await world.up()
    await world.create("a", sh("while ! test -e go; do sleep 0.02; done; exit 6"), restart_policy="Never")
    pod = await world.until("a", is_ready)
    await world.down()
    folder = Layout(world.home).pod("n1", pod.metadata.uid).container("main")
    (folder / "cwd" / "go").touch()
    await attempts(folder)[-1].wait()
    await world.up()
    pod = await world.until("a", lambda pod: pod.status.phase == "Failed")
    ended = main_status(pod).state.terminated
    assert ended and ended.exit_code == 6


async def test_a_killed_shim_takes_its_container_along_and_it_runs_again(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    identity = attempts(Layout(world.home).pod("n1", pod.metadata.uid).container("main"))[-1].identity()
    assert identity
    os.kill(identity[0].pid, signal.SIGKILL)
    pod = await world.until("a", lambda pod: main_status(pod).restart_count == 1 and is_ready(pod))
    last = main_status(pod).last_state.terminated
    assert last and (last.reason, last.exit_code) == ("ContainerStatusUnknown", 137)


async def test_a_pod_deleted_while_the_kubelet_was_down_is_reaped(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    await world.down()
    await world.cluster.delete(Pod, "a", "default", grace_period_s=0)
    folder = Layout(world.home).pod("n1", pod.metadata.uid)
    identity = attempts(folder.container("main"))[-1].identity()
    await world.up()
    assert not folder.path.exists()
    assert identity and not is_alive(identity[1])


async def test_an_orderly_stop_says_so_and_the_next_start_runs_the_pods_again(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    await world.create("once", sh(FOREVER), restart_policy="Never")
    pod = await world.until("a", is_ready)
    await world.until("once", is_ready)
    await world.until_logged(pod, "up")
    await world.down(stop=True)
    for name in ("a", "once"):
        stopped = await world.pod(name)
        assert stopped and stopped.status.reason == "PlatformStopped"
        assert waiting_reason(stopped) == "PlatformStopped"
        assert not is_ready(stopped)
    await world.up()
    for name in ("a", "once"):
        pod = await world.until(name, is_ready)
        assert pod.status.phase == "Running"
        assert not pod.status.reason


async def test_a_supervisor_can_end_everything_without_a_control_plane(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    await world.create("stubborn", sh("trap '' TERM; echo up; sleep 30; sleep 30"))
    pods = [await world.until("a", is_ready), await world.until("stubborn", is_ready)]
    await world.down()
    assert await asyncio.to_thread(kill_all, world.home, 0.2) == 2
    for pod in pods:
        assert not attempts(Layout(world.home).pod("n1", pod.metadata.uid).container("main"))[-1].is_running()
    assert kill_all(world.home) == 0
    await world.up()
    await world.until("a", lambda pod: is_ready(pod) and main_status(pod).restart_count == 1)


async def test_a_supervisor_ends_a_shim_that_stands_still(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    await world.down()
    attempt = attempts(Layout(world.home).pod("n1", pod.metadata.uid).container("main"))[-1]
    identity = attempt.identity()
    assert identity
    os.kill(identity[0].pid, signal.SIGSTOP)
    assert await asyncio.to_thread(kill_all, world.home) == 1
    assert not attempt.is_running()
    await world.up()
    await world.cluster.delete(Pod, "a", "default", grace_period_s=1)
    await world.gone("a")


async def test_logs_follow_across_a_restart_and_end_with_the_pod(world: World) -> None:
    await world.up()
    script = (
        "n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; echo run $n;"
        " while ! test -e go; do sleep 0.02; done; test $n -gt 0"
    )
    await world.create("a", sh(script), restart_policy="OnFailure")
    pod = await world.until("a", is_ready)
    logs = PodLogs(world.home, SystemClock())
    async with asyncio.timeout(30):
        following = logs.open_log(pod, follow=True)
        text = await anext(following)
        (Layout(world.home).pod("n1", pod.metadata.uid).container("main") / "cwd" / "go").touch()
        text += b"".join([piece async for piece in following])
    assert text == b"run 0\nrun 1\n"
    previous = b"".join([piece async for piece in logs.open_log(pod, "main", previous=True)])
    assert previous == b"run 0\n"
    with pytest.raises(InvalidInput, match="container mian is not valid for pod a"):
        logs.open_log(pod, "mian")


async def test_a_verdict_on_the_pod_survives_the_control_plane(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER), active_deadline_seconds=1)
    before = await world.until("a", lambda pod: pod.status.phase == "Failed")
    await world.down()
    blank = structs.replace(before, status=PodStatus())
    await world.cluster.replace(
        structs.replace(blank, metadata=structs.replace(blank.metadata, resource_version="")),
        subresource="status",
    )
    await world.up()
    after = await world.until("a", lambda pod: pod.status.phase == "Failed")
    assert after.status.reason == "DeadlineExceeded"


async def test_a_pod_that_vanished_is_ended_and_its_name_may_be_used_again(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    old = await world.until("a", is_ready)
    await world.cluster.delete(Pod, "a", "default", grace_period_s=0)
    await world.create("a", sh(FOREVER))
    new = await world.until("a", lambda pod: is_ready(pod) and pod.metadata.uid != old.metadata.uid)
    folder = Layout(world.home).pod("n1", old.metadata.uid)
    async with asyncio.timeout(30):
        while folder.path.exists():
            await asyncio.sleep(0.02)
    assert attempts(Layout(world.home).pod("n1", new.metadata.uid).container("main"))[-1].is_running()


async def test_a_stop_that_a_crash_cut_short_is_no_failure_of_the_pod(world: World) -> None:
    await world.up()
    await world.create("once", sh(FOREVER), restart_policy="Never")
    pod = await world.until("once", is_ready)
    await world.until_logged(pod, "up")
    await world.down()
    attempt = attempts(Layout(world.home).pod("n1", pod.metadata.uid).container("main"))[-1]
    attempt.mark_stopped()
    await world.up()
    await world.until("once", is_ready)
    attempt.terminate()
    pod = await world.until("once", lambda pod: main_status(pod).restart_count == 1 and is_ready(pod))
    assert pod.status.phase == "Running"
