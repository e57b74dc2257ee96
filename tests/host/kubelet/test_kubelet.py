"""How pods start and what they get: real processes, and a cluster in memory."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from kubelet_world import FOREVER, World, condition, is_ready, main_status, sh, waiting_reason

from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.layout import Layout
from penstock.kit.clock import SystemClock
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import (
    ConfigMapVolumeSource,
    Container,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvFromTarget,
    EnvVar,
    EnvVarSource,
    KeySelector,
    ObjectFieldSelector,
    Pod,
    SecretVolumeSource,
    Volume,
    VolumeMount,
)


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


class LateClock(SystemClock):
    """Whatever happens, it is seen three seconds later."""

    def now(self) -> float:
        return super().now() + 3.0


async def test_a_crashing_container_backs_off_and_says_so(world: World) -> None:
    world.clock = LateClock()
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


async def test_what_needs_no_process_is_done_without_one_and_leaves_the_same_traces(world: World) -> None:
    await world.up()
    quick = Container(name="quick", image="any", command=("echo", "at once, in one line"))
    pod = await world.create("a", sh("sleep 30"), init_containers=(quick,))
    pod = await world.until("a", is_ready)
    [status] = pod.status.init_container_statuses
    assert status.state.terminated and status.state.terminated.exit_code == 0
    assert status.state.terminated.reason == "Completed"
    folder = next(world.home.glob(f"nodes/*/pods/{pod.metadata.uid}"))
    [attempt] = attempts(folder / "containers" / "quick")
    assert not attempt.is_running()
    assert attempt.log.read_text().endswith(" stdout F at once, in one line\n")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", attempt.log.read_text())
    await world.down()
    await world.up()
    await asyncio.sleep(0.3)
    again = await world.cluster.get(Pod, "a", "default")
    [kept] = again.status.init_container_statuses
    assert kept.state == status.state, "it is not done twice"


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


async def test_a_missing_volume_is_waited_for_and_said(world: World) -> None:
    await world.up()
    container = sh("cat /conf/k; sleep 30", volume_mounts=(VolumeMount(name="conf", mount_path="/conf"),))
    await world.create(
        "a", container, volumes=(Volume(name="conf", config_map=ConfigMapVolumeSource(name="c")),)
    )
    pod = await world.until(
        "a",
        lambda pod: (
            waiting_reason(pod) == "ContainerCreating"
            and "FailedMount" in world.events.reasons()
            and (waiting := main_status(pod).state.waiting)
            and 'configmap "c" not found' in waiting.message
        ),
    )
    await world.cluster.create(ConfigMap(metadata=ObjectMeta(name="c", namespace="default"), data={"k": "v"}))
    pod = await world.until("a", is_ready)
    await world.until_logged(pod, "v")


async def test_pods_of_other_nodes_are_left_alone(world: World) -> None:
    await world.up()
    await world.create("a", sh(FOREVER), node_name="elsewhere")
    await world.create("b", sh(FOREVER))
    await world.until("b", is_ready)
    other = await world.pod("a")
    assert other and not other.status.container_statuses
    await world.cluster.delete(Pod, "a", "default", grace_period_s=0)
