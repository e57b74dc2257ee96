from __future__ import annotations

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import MEMORY_ANNOTATION, DeviceRequest, Gpu, MigInstance, Sharing
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.device_resources import device_counts, mig_resource, profile_of
from penstock.decide.pod_requests import needs_of
from penstock.resources.core import Taint
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements


def gpu(kind: str, index: int = 0, **more: object) -> Gpu:
    return Gpu(index=index, uuid=f"GPU-{kind}-{index}", type=find_gpu_type(kind), **more)


def fleet(*gpus: Gpu) -> Fleet:
    return Fleet(gpus=gpus, types=load_gpu_types())


def pod(
    *limits: dict[str, str],
    memory: str = "",
    selector: dict[str, str] | None = None,
    init: dict[str, str] | None = None,
) -> Pod:
    containers = tuple(
        Container(name=f"c{i}", resources=ResourceRequirements(limits=given))
        for i, given in enumerate(limits)
    )
    first = (Container(name="init", resources=ResourceRequirements(limits=init)),) if init else ()
    annotations = {MEMORY_ANNOTATION: memory} if memory else {}
    return Pod(
        metadata=ObjectMeta(name="p", annotations=annotations),
        spec=PodSpec(containers=containers, init_containers=first, node_selector=selector or {}),
    )


def refused(answer: tuple[DeviceRequest, ...] | str) -> str:
    assert isinstance(answer, str)
    return answer


H100 = fleet(gpu("h100-80gb"), gpu("l4", 1))


def test_a_pod_without_gpus_asks_for_none() -> None:
    assert asked(pod({"cpu": "1"}), H100) == ()


def test_whole_gpus_are_asked_for_by_number_and_container() -> None:
    assert asked(pod({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "1"}), H100) == (
        DeviceRequest(container="c0", resource="nvidia.com/gpu", count=2),
        DeviceRequest(container="c1", resource="nvidia.com/gpu", count=1),
    )


def test_init_containers_use_what_the_others_hold() -> None:
    assert len(asked(pod({"nvidia.com/gpu": "2"}, init={"nvidia.com/gpu": "2"}), H100)) == 1
    more = asked(pod({"nvidia.com/gpu": "2"}, init={"nvidia.com/gpu": "3"}), H100)
    assert [(one.container, one.count) for one in more if isinstance(one, DeviceRequest)] == [
        ("c0", 2),
        ("init", 1),
    ]


def test_half_a_gpu_is_refused_with_the_way_to_get_one() -> None:
    assert MEMORY_ANNOTATION in refused(asked(pod({"nvidia.com/gpu": "500m"}), H100))


def test_a_selector_in_any_providers_words_limits_the_types() -> None:
    answer = asked(pod({"nvidia.com/gpu": "1"}, selector={"accelerator": "nvidia-l4"}), H100)
    assert isinstance(answer, tuple)
    assert answer[0].types == {"l4"}


def test_selectors_that_no_gpu_can_satisfy_together_are_explained() -> None:
    selector = {"accelerator": "nvidia-l4", "gpu.nvidia.com/class": "H100_PCIE"}
    text = refused(asked(pod({"nvidia.com/gpu": "1"}, selector=selector), H100))
    assert "contradicts itself" in text
    assert "accelerator: nvidia-l4 (that is l4)" in text


def test_a_profile_that_a_gpu_has_is_asked_for_by_its_name() -> None:
    answer = asked(pod({"nvidia.com/mig-1g.10gb.me": "2"}), H100)
    assert isinstance(answer, tuple)
    assert (answer[0].profile, answer[0].count) == ("1g.10gb+me", 2)


def test_a_profile_that_no_gpu_has_is_answered_with_those_it_has() -> None:
    text = refused(asked(pod({"nvidia.com/mig-1g.5gb": "1"}), H100))
    assert (
        "h100-80gb has 1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb; l4 has none" in text
    )
    assert "did you mean nvidia.com/mig-1g.10gb?" in text


def test_without_any_gpu_the_answer_is_left_to_placement() -> None:
    assert isinstance(asked(pod({"nvidia.com/mig-1g.5gb": "1"}), fleet()), tuple)


