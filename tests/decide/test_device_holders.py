from __future__ import annotations

import msgspec

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Share, Sharing
from penstock.decide.device_holders import GpuView, gpu_views, held_gpus, picture
from penstock.resources.core import Taint
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec, PodStatus

A100 = find_gpu_type("a100-80gb")
T4 = find_gpu_type("t4")


def pod(name: str, *shares: Share, phase: str = "Running") -> Pod:
    annotations = {DEVICES_ANNOTATION: msgspec.json.encode(shares).decode()}
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", annotations=annotations),
        spec=PodSpec(node_name="n"),
        status=PodStatus(phase=phase),
    )


def view(gpu: Gpu, *pods: Pod) -> GpuView:
    (found,) = gpu_views({"n": (gpu,)}, pods)
    return found


def test_instances_are_shown_where_they_lie() -> None:
    gpu = Gpu(index=0, uuid="G", type=A100, is_mig=True)
    found = view(
        gpu,
        pod("a", Share(gpu="G", profile="3g.40gb", start=4)),
        pod("b", Share(gpu="G", profile="1g.10gb", start=0)),
    )
    assert picture(found) == "[b|.|.|.|a|a|a|a]"
    assert found.free_slices == (1, 2, 3)
    assert [(one.what, one.memory_bytes >> 20) for one in found.holdings] == [
        ("3g.40gb at 4", 40192),
        ("1g.10gb at 0", 9856),
    ]
    assert found.free_bytes >> 20 == 81920 - 40192 - 9856


def test_parts_of_memory_are_drawn_to_scale_and_the_smallest_still_shows() -> None:
    gpu = Gpu(index=0, uuid="G", type=T4)
    half, tiny = Share(gpu="G", memory_bytes=T4.memory_bytes // 2), Share(gpu="G", memory_bytes=1 << 20)
    assert picture(view(gpu, pod("a", half), pod("b", tiny))) == "[aaaaaaaaaaaab...........]"
    assert picture(view(gpu, pod("a", Share(gpu="G", milli=1000)))) == f"[{'a' * 24}]"
    assert picture(view(gpu)) == f"[{'.' * 24}]"


def test_time_slices_hold_no_memory_of_their_own() -> None:
    gpu = Gpu(index=0, uuid="G", type=T4, sharing=Sharing(strategy="time-slicing", replicas=4))
    found = view(gpu, pod("a", Share(gpu="G", replica=1)))
    assert (found.mode, found.holdings[0].what, found.free_bytes) == (
        "time-slicing",
        "replica 2 of 4",
        T4.memory_bytes,
    )


def test_pods_that_ended_hold_nothing_and_faults_are_named() -> None:
    gpu = Gpu(
        index=0, uuid="G", type=T4, taints=(Taint(key="gpu.nvidia.com/xid", value="79", effect="NoExecute"),)
    )
    found = view(gpu, pod("a", Share(gpu="G", milli=1000), phase="Succeeded"))
    assert (found.holdings, found.problem) == ((), "gpu.nvidia.com/xid=79:NoExecute")


def test_what_a_pod_holds_is_told_in_words() -> None:
    whole = tuple(Gpu(index=i, uuid=f"G{i}", type=T4) for i in (0, 1))
    parted = Gpu(index=2, uuid="M", type=A100, is_mig=True)
    two = pod("two", *(Share(gpu=one.uuid, milli=1000) for one in whole))
    small = pod("small", Share(gpu="M", profile="1g.10gb", start=0))
    assert held_gpus({"n": (*whole, parted)}, [two, small, pod("none")]) == {
        "default/two": "0 and 1 (t4)",
        "default/small": "2 (a100-80gb, 1g.10gb at 0)",
    }


def test_what_a_claim_gives_to_several_pods_is_held_once_and_who_only_looks_holds_nothing() -> None:
    gpu = Gpu(index=0, uuid="GPU-c", type=find_gpu_type("l4"))
    part = '[{"gpu":"GPU-c","memory_bytes":8589934592,"claim":"mine","request":"r","device":"gpu-0"}]'
    looks = '[{"gpu":"GPU-c","claim":"mine","request":"a","device":"gpu-0","is_admin":true}]'
    pods = [
        Pod(
            metadata=ObjectMeta(
                name=name, namespace="default", uid=name, annotations={DEVICES_ANNOTATION: held}
            ),
            spec=PodSpec(node_name="n", resource_claims=({"name": "mine", "resourceClaimName": claim},)),
        )
        for name, held, claim in (("p", part, "c"), ("q", part, "c"), ("watcher", looks, "w"))
    ]
    [view] = gpu_views({"n": (gpu,)}, pods)
    assert [one.pod for one in view.holdings] == ["p", "q"]
    assert view.free_bytes == gpu.type.memory_bytes - (8 << 30)
