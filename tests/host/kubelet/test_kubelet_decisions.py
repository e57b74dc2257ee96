"""The kubelet's pure parts: expansion, rewriting, probe thresholds, restart back-off, phases."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.host.kubelet.expansion import expand
from penstock.host.kubelet.fields import field_value, resource_value
from penstock.host.kubelet.mounts import Mounts, below, mounts_of
from penstock.host.kubelet.probing import ProbeRule, ProbeState, observe, pause_s, rule_of
from penstock.host.kubelet.restart import Crashes, after_exit, restarts
from penstock.host.kubelet.status import Observed, phase_of, pod_status, qos_class
from penstock.kit.errors import Invalid
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ExecAction,
    Pod,
    PodSpec,
    PodStatus,
    Probe,
    ResourceFieldSelector,
    ResourceRequirements,
    VolumeMount,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(LOOP)", "$(A)"),
        ("", ""),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "LOOP": "$(A)"}) == expected


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_a_dollar_is_never_changed(text: str) -> None:
    assert expand(text, {"A": "1"}) == text


MOUNTS = Mounts({"/mnt/models": Path("/p/m"), "/mnt/models/adapters": Path("/p/a"), "/data/": Path("/p/d")})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/models", "/p/m"),
        ("/mnt/models/", "/p/m/"),
        ("/mnt/models/x/y.bin", "/p/m/x/y.bin"),
        ("--model=/mnt/models", "--model=/p/m"),
        ("--lora=a=/mnt/models/adapters/one", "--lora=a=/p/a/one"),
        ("/data:/mnt/models:/other", "/p/d:/p/m:/other"),
        ("file:///mnt/models/x", "file:///p/m/x"),
        ("cat /mnt/models/a '/data/b' \"/data\"", "cat /p/m/a '/p/d/b' \"/p/d\""),
        ('{"path":"/data","n":1}', '{"path":"/p/d","n":1}'),
        ("see /data.", "see /p/d."),
        ("/mnt/models2", "/mnt/models2"),
        ("/mnt/models.bak", "/mnt/models.bak"),
        ("/mnt/models-old", "/mnt/models-old"),
        ("/srv/mnt/models", "/srv/mnt/models"),
        ("/srv/data", "/srv/data"),
        ("../data", "../data"),
        ("https://host/data", "https://host/data"),
        ("mnt/models", "mnt/models"),
    ],
)
def test_mount_paths_are_rewritten_at_boundaries_only(text: str, expected: str) -> None:
    assert MOUNTS.rewrite(text) == expected


def test_a_rewritten_path_is_not_rewritten_again() -> None:
    assert Mounts({"/data": Path("/data/pods/1/data")}).rewrite("/data/x") == "/data/pods/1/data/x"


def test_sub_paths_stay_in_their_volume(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    assert below(root, "a/b", "f").is_dir()
    for bad in ("../x", "a/../../x", "/etc", "out/x", "a/.."):
        with pytest.raises(Invalid, match="leads out of the volume"):
            below(root, bad, "f")


def test_a_mount_needs_a_volume_and_a_path_below_the_root(tmp_path: Path) -> None:
    for mount, message in [
        (VolumeMount(name="nope", mount_path="/x"), "no volume named 'nope'"),
        (VolumeMount(name="v", mount_path="/"), "expected an absolute path below /"),
        (VolumeMount(name="v", mount_path="x"), "expected an absolute path below /"),
    ]:
        with pytest.raises(Invalid, match=message):
            mounts_of(Container(name="c", volume_mounts=(mount,)), {"v": tmp_path}, {})


def test_a_sub_path_may_name_variables(tmp_path: Path) -> None:
    mount = VolumeMount(name="v", mount_path="/x", sub_path_expr="$(POD)/logs")
    found = mounts_of(Container(name="c", volume_mounts=(mount,)), {"v": tmp_path}, {"POD": "a"})
    assert found.rewrite("/x") == str(tmp_path / "a" / "logs")


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy: str, code: int, expected: bool) -> None:
    assert restarts(policy, code) is expected


def test_back_off_doubles_from_ten_seconds_to_five_minutes_and_forgets_after_ten() -> None:
    crashes, delays = Crashes(), []
    for _ in range(9):
        crashes, delay_s = after_exit(crashes, ran_s=1)
        delays.append(delay_s)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert after_exit(crashes, ran_s=599)[1] == 300
    assert after_exit(crashes, ran_s=600) == (Crashes(1), 0)


def test_a_probe_has_kubernetes_defaults() -> None:
    assert rule_of(Probe(), eager=False) == ProbeRule(0.0, 10.0, 1.0, 1, 3, None)
    assert rule_of(Probe(exec=ExecAction()), eager=True).eager_s == 1.0


def run(rule: ProbeRule, answers: str) -> list[bool | None]:
    """`+`/`-` are counted answers, `p`/`m` the same between two periods."""
    state, verdicts = ProbeState(), []
    for answer in answers:
        state = observe(state, rule, ok=answer in "+p", counted=answer in "+-")
        verdicts.append(state.verdict)
    return verdicts


@pytest.mark.parametrize(
    ("rule", "answers", "expected"),
    [
        (ProbeRule(), "+", [True]),
        (ProbeRule(), "---", [None, None, False]),
        (ProbeRule(), "mmmmm", [None] * 5),
        (ProbeRule(), "-mm-mm-", [None, None, None, None, None, None, False]),
        (ProbeRule(), "mp", [None, True]),
        (ProbeRule(), "+--+--", [True, True, True, True, True, True]),
        (ProbeRule(), "+---+", [True, True, True, False, True]),
        (ProbeRule(success_threshold=2), "+-++", [None, None, None, True]),
        (ProbeRule(success_threshold=2), "pmpp", [None, None, None, True]),
    ],
)
def test_thresholds(rule: ProbeRule, answers: str, expected: list[bool | None]) -> None:
    assert run(rule, answers) == expected


@given(st.text(alphabet="m", max_size=50))
def test_answers_between_periods_never_fail_a_container(answers: str) -> None:
    assert False not in run(ProbeRule(failure_threshold=1), answers)


@pytest.mark.parametrize(
    ("since_start_s", "until_counted_s", "seen", "eager", "expected"),
    [
        (0.0, 10.0, False, 0.1, 0.1),
        (5.0, 10.0, False, 0.1, 0.5),
        (100.0, 10.0, False, 0.1, 1.0),
        (100.0, 0.3, False, 0.1, 0.3),
        (0.0, 10.0, True, 0.1, 10.0),
        (0.0, 10.0, False, None, 10.0),
        (0.0, -1.0, True, 0.1, 0.0),
    ],
)
def test_probes_hurry_until_the_first_success(
    since_start_s: float, until_counted_s: float, seen: bool, eager: float | None, expected: float
) -> None:
    rule = ProbeRule(eager_s=eager)
    found = pause_s(rule, since_start_s=since_start_s, until_counted_s=until_counted_s, seen_success=seen)
    assert found == pytest.approx(expected)


RUNNING = ContainerState(running=ContainerStateRunning())
WAITING = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))


def ended(code: int) -> ContainerState:
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code))


def status(state: ContainerState, last: ContainerState | None = None, name: str = "c") -> ContainerStatus:
    ready = state.running is not None
    return ContainerStatus(
        name=name,
        image="x",
        ready=ready,
        restart_count=0,
        state=state,
        last_state=last or ContainerState(),
        started=ready,
    )


@pytest.mark.parametrize(
    ("policy", "init", "containers", "expected"),
    [
        ("Always", [], [status(WAITING)], "Pending"),
        ("Always", [], [status(RUNNING)], "Running"),
        ("Always", [], [status(RUNNING), status(WAITING)], "Pending"),
        ("Always", [], [status(WAITING, ended(1))], "Running"),
        ("Always", [], [status(ended(0))], "Running"),
        ("Never", [], [status(ended(0))], "Succeeded"),
        ("Never", [], [status(ended(0)), status(ended(1))], "Failed"),
        ("Never", [], [status(ended(1)), status(RUNNING)], "Running"),
        ("OnFailure", [], [status(ended(0))], "Succeeded"),
        ("OnFailure", [], [status(WAITING, ended(1))], "Running"),
        ("Always", [status(RUNNING, name="i")], [status(WAITING)], "Pending"),
        ("Always", [status(ended(0), name="i")], [status(RUNNING)], "Running"),
        ("Never", [status(ended(1), name="i")], [status(WAITING)], "Failed"),
        ("Always", [status(WAITING, ended(1), name="i")], [status(WAITING)], "Pending"),
        ("Never", [status(RUNNING, name="side")], [status(ended(0))], "Running"),
        ("Never", [status(ended(137), name="side")], [status(ended(0))], "Succeeded"),
    ],
)
def test_phase(
    policy: str, init: list[ContainerStatus], containers: list[ContainerStatus], expected: str
) -> None:
    side = Container(name="side", restart_policy="Always")
    pod = Pod(spec=PodSpec(restart_policy=policy, init_containers=(Container(name="i"), side)))
    assert phase_of(pod, init, containers) == expected


def test_transition_times_change_only_with_the_status() -> None:
    pod = Pod(spec=PodSpec(containers=(Container(name="c"),)))
    up = pod_status(pod, Observed("127.2.0.1", 10.0, (), (status(RUNNING),)), now=20.0)
    again = pod_status(
        Pod(spec=pod.spec, status=up), Observed("127.2.0.1", 10.0, (), (status(RUNNING),)), now=30.0
    )
    down = pod_status(
        Pod(spec=pod.spec, status=up), Observed("127.2.0.1", 10.0, (), (status(WAITING),)), now=40.0
    )
    assert again == up
    changed = {a.type for a, b in zip(down.conditions, up.conditions, strict=True) if a != b}
    assert changed == {"ContainersReady", "Ready"}
    ready = next(each for each in down.conditions if each.type == "Ready")
    assert (ready.reason, ready.message) == ("ContainersNotReady", "containers with unready status: [c]")


def test_conditions_of_others_are_kept_and_gates_are_respected() -> None:
    gate = Condition(type="example.com/gate", status="False")
    spec = PodSpec(
        containers=(Container(name="c"),), readiness_gates=({"conditionType": "example.com/gate"},)
    )
    pod = Pod(spec=spec, status=PodStatus(conditions=(gate,)))
    found = {
        c.type: c for c in pod_status(pod, Observed("", 0.0, (), (status(RUNNING),)), now=1.0).conditions
    }
    assert found["example.com/gate"] == gate
    assert found["ContainersReady"].status == "True"
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "ReadinessGatesNotReady")


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"cpu": "1", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}, "Burstable"),
    ],
)
def test_qos_class(requests: dict[str, str], limits: dict[str, str], expected: str) -> None:
    resources = ResourceRequirements(requests=dict(requests), limits=dict(limits))
    assert qos_class(Pod(spec=PodSpec(containers=(Container(name="c", resources=resources),)))) == expected


def test_the_downward_api_gives_fields_and_resources() -> None:
    resources = ResourceRequirements(limits={"cpu": "1500m", "memory": "1Gi"})
    container = Container(name="c", resources=resources)
    meta = ObjectMeta(name="p", namespace="ns", labels={"a": "1", "b": 'say "x"'}, annotations={"k/x": "y"})
    pod = Pod(metadata=meta, spec=PodSpec(containers=(container,)), status=PodStatus(pod_ip="127.2.0.9"))
    assert field_value(pod, "metadata.name") == "p"
    assert field_value(pod, "metadata.labels['a']") == "1"
    assert field_value(pod, "metadata.annotations['k/x']") == "y"
    assert field_value(pod, "metadata.labels['missing']") == ""
    assert field_value(pod, "metadata.labels") == 'a="1"\nb="say \\"x\\""'
    assert field_value(pod, "spec.serviceAccountName") == "default"
    assert field_value(pod, "status.podIP") == "127.2.0.9"
    with pytest.raises(Invalid, match=r"found 'spec\.secret'"):
        field_value(pod, "spec.secret")
    node = {"cpu": 8.0, "memory": 2.0**34}

    def value(resource: str, divisor: str | None = None) -> str:
        return resource_value(pod, container, ResourceFieldSelector(resource=resource, divisor=divisor), node)

    assert value("limits.cpu") == "2", "rounded up"
    assert value("limits.cpu", "1m") == "1500"
    assert value("limits.memory", "1Mi") == "1024"
    assert value("requests.cpu", "1m") == "1500"
    bare = Container(name="c")
    wish = ResourceFieldSelector(resource="limits.cpu")
    assert resource_value(pod, bare, wish, node) == "8"
