from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu, MigInstance
from penstock.decide.device_claims import Claims, devices_seen
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.gpu_affinity import REQUIRED
from penstock.decide.kubernetes_gpus import ClusterPod, for_cluster
from penstock.decide.work_priority import SUGGESTED
from penstock.resources.admission import admit
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import (
    Container,
    EnvVar,
    Pod,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Toleration,
)

TYPES = load_gpu_types()
GIB = 1 << 30
MEMORY = "penstock.dev/gpu-memory"


def container(name: str = "main", env: dict[str, str] | None = None, **limits: str) -> Container:
    given = {key.replace("__", "/"): value for key, value in limits.items()}
    return Container(
        name=name,
        env=tuple(EnvVar(name=key, value=value) for key, value in (env or {}).items()),
        resources=ResourceRequirements(
            limits={f"nvidia.com/{k}" if k != "cpu" else k: v for k, v in given.items()}
        ),
    )


def template(*containers: Container, memory: str = "", **spec: Any) -> PodTemplateSpec:
    annotations = {"kept": "yes", **({MEMORY: memory} if memory else {})}
    return PodTemplateSpec(
        metadata=ObjectMeta(annotations=annotations), spec=PodSpec(containers=containers, **spec)
    )


def plugin(given: PodTemplateSpec, **more: Any) -> ClusterPod:
    return for_cluster(given, "device-plugin", TYPES, name="llm", **more)


def dra(given: PodTemplateSpec, **more: Any) -> ClusterPod:
    return for_cluster(given, "dra", TYPES, name="llm", namespace="ml", **more)


def limits(made: ClusterPod, index: int = 0) -> dict[str, Any]:
    resources = made.template.spec.containers[index].resources
    return dict(resources.limits) if resources else {}


def variables(one: Container) -> dict[str, str | None]:
    return {env.name: env.value for env in one.env}


def granted(made: ClusterPod, *gpus: Gpu) -> Any:
    """What our own host makes of the rendered pod: its claim, as the driver's words are understood here."""
    assert made.claim is not None
    pod = Pod(metadata=made.template.metadata, spec=made.template.spec)
    claims = Claims(specs={"penstock-gpus": made.claim.spec.spec})
    return asked(pod, Fleet(gpus=gpus, types=TYPES, claims=claims))


def that_will_do(made: ClusterPod, *gpus: Gpu) -> list[set[str]]:
    """Of each request of the claim, the devices that meet its conditions."""
    return [
        {
            seen.gpu.uuid
            for way in request.ways
            for one in gpus
            for seen in devices_seen(way.conditions, one)
            if not seen.why_not
        }
        for request in granted(made, *gpus)
    ]


def gpu(name: str, **more: Any) -> Gpu:
    return Gpu(index=0, uuid=f"GPU-{name}", type=find_gpu_type(name), **more)


def test_whole_gpus_are_limits_and_pods_tolerate_what_keeps_others_off_such_nodes():
    resources = ResourceRequirements(requests={"nvidia.com/gpu": 2, "cpu": "1"}, limits={"memory": "8Gi"})
    made = plugin(template(Container(name="main", resources=resources)))
    assert made.template.spec.containers[0].resources == ResourceRequirements(
        requests={"cpu": "1"}, limits={"memory": "8Gi", "nvidia.com/gpu": "2"}
    )
    assert made.template.spec.tolerations == (
        Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
    )
    assert made.claim is None


def test_a_toleration_that_is_there_is_enough():
    everything = (Toleration(operator="Exists"),)
    assert (
        plugin(template(container(gpu="1"), tolerations=everything)).template.spec.tolerations == everything
    )


def test_types_are_alternatives_of_labels_for_the_device_plugin_and_a_condition_for_claims():
    given = template(container(gpu="1"), node_selector={"accelerator": "h100", "pool": "x"})
    labelled = plugin(given).template.spec
    assert labelled.node_selector == {"pool": "x"}
    assert len(labelled.affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]) > 5
    claiming = dra(given)
    assert claiming.template.spec.node_selector == {"pool": "x"}
    assert claiming.template.spec.affinity is None
    assert that_will_do(claiming, gpu("l4"), gpu("h100-80gb")) == [{"GPU-h100-80gb"}]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_a_claim_takes_devices_of_the_type_and_no_others(kind):
    made = dra(template(container(gpu="1"), node_selector={"accelerator": kind.name}))
    everyone = [Gpu(index=i, uuid=one.name, type=one) for i, one in enumerate(TYPES)]
    assert that_will_do(made, *everyone) == [{kind.name}]


