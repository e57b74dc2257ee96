"""What the platform makes of a real GPU: discovery, health, readings, and a process that is placed on it. `make test-gpu` runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Share
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.device_slices import gpus_of, slices_of
from penstock.decide.gpu_labels import gpu_labels
from penstock.decide.inventory import take_stock
from penstock.decide.placement import place
from penstock.host.gpu_faults import GpuFaults
from penstock.host.gpu_readings import read_gpus
from penstock.host.gpus import discover_gpus
from penstock.host.kubelet.devices import container_devices
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

COUNT_DEVICES = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
count, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(100)
assert cuda.cuInit(0) in (0, 100)
cuda.cuDeviceGetCount(ctypes.byref(count))
device = ctypes.c_int()
if count.value:
    assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
    cuda.cuDeviceGetName(name, 100, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
print(json.dumps({"count": count.value, "name": name.value.decode(), "memory": memory.value}))
"""


@pytest.fixture(scope="module")
def gpus() -> tuple[Gpu, ...]:
    found = discover_gpus(load_gpu_types())
    if not found:
        pytest.skip("there is no NVIDIA driver, or no GPU, on this machine")
    return found


@pytest.fixture
def whole(gpus: tuple[Gpu, ...]) -> Gpu:
    plain = [gpu for gpu in gpus if not gpu.is_mig]
    if not plain:
        pytest.skip("all GPUs of this machine are partitioned")
    return plain[0]


def test_every_device_is_of_a_known_type_of_about_its_size(gpus: tuple[Gpu, ...]) -> None:
    known = {one.name: one for one in load_gpu_types()}
    for gpu in gpus:
        print(
            gpu.index,
            gpu.uuid,
            gpu.type.model,
            gpu.type.name,
            gpu.type.memory_bytes >> 20,
            gpu.driver,
            gpu.bus,
            gpu.is_mig,
        )
        assert gpu.type.name in known
        assert abs(gpu.type.memory_bytes / known[gpu.type.name].memory_bytes - 1) < 0.03


def test_slices_and_labels_say_what_was_found(gpus: tuple[Gpu, ...]) -> None:
    (read,) = (gpus_of(slices_of("n", gpus), load_gpu_types())["n"],)
    assert [gpu.uuid for gpu in read] == [gpu.uuid for gpu in gpus]
    labels = gpu_labels(gpus)
    print(json.dumps(labels, indent=1))
    assert labels["nvidia.com/gpu.present"] == "true"


def test_readings_have_dcgm_names_and_sane_values(gpus: tuple[Gpu, ...]) -> None:
    readings = read_gpus()
    print(json.dumps(readings, indent=1))
    for gpu in gpus:
        one = readings[gpu.uuid]
        assert 0 <= one["FB_USED"] <= gpu.type.memory_bytes >> 20
        assert 0 < one["GPU_TEMP"] < 110
        assert one["POWER_USAGE"] > 0


def test_a_healthy_machine_has_no_faults(gpus: tuple[Gpu, ...]) -> None:
    assert GpuFaults().look() == ()


def test_a_program_sees_the_device_that_its_pod_was_given_and_without_one_none(whole: Gpu) -> None:
    limits = ResourceRequirements(limits={"nvidia.com/gpu": "1"})
    pod = Pod(
        metadata=ObjectMeta(name="p", namespace="default"),
        spec=PodSpec(containers=(Container(name="main", resources=limits),)),
    )
    ready = NodeStatus(
        allocatable={"cpu": "1", "pods": "9"}, conditions=(Condition(type="Ready", status="True"),)
    )
    node = Node(metadata=ObjectMeta(name="n"), status=ready)
    requests = asked(pod, Fleet(gpus=(whole,), types=load_gpu_types()))
    assert isinstance(requests, tuple)
    placed = place(pod, take_stock([node], (), {"n": (whole,)}), requests)
    assert placed.node == "n"
    with_device = bound(pod, placed.shares)
    seen = run_with(container_devices(with_device, with_device.spec.containers[0], lambda _: (whole,)))
    print(seen)
    assert seen["count"] == 1
    assert seen["name"] == whole.type.model
    without = bound(pod, ())
    assert run_with(container_devices(without, without.spec.containers[0], lambda _: (whole,)))["count"] == 0


def bound(pod: Pod, shares: tuple[Share, ...]) -> Pod:
    annotations = {DEVICES_ANNOTATION: msgspec.json.encode(shares).decode()} if shares else {}
    metadata = msgspec.structs.replace(pod.metadata, annotations=annotations)
    spec = msgspec.structs.replace(pod.spec, node_name="n")
    return msgspec.structs.replace(pod, metadata=metadata, spec=spec)


def run_with(variables: dict[str, str]) -> dict[str, object]:
    """What CUDA's own driver shows a program with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_DEVICES],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
