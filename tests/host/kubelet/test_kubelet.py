"""The kubelet with real processes and a cluster in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.logs import PodLogs
from penstock.host.kubelet.orphans import kill_all
from penstock.host.kubelet.processes import is_alive
from penstock.kit.clock import SystemClock
from penstock.kit.errors import InvalidInput
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import (
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    ContainerStatus,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvFromTarget,
    EnvVar,
    EnvVarSource,
    ExecAction,
    HTTPGetAction,
    KeySelector,
    Lifecycle,
    LifecycleHandler,
    ObjectFieldSelector,
    Pod,
    PodStatus,
    Probe,
    ResourceRequirements,
    SecretVolumeSource,
    TCPSocketAction,
    Volume,
    VolumeMount,
)

if TYPE_CHECKING:
    from conftest import World

FOREVER = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.05; done"
SERVER = """
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path != "/bad" and not os.path.exists("sick")
        if self.path == "/moved":
            self.send_response(302); self.send_header("Location", "/ok"); self.end_headers(); return
        self.send_response(200 if ok else 500); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ["POD_IP"], int(sys.argv[1])), H).serve_forever()
"""


def sh(script: str, name: str = "main", **fields: object) -> Container:
    return Container(name=name, command=("/bin/sh", "-c", script), **fields)  # type: ignore[arg-type]


def serve(port: int = 18080, **fields: object) -> Container:
    return Container(
        name="main",
        command=(sys.executable, "-c", SERVER, str(port)),
        ports=(ContainerPort(name="http", container_port=port),),
        **fields,  # type: ignore[arg-type]
    )


def condition(pod: Pod, type_: str) -> str:
    return next((each.status for each in pod.status.conditions if each.type == type_), "")


def is_ready(pod: Pod) -> bool:
    return condition(pod, "Ready") == "True"


def main_status(pod: Pod) -> ContainerStatus:
    return next(status for status in pod.status.container_statuses if status.name == "main")


def waiting_reason(pod: Pod) -> str:
    if not pod.status.container_statuses:
        return ""
    waiting = main_status(pod).state.waiting
    return waiting.reason if waiting else ""


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


async def test_a_completed_pod_succeeds_and_a_failed_one_fails_with_its_code(world: World) -> None:
    await world.up()
    await world.create("good", sh("exit 0"), restart_policy="Never")
    await world.create("bad", sh("exit 9"), restart_policy="Never")
    good = await world.until("good", lambda pod: pod.status.phase == "Succeeded")
    bad = await world.until("bad", lambda pod: pod.status.phase == "Failed")
    ended = main_status(good).state.terminated
    assert ended and (ended.exit_code, ended.reason) == (0, "Completed")
    ended = main_status(bad).state.terminated
    assert ended and (ended.exit_code, ended.reason) == (9, "Error")
    assert condition(good, "Ready") == "False"


async def test_a_crashing_container_backs_off_and_says_so(world: World) -> None:
    await world.up()
    await world.create("a", sh("exit 4"))
    pod = await world.until("a", lambda pod: waiting_reason(pod) == "CrashLoopBackOff")
    status = main_status(pod)
    assert status.restart_count == 1, "the first restart is immediate, the second waits"
    assert status.last_state.terminated and status.last_state.terminated.exit_code == 4
    assert (
        status.state.waiting
        and "back-off 10s restarting failed container main" in status.state.waiting.message
    )
    assert pod.status.phase == "Running"
    assert "BackOff" in world.events.reasons()


async def test_a_container_that_ends_on_its_own_runs_again_only_if_the_policy_says_so(world: World) -> None:
    await world.up()
    await world.create("a", sh("test -e ran && exit 0; touch ran; exit 1"), restart_policy="OnFailure")
    pod = await world.until("a", lambda pod: pod.status.phase == "Succeeded")
    assert main_status(pod).restart_count == 1


async def test_init_containers_run_in_order_before_the_others(world: World) -> None:
    await world.up()
    shared = (VolumeMount(name="work", mount_path="/work"),)
    await world.create(
        "a",
        sh("cat /work/order; sleep 30", volume_mounts=shared),
        init_containers=(
            sh("echo one >> /work/order", "first", volume_mounts=shared),
            sh("echo two >> /work/order", "second", volume_mounts=shared),
        ),
        volumes=(Volume(name="work", empty_dir=EmptyDirVolumeSource()),),
    )
    pod = await world.until("a", is_ready)
    assert await world.until_logged(pod, "two") == "one\ntwo"
    assert [status.name for status in pod.status.init_container_statuses] == ["first", "second"]


async def test_a_failed_init_container_fails_a_pod_that_never_restarts(world: World) -> None:
    await world.up()
    await world.create("a", sh("true"), restart_policy="Never", init_containers=(sh("exit 5", "first"),))
    pod = await world.until("a", lambda pod: pod.status.phase == "Failed")
    assert waiting_reason(pod) == "PodInitializing"
    ended = pod.status.init_container_statuses[0].state.terminated
    assert ended and ended.exit_code == 5


async def test_a_sidecar_starts_first_and_ends_last(world: World) -> None:
    await world.up()
    await world.create(
        "a",
        sh("exit 0"),
        restart_policy="Never",
        init_containers=(sh(FOREVER, "side", restart_policy="Always"),),
    )
    pod = await world.until("a", lambda pod: pod.status.phase == "Succeeded")
    assert pod.status.init_container_statuses[0].state.terminated


async def test_environment_comes_from_everywhere_and_expands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SECRET", "leak")
    await world.up()
    meta = ObjectMeta(name="c", namespace="default")
    await world.cluster.create(ConfigMap(metadata=meta, data={"LEVEL": "high"}))
    await world.cluster.create(Secret(metadata=meta, data={"key": "czNjcmV0"}))
    env = (
        EnvVar(
            name="NAME", value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="metadata.name"))
        ),
        EnvVar(name="KEY", value_from=EnvVarSource(secret_key_ref=KeySelector(name="c", key="key"))),
        EnvVar(name="ALL", value="$(NAME)-$(C_LEVEL)-$(KEY)-$$(NAME)-$(NOPE)"),
    )
    container = Container(
        name="main",
        command=("/bin/sh", "-c", 'echo "$ALL" "$0" "$POD_IP"; env; sleep 30', "$(NAME)@$(POD_IP)"),
        env=env,
        env_from=(EnvFromSource(prefix="C_", config_map_ref=EnvFromTarget(name="c")),),
    )
    await world.create("a", container)
    pod = await world.until("a", is_ready)
    log = await world.until_logged(pod, "PENSTOCK_CACHE_DIR")
    address = pod.status.pod_ip
    assert log.splitlines()[0] == f"a-high-s3cret-$(NAME)-$(NOPE) a@{address} {address}"
    assert "PLATFORM_SECRET" not in log


async def test_a_missing_secret_is_waited_for(world: World) -> None:
    await world.up()
    source = EnvVarSource(secret_key_ref=KeySelector(name="later", key="key"))
    await world.create("a", sh("echo got $K; sleep 30", env=(EnvVar(name="K", value_from=source),)))
    pod = await world.until("a", lambda pod: waiting_reason(pod) == "CreateContainerConfigError")
    waiting = main_status(pod).state.waiting
    assert waiting and 'secret "later" not found' in waiting.message
    await world.cluster.create(
        Secret(metadata=ObjectMeta(name="later", namespace="default"), data={"key": "eA=="})
    )
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "got x")


async def test_secret_files_are_private_and_paths_in_arguments_are_rewritten(world: World) -> None:
    await world.up()
    meta = ObjectMeta(name="s", namespace="default")
    await world.cluster.create(Secret(metadata=meta, data={"token": "czNjcmV0"}))
    script = 'cat "$1"; stat -L -c %a "$1"; echo "$WHERE"; sleep 30'
    container = Container(
        name="main",
        command=("/bin/sh", "-c", script, "sh", "/etc/creds/token"),
        env=(EnvVar(name="WHERE", value="file=/etc/creds/token:/etc/credentials"),),
        volume_mounts=(VolumeMount(name="creds", mount_path="/etc/creds"),),
    )
    volume = Volume(name="creds", secret=SecretVolumeSource(secret_name="s"))
    await world.create("a", container, volumes=(volume,))
    pod = await world.until("a", is_ready)
    folder = Layout(world.home).pod("n1", pod.metadata.uid).volumes / "creds"
    log = await world.until_logged(pod, "file=")
    assert log == f"s3cret600\nfile={folder}/token:/etc/credentials"


async def test_a_local_command_replaces_the_image(world: World) -> None:
    await world.up()
    local = {
        "penstock.dev/local-commands": json.dumps({"main": ["{python}", "-c", "import sys; print(sys.argv)"]})
    }
    container = Container(
        name="main",
        image="vllm/vllm-openai:v1",
        args=("--port", "$(PORT)"),
        env=(EnvVar(name="PORT", value="8080"),),
    )
    await world.create("a", container, annotations=local, restart_policy="Never")
    pod = await world.until("a", lambda pod: pod.status.phase == "Succeeded")
    assert world.log(pod) == "['-c', '--port', '8080']"


async def test_a_missing_program_is_named_with_the_hint_of_its_runtime(world: World) -> None:
    await world.up()
    annotations = {
        "penstock.dev/local-commands": json.dumps({"main": ["no-such-engine", "serve"]}),
        "penstock.dev/install-hints": json.dumps({"main": "pip install no-such-engine"}),
    }
    await world.create("a", Container(name="main", image="x"), annotations=annotations)
    await world.create("b", Container(name="main", image="only-an-image"))
    pod = await world.until("a", lambda pod: waiting_reason(pod) == "CreateContainerError")
    waiting = main_status(pod).state.waiting
    assert waiting
    assert (
        waiting.message
        == 'program "no-such-engine" is not installed on this machine: pip install no-such-engine'
    )
    assert pod.status.phase == "Pending"
    await world.until("b", lambda pod: waiting_reason(pod) == "ErrImageNeverPull")


async def test_readiness_follows_the_probe_and_comes_quickly(world: World) -> None:
    await world.up()
    probe = Probe(http_get=HTTPGetAction(port="http", path="/moved"), period_seconds=1, failure_threshold=1)
    began = time.monotonic()
    await world.create("a", serve(readiness_probe=probe))
    pod = await world.until("a", is_ready)
    assert time.monotonic() - began < 5.0
    cwd = Layout(world.home).pod("n1", pod.metadata.uid).container("main") / "cwd"
    (cwd / "sick").touch()
    await world.until("a", lambda pod: not is_ready(pod))
    assert "Unhealthy" in world.events.reasons()
    (cwd / "sick").unlink()
    await world.until("a", is_ready)


async def test_a_failing_liveness_probe_restarts_the_container(world: World) -> None:
    await world.up()
    started = Probe(tcp_socket=TCPSocketAction(port=18081))
    alive = Probe(
        exec=ExecAction(command=("/bin/sh", "-c", "test ! -e sick")), period_seconds=1, failure_threshold=1
    )
    await world.create("a", serve(18081, startup_probe=started, liveness_probe=alive))
    pod = await world.until("a", is_ready)
    cwd = Layout(world.home).pod("n1", pod.metadata.uid).container("main") / "cwd"
    (cwd / "sick").touch()
    await world.until("a", lambda pod: main_status(pod).last_state.terminated)
    (cwd / "sick").unlink()
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


async def test_grace_ends_with_sigkill_and_the_hook_runs_first(world: World) -> None:
    await world.up()
    hook = Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=("/bin/sh", "-c", "touch $MARK"))))
    mark = world.home.parent / "mark"
    stubborn = sh(
        "trap '' TERM; echo up; while :; do sleep 0.05; done",
        lifecycle=hook,
        env=(EnvVar(name="MARK", value=str(mark)),),
    )
    await world.create("a", stubborn, termination_grace_period_seconds=1)
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "up")
    began = time.monotonic()
    await world.cluster.delete(Pod, "a", "default")
    await world.gone("a")
    assert 0.9 < time.monotonic() - began < 5
    assert mark.exists()


async def test_active_deadline_fails_the_pod(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER), active_deadline_seconds=1)
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


async def test_logs_follow_across_a_restart_and_end_with_the_pod(world: World) -> None:
    await world.up()
    script = "n=$(cat n 2>/dev/null || echo 0); echo run $n; echo $((n+1)) > n; sleep 0.3; test $n -gt 0"
    await world.create("a", sh(script), restart_policy="OnFailure")
    pod = await world.until("a", is_ready)
    logs = PodLogs(world.home, SystemClock())
    async with asyncio.timeout(10):
        text = b"".join([piece async for piece in logs.open_log(pod, follow=True)])
    assert text == b"run 0\nrun 1\n"
    previous = b"".join([piece async for piece in logs.open_log(pod, "main", previous=True)])
    assert previous == b"run 0\n"
    with pytest.raises(InvalidInput, match="container mian is not valid for pod a"):
        logs.open_log(pod, "mian")


async def test_a_missing_volume_is_waited_for_and_said(world: World) -> None:
    await world.up()
    container = sh("cat /conf/k; sleep 30", volume_mounts=(VolumeMount(name="conf", mount_path="/conf"),))
    await world.create(
        "a", container, volumes=(Volume(name="conf", config_map=ConfigMapVolumeSource(name="c")),)
    )
    pod = await world.until(
        "a",
        lambda pod: waiting_reason(pod) == "ContainerCreating" and "FailedMount" in world.events.reasons(),
    )
    waiting = main_status(pod).state.waiting
    assert waiting and 'configmap "c" not found' in waiting.message
    await world.cluster.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="default"), data={"k": "v"}))
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "v")


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
    await world.gone("a", 5)


async def test_a_pod_that_vanished_is_ended_and_its_name_may_be_used_again(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER))
    old = await world.until("a", is_ready)
    await world.cluster.delete(Pod, "a", "default", grace_period_s=0)
    await world.create("a", sh(FOREVER))
    new = await world.until("a", lambda pod: is_ready(pod) and pod.metadata.uid != old.metadata.uid)
    folder = Layout(world.home).pod("n1", old.metadata.uid)
    async with asyncio.timeout(10):
        while folder.path.exists():
            await asyncio.sleep(0.02)
    assert attempts(Layout(world.home).pod("n1", new.metadata.uid).container("main"))[-1].is_running()


async def test_a_pod_with_a_finalizer_ends_once_and_waits_for_whoever_holds_it(world: World) -> None:
    await world.up()
    pod = await world.create("a", sh(FOREVER))
    pod = await world.until("a", is_ready)
    held = structs.replace(pod.metadata, finalizers=("example.com/hold",), resource_version="")
    await world.cluster.replace(structs.replace(pod, metadata=held))
    await world.cluster.delete(Pod, "a", "default")
    folder = Layout(world.home).pod("n1", pod.metadata.uid)
    async with asyncio.timeout(10):
        while folder.path.exists():
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    settled = await world.pod("a")
    await asyncio.sleep(0.3)
    later = await world.pod("a")
    assert settled and later and later.metadata.resource_version == settled.metadata.resource_version
    free = structs.replace(later.metadata, finalizers=())
    await world.cluster.replace(structs.replace(later, metadata=free))
    await world.gone("a")


async def test_pods_of_other_nodes_are_left_alone(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER), node_name="elsewhere")
    await world.create("b", sh(FOREVER))
    await world.until("b", is_ready)
    other = await world.pod("a")
    assert other and not other.status.container_statuses
    await world.cluster.delete(Pod, "a", "default", grace_period_s=0)