def test_a_claim_asks_for_each_container_and_helpers_use_what_the_others_hold():
    given = template(
        container("a", gpu="2", cpu="1"),
        container("b", **{"mig-1g.10gb": "1"}),
        container("c"),
        init_containers=(container("warm", gpu="1"), container("fetch")),
    )
    made = dra(given)
    assert made.claim is not None
    requests = made.claim.spec.spec.devices.requests
    assert [
        (one.name, one.exactly.device_class_name, one.exactly.count) for one in requests if one.exactly
    ] == [
        ("gpu-0", "gpu.nvidia.com", 2),
        ("gpu-1", "mig.nvidia.com", 1),
    ]
    spec = made.template.spec
    claims = {
        one.name: one.resources.claims for one in (*spec.containers, *spec.init_containers) if one.resources
    }
    own = "penstock-gpus"
    assert claims == {
        "a": ({"name": own, "request": "gpu-0"},),
        "b": ({"name": own, "request": "gpu-1"},),
        "c": (),
        "warm": ({"name": own},),
        "fetch": (),
    }
    assert limits(made) == {"cpu": "1"}
    assert spec.resource_claims == ({"name": own, "resourceClaimTemplateName": made.claim.metadata.name},)
    parts = (MigInstance(uuid="MIG-1", profile="1g.10gb", start=0),)
    found = granted(made, gpu("h100-80gb"), gpu("a100-80gb", is_mig=True, instances=parts))
    assert [(one.count, one.profile) for one in found] == [(2, ""), (1, "1g.10gb")]


def test_a_part_by_memory_is_capacity_for_claims():
    made = dra(template(container(gpu="2"), memory="20Gi"))
    assert made.claim is not None
    devices = made.claim.spec.spec.devices
    wish = devices.requests[0].exactly
    assert wish is not None
    assert wish.capacity is not None
    assert wish.capacity.requests == {"memory": "20Gi"}
    assert devices.constraints[0].distinct_attribute == "gpu.nvidia.com/uuid"
    assert variables(made.template.spec.containers[0])["PENSTOCK_GPU_MEMORY_BYTES"] == str(20 * GIB)
    assert made.template.metadata.annotations == {"kept": "yes"}
    alone = dra(template(container(), memory="20Gi"))
    assert [one.memory_bytes for one in granted(alone, gpu("l4"))] == [20 * GIB]


def test_a_part_by_memory_is_one_of_equal_parts_for_the_device_plugin():
    made = plugin(template(container(), memory="20Gi", node_selector={"accelerator": "h100-80gb"}))
    assert limits(made) == {"nvidia.com/gpu.shared": "1"}
    assert made.sharing is not None
    assert (made.sharing.strategy, made.sharing.replicas) == ("mps", 3)
    assert made.template.spec.node_selector == {"nvidia.com/device-plugin.config": "mps-3"}
    assert variables(made.template.spec.containers[0]) == {"PENSTOCK_GPU_MEMORY_BYTES": str(20 * GIB)}
    most = plugin(template(container(gpu="1"), memory="60Gi", node_selector={"accelerator": "a100"}))
    assert limits(most) == {"nvidia.com/gpu": "1"}
    assert most.sharing is None
    names = [
        term["matchExpressions"][0]["values"]
        for term in most.template.spec.affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    ]
    assert not any("nvidia-tesla-a100" in some for some in names)


@pytest.mark.parametrize(
    ("style", "given", "said"),
    [
        ("dra", template(container(**{"gpu.shared": "1"})), "a claim cannot say a replica of a shared GPU"),
        ("device-plugin", template(container(), memory="20Gi"), "name one in the nodeSelector"),
        (
            "device-plugin",
            template(container(gpu="2"), memory="20Gi", node_selector={"accelerator": "h100-80gb"}),
            "one part of one GPU",
        ),
        ("dra", template(container(), memory="90Gi", node_selector={"accelerator": "l4"}), "(l4) has 22."),
        ("dra", template(container(**{"mig-9g.1gb": "1"})), "no GPU that will do has the MIG profile 9g.1gb"),
        (
            "device-plugin",
            template(container(**{"mig-1g.18gb": "1"}), node_selector={"accelerator": "h100-80gb"}),
            "h100-80gb has 1g.10gb",
        ),
        (
            "dra",
            template(container(**{"mig-1g.18gb": "1", "mig-1g.6gb": "1"})),
            "a node's GPUs are of one type",
        ),
        (
            "dra",
            template(container(), node_selector={"accelerator": "l4", "gpu.nvidia.com/class": "A40"}),
            "nodeSelector contradicts itself",
        ),
        ("dra", template(container(gpu="0.5")), "expected a whole number"),
    ],
)
def test_what_a_cluster_could_never_give_is_told_with_what_would_do(style, given, said):
    made = for_cluster(given, style, TYPES, name="x")
    assert said in made.failure
    assert made.template == given