def test_memory_of_a_gpu_needs_no_other_word() -> None:
    assert asked(pod({}, memory="10Gi"), H100) == (
        DeviceRequest(container="c0", milli=0, memory_bytes=10 << 30),
    )


def test_memory_beside_gpus_is_of_each_of_them() -> None:
    assert asked(pod({"nvidia.com/gpu": "2"}, memory="10Gi"), H100) == (
        DeviceRequest(container="c0", resource="nvidia.com/gpu", count=2, milli=0, memory_bytes=10 << 30),
    )


@pytest.mark.parametrize(
    ("memory", "limits", "words"),
    [
        ("100Gi", {}, "the largest GPU that will do (h100-80gb) has 79.6Gi"),
        ("ten", {}, "expected a size above zero"),
        ("0", {}, "expected a size above zero"),
        ("10Gi", {"nvidia.com/mig-1g.10gb": "1"}, "not for both"),
    ],
)
def test_memory_that_cannot_be_had_is_explained(memory: str, limits: dict[str, str], words: str) -> None:
    assert words in refused(asked(pod(limits, memory=memory), H100))


SHARED = Sharing(strategy="time-slicing", replicas=4, resource="nvidia.com/gpu.shared", refuses_many=True)


def test_replicas_are_asked_for_by_the_shared_name() -> None:
    answer = asked(pod({"nvidia.com/gpu.shared": "1"}), fleet(gpu("t4", sharing=SHARED)))
    assert isinstance(answer, tuple)
    assert answer[0].is_shared


def test_a_shared_name_that_no_node_has_is_explained() -> None:
    assert "they are nvidia.com/gpu" in refused(asked(pod({"nvidia.com/gpu.shared": "1"}), H100))


def test_several_replicas_are_refused_where_the_node_says_so() -> None:
    text = refused(asked(pod({"nvidia.com/gpu.shared": "2"}), fleet(gpu("t4", sharing=SHARED))))
    assert "expected 1" in text


def test_a_node_offers_its_gpus_under_the_device_plugins_names() -> None:
    instances = (
        MigInstance(uuid="MIG-1", profile="1g.10gb", start=0),
        MigInstance(uuid="MIG-2", profile="1g.10gb+me", start=1),
    )
    gpus = (
        gpu("h100-80gb", 0),
        gpu("h100-80gb", 1, is_mig=True, instances=instances),
        gpu("t4", 2, sharing=SHARED),
        gpu("t4", 3, taints=(Taint(key="nvidia.com/xid", effect="NoSchedule"),)),
    )
    assert device_counts(gpus) == {
        "nvidia.com/gpu": 1,
        "nvidia.com/mig-1g.10gb": 1,
        "nvidia.com/mig-1g.10gb.me": 1,
        "nvidia.com/gpu.shared": 4,
    }


def test_with_strategy_single_instances_are_gpus() -> None:
    instances = tuple(MigInstance(uuid=f"MIG-{i}", profile="1g.10gb", start=i) for i in range(7))
    assert device_counts([gpu("h100-80gb", is_mig=True, mig_strategy="single", instances=instances)]) == {
        "nvidia.com/gpu": 7
    }


def test_a_gpu_partitioned_as_needed_counts_for_each_profile() -> None:
    assert device_counts([gpu("a30", is_mig=True)])["nvidia.com/mig-2g.12gb"] == 2


@pytest.mark.parametrize("kind", [one.name for one in load_gpu_types() if one.profiles])
def test_names_of_mig_resources_mean_their_profiles(kind: str) -> None:
    for profile in find_gpu_type(kind).profiles:
        assert profile_of(mig_resource(profile.name)) == profile.name


def test_a_pod_that_takes_memory_of_gpus_is_not_counted_as_taking_gpus() -> None:
    assert "nvidia.com/gpu" not in needs_of(pod({"nvidia.com/gpu": "1"}, memory="10Gi"))
    assert needs_of(pod({"nvidia.com/gpu": "1"}))["nvidia.com/gpu"] == 1
