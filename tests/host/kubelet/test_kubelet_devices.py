from __future__ import annotations

import msgspec
import pytest

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, MigInstance, Share, Sharing
from penstock.decide.device_environment import NO_DEVICES, device_environment
from penstock.host.kubelet.devices import container_devices
from penstock.kit.errors import Invalid, Unavailable
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec

H100 = find_gpu_type("h100-80gb")
A = Gpu(index=0, uuid="GPU-a", type=H100)
B = Gpu(index=1, uuid="GPU-b", type=H100)
MPS = Gpu(index=2, uuid="GPU-m", type=H100, sharing=Sharing(strategy="mps", replicas=4))
SLICED = Gpu(index=3, uuid="GPU-t", type=H100, sharing=Sharing(strategy="time-slicing", replicas=4))
MIG = Gpu(
    index=4,
    uuid="GPU-i",
    type=H100,
    is_mig=True,
    instances=(MigInstance(uuid="MIG-1", profile="1g.10gb", start=6),),
)
GPUS = {gpu.uuid: gpu for gpu in (A, B, MPS, SLICED, MIG)}


def seen(*shares: Share) -> dict[str, str]:
    found = device_environment(shares, GPUS)
    assert isinstance(found, dict)
    return found


def test_a_program_without_devices_sees_none() -> None:
    assert seen() == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}


def test_whole_gpus_are_seen_by_uuid_without_limits() -> None:
    whole = (Share(gpu="GPU-b", milli=1000, memory_bytes=H100.memory_bytes), Share(gpu="GPU-a", milli=1000))
    assert seen(*whole) == {"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a", "NVIDIA_VISIBLE_DEVICES": "GPU-b,GPU-a"}


def test_an_instance_is_seen_by_its_own_uuid_whichever_way_it_is_known() -> None:
    by_start = Share(gpu="GPU-i", profile="1g.10gb", start=6)
    assert seen(by_start)["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert seen(msgspec.structs.replace(by_start, instance="MIG-9"))["NVIDIA_VISIBLE_DEVICES"] == "MIG-9"


def test_an_instance_of_a_real_gpu_that_is_not_made_holds_the_pod_up_with_the_command_that_makes_it() -> None:
    real = msgspec.structs.replace(MIG, driver="565.57.1", instances=())
    answer = device_environment([Share(gpu="GPU-i", profile="3g.40gb", start=0)], {"GPU-i": real})
    assert isinstance(answer, str)
    assert "nvidia-smi mig -cgi 3g.40gb -C" in answer


def test_a_replica_of_mps_has_its_part_of_memory_and_compute() -> None:
    found = seen(Share(gpu="GPU-m", replica=2))
    assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == f"0={81559 // 4}M"
    assert found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"


def test_a_time_slice_has_no_limits_because_none_would_hold() -> None:
    assert set(seen(Share(gpu="GPU-t", replica=0))) == {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}


def test_a_part_by_memory_is_told_to_mps_and_to_the_engine() -> None:
    found = seen(Share(gpu="GPU-a", memory_bytes=10 << 30), Share(gpu="GPU-b", memory_bytes=10 << 30))
    assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=10240M,1=10240M"
    assert found["PENSTOCK_GPU_MEMORY_BYTES"] == str(10 << 30)


def pod(annotation: str | None) -> Pod:
    containers = (Container(name="main"), Container(name="side"))
    init = (Container(name="first"),)
    return Pod(
        metadata=ObjectMeta(name="p", annotations={DEVICES_ANNOTATION: annotation} if annotation else {}),
        spec=PodSpec(containers=containers, init_containers=init, node_name="n"),
    )


def everything(node: str) -> tuple[Gpu, ...]:
    return tuple(GPUS.values())


def test_each_container_sees_its_own_devices_and_init_containers_all_of_the_pods() -> None:
    given = msgspec.json.encode((Share(gpu="GPU-a", container="main", milli=1000),)).decode()
    here = pod(given)
    main, side = here.spec.containers
    assert container_devices(here, main, everything)["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert container_devices(here, side, everything) == NO_DEVICES
    assert (
        container_devices(here, here.spec.init_containers[0], everything)["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    )


def test_a_pod_without_devices_does_not_even_ask_what_there_are() -> None:
    here = pod(None)
    assert container_devices(here, here.spec.containers[0], lambda node: pytest.fail("asked")) == NO_DEVICES


def test_an_annotation_that_cannot_be_read_is_an_error_and_no_free_choice_of_devices() -> None:
    here = pod("[{")
    with pytest.raises(Invalid, match=r"annotations\[penstock.dev/devices\]"):
        container_devices(here, here.spec.containers[0], lambda node: ())


def test_what_is_still_to_be_made_can_be_waited_for() -> None:
    real = msgspec.structs.replace(MIG, driver="565", instances=())
    given = msgspec.json.encode((Share(gpu="GPU-i", profile="3g.40gb", start=0),)).decode()
    with pytest.raises(Unavailable, match="does not exist yet"):
        container_devices(pod(given), pod(given).spec.containers[0], lambda node: (real,))