@pytest.mark.parametrize("style", ["device-plugin", "dra"])
def test_containers_without_devices_see_none(style):
    given = template(
        container("engine", gpu="1"),
        container("sidecar"),
        container("watcher", env={"NVIDIA_VISIBLE_DEVICES": "all"}),
        Container(name="claiming", resources=ResourceRequirements(claims=({"name": "mine"},))),
        init_containers=(Container(name="fetch"),),
        resource_claims=({"name": "mine", "resourceClaimName": "there"},),
    )
    spec = for_cluster(given, style, TYPES, name="x").template.spec
    seen = {
        one.name: variables(one).get("NVIDIA_VISIBLE_DEVICES")
        for one in (*spec.containers, *spec.init_containers)
    }
    assert seen == {"engine": None, "sidecar": "void", "watcher": "all", "claiming": None, "fetch": "void"}
    assert spec.resource_claims[0] == {"name": "mine", "resourceClaimName": "there"}


def test_a_pod_without_gpus_only_hides_them():
    given = template(Container(name="main", image="x"), node_selector={"pool": "y"})
    for style in ("device-plugin", "dra"):
        made = for_cluster(given, style, TYPES, name="x")
        hidden = msgspec.structs.replace(
            given.spec.containers[0], env=(EnvVar(name="NVIDIA_VISIBLE_DEVICES", value="void"),)
        )
        assert made.template.spec == msgspec.structs.replace(given.spec, containers=(hidden,))
        assert (made.priority, made.claim, made.sharing) == (None, None, None)


def test_inference_goes_before_training_and_a_class_of_ones_own_is_kept():
    asking = container(gpu="1")
    assert plugin(template(asking)).template.spec.priority_class_name == "inference"
    training = plugin(template(asking), ends=True)
    assert training.template.spec.priority_class_name == "training"
    assert training.priority is not None
    assert (training.priority.value, training.priority.preemption_policy) == (1000, "Never")
    own = plugin(template(asking, priority_class_name="ours"))
    assert (own.template.spec.priority_class_name, own.priority) == ("ours", None)
    suggested = plugin(template(asking, priority_class_name="inference-critical"))
    assert suggested.priority == SUGGESTED["inference-critical"]
    numbered = plugin(template(asking, priority=7))
    assert (numbered.template.spec.priority_class_name, numbered.priority) == ("", None)
    for one in SUGGESTED.values():
        admit(msgspec.to_builtins(one))


def test_no_node_is_named():
    given = msgspec.structs.replace(
        template(container(gpu="1"), node_name="gpu-7"),
        metadata=ObjectMeta(annotations={"penstock.dev/devices": "[]"}),
    )
    for style in ("device-plugin", "dra"):
        made = for_cluster(given, style, TYPES, name="x").template
        assert made.spec.node_name == ""
        assert made.metadata.annotations == {}


@pytest.mark.parametrize("style", ["device-plugin", "dra"])
def test_what_was_rendered_is_not_changed_by_rendering_it_again(style):
    given = template(container(gpu="1"), container("side"), node_selector={"accelerator": "h100"})
    once = for_cluster(given, style, TYPES, name="x")
    again = for_cluster(once.template, style, TYPES, name="x")
    assert again.template == once.template


def test_a_claim_template_is_valid_and_another_one_when_another_thing_is_asked_for():
    small, large = (dra(template(container(gpu=count))).claim for count in ("1", "2"))
    assert small is not None
    assert large is not None
    assert small.metadata.name != large.metadata.name
    assert small.metadata.namespace == "ml"
    for one in (small, large, dra(template(container(gpu="3"), memory="4Gi")).claim):
        admit(msgspec.to_builtins(one), strict=True)


ASKS = st.sampled_from([{}, {"gpu": "1"}, {"gpu": "4"}, {"mig-1g.10gb": "2"}, {"gpu": "0"}, {"cpu": "2"}])


@given(st.lists(ASKS, min_size=1, max_size=4))
def test_a_pod_asks_for_as_much_as_before_in_either_way(asks: list[dict[str, str]]):
    before = template(*(container(f"c{i}", **one) for i, one in enumerate(asks)))

    def wanted(given: PodTemplateSpec) -> list[tuple[str, int, str]]:
        found = asked(Pod(metadata=given.metadata, spec=given.spec), Fleet(types=TYPES))
        assert not isinstance(found, str)
        return [(one.container, one.count, one.profile) for one in found]

    assert wanted(plugin(before).template) == wanted(before)
    claiming = dra(before)
    assert wanted(replace(claiming.template, spec=replace(claiming.template.spec, resource_claims=()))) == []
    requests = claiming.claim.spec.spec.devices.requests if claiming.claim else ()
    users = {
        one["request"]: each.name
        for each in claiming.template.spec.containers
        for one in (each.resources.claims if each.resources else ())
    }
    claimed = [(users[one.name], one.exactly.count) for one in requests if one.exactly]
    assert claimed == [(name, count) for name, count, _ in wanted(before)]
