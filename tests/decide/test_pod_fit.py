"""Pods get GPUs that their models fit, and are told why there are none."""

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import MEMORY_ANNOTATION, DeviceRequest
from penstock.decide.fit_error import UNLEARNED, Learned
from penstock.decide.memory_need import Plan
from penstock.decide.model_config import shape_of
from penstock.decide.model_size import weights_of
from penstock.decide.pod_fit import CERTIFICATE_ANNOTATION, PodFit, Sought, certificate_of, certified, pod_fit
from penstock.decide.served_model import Served
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec

H100, L4, A100 = find_gpu_type("h100-80gb"), find_gpu_type("l4"), find_gpu_type("a100-40gb")
MODELS = json.loads((Path(__file__).parents[2] / "benchmarks" / "fit" / "models.json").read_text())
CONFIG = next(model["config"] for model in MODELS if model["name"] == "Llama-3-8B")
LLAMA = replace(shape_of(CONFIG), weights=weights_of(CONFIG))
WHOLE = DeviceRequest(container="main", resource="nvidia.com/gpu")
GIB = 1 << 30


def found(*requests: DeviceRequest, kinds: Any = (H100, L4), is_auto: bool = False,
          learned: Learned = UNLEARNED, said: frozenset[str] = frozenset(), **plan: Any) -> PodFit:  # fmt: skip
    served = Served(
        container="main", model="hf://o/m", engine="vllm", plan=Plan(**{"context_tokens": 8192, **plan}),
        said=said,
    )  # fmt: skip
    return pod_fit(
        Sought(
            served=served, name="hf://o/m", shape=LLAMA, requests=requests or (WHOLE,), kinds=kinds,
            learned=lambda engine, gpu: learned, is_auto=is_auto,
        )
    )  # fmt: skip


def test_a_model_that_fits_everywhere_leaves_the_requests_as_they_are() -> None:
    answer = found(context_tokens=4096)
    assert answer.requests == (WHOLE,) and set(answer.certificates) == {"h100-80gb", "l4"}
    certificate = answer.certificates["l4"]
    assert certificate.need_bytes <= certificate.usable_bytes and "<=" in certificate.inequality
    assert certificate.accuracy.startswith("no observations yet") and certificate.arguments == ()


def test_types_on_which_it_does_not_fit_are_left_out() -> None:
    answer = found(context_tokens=65536)
    assert answer.requests == (replace(WHOLE, types=frozenset({"h100-80gb"})),)
    assert set(answer.certificates) == {"h100-80gb"}


def test_where_it_fits_nowhere_the_pod_is_told_the_inequality_and_the_smallest_change() -> None:
    answer = found(replace(WHOLE, types=frozenset({"l4"})), context_tokens=65536)
    assert isinstance(answer.requests, str)
    assert "hf://o/m does not fit: 14.96 weights + 8.00 kv cache" in answer.requests
    assert "> 20.18 GiB = 0.92 x 21.93 of l4" in answer.requests
    assert "it would fit if you shorten the context to " in answer.requests
    assert "penstock.dev/fit: ignore" in answer.requests


def test_ranks_share_the_model() -> None:
    four = replace(WHOLE, count=4, types=frozenset({"l4"}))
    assert found(four, context_tokens=65536, tensor_parallel=4).requests == (four,)


def test_a_part_of_a_gpu_is_all_that_the_engine_may_count_on() -> None:
    part = replace(WHOLE, milli=0, memory_bytes=20 * GIB)
    assert found(part, context_tokens=4096, sequences=64).requests == (part,)
    many = found(part, context_tokens=4096)  # on an H100 vLLM makes room for 1024 requests
    assert many.requests == (replace(part, types=frozenset({"l4"})),)
    small = found(replace(part, memory_bytes=12 * GIB), context_tokens=4096)
    assert isinstance(small.requests, str) and "12.0Gi of " in small.requests


def test_an_instance_counts_with_its_own_memory() -> None:
    small = DeviceRequest(container="main", resource="nvidia.com/mig-1g.10gb", profile="1g.10gb", milli=0)
    answer = found(small, context_tokens=4096)
    assert isinstance(answer.requests, str) and "1g.10gb of h100-80gb" in answer.requests
    large = replace(small, profile="3g.40gb")
    assert found(large, context_tokens=4096).requests == (replace(large, types=frozenset({"h100-80gb"})),)


def test_auto_asks_for_what_the_declared_requests_need_and_tells_the_engine() -> None:
    answer = found(is_auto=True, kinds=(H100, A100), sequences=16, context_tokens=4096,
                   said=frozenset({"sequences", "context"}))  # fmt: skip
    assert not isinstance(answer.requests, str)
    (request,) = answer.requests
    certificate = answer.certificates["h100-80gb"]
    assert request.milli == 0 and request.memory_bytes % (64 << 20) == 0
    assert certificate.footprint_bytes <= request.memory_bytes < certificate.footprint_bytes + GIB
    assert certificate.footprint_bytes > certificate.need_bytes  # CUDA's context
    assert certificate.arguments == ("--gpu-memory-utilization=0.32", f"--kv-cache-memory-bytes={8 * GIB}")


def test_what_was_learned_counts() -> None:
    heavy = Learned(correction=1.5, typical=1.4, error=0.4, count=20, scope="x")
    assert isinstance(found(replace(WHOLE, types=frozenset({"l4"})), learned=heavy).requests, str)
    assert "learned from 20 runs" in found(learned=heavy).certificates["h100-80gb"].accuracy


def test_a_cache_of_a_told_size_is_part_of_the_need() -> None:
    answer = found(replace(WHOLE, types=frozenset({"l4"})), cache_bytes=16 * GIB, context_tokens=4096)
    assert isinstance(answer.requests, str) and "16.00 kv cache" in answer.requests


def test_an_engine_that_takes_what_context_there_is_room_for_needs_a_short_one() -> None:
    long = replace(LLAMA, context_tokens=131072)
    kinds = (L4,)

    def answer(engine: str, *said: str) -> PodFit:
        served = Served(
            container="main", model="m", engine=engine, plan=Plan(context_tokens=0), said=frozenset(said)
        )
        return pod_fit(
            Sought(
                served=served,
                name="m",
                shape=long,
                requests=(WHOLE,),
                kinds=kinds,
                learned=lambda engine, gpu: UNLEARNED,
            )
        )

    assert isinstance(answer("vllm").requests, str)
    assert answer("vllm", "context").requests == answer("llama-cpp").requests == (WHOLE,)


def test_other_containers_and_pods_without_gpus_are_left_alone() -> None:
    other = DeviceRequest(container="sidecar", resource="nvidia.com/gpu")
    answer = found(other, WHOLE, context_tokens=65536)
    assert answer.requests == (other, replace(WHOLE, types=frozenset({"h100-80gb"})))
    assert found(other, context_tokens=65536).requests == (other,)
    assert found(kinds=()).requests == (WHOLE,)


def test_a_bound_pod_asks_for_what_its_certificate_says() -> None:
    annotations = {
        MEMORY_ANNOTATION: "auto",
        CERTIFICATE_ANNOTATION: '{"container":"main","model":"m","engine":"vllm","gpu":"l4","need_bytes":1,"usable_bytes":2,'
        '"footprint_bytes":3,"inequality":"1 <= 2","accuracy":""}',
    }
    pod = Pod(metadata=ObjectMeta(name="p", annotations=annotations), spec=PodSpec(containers=()))
    assert certified(pod) is pod
    bound = replace(pod, spec=replace(pod.spec, node_name="n"))
    assert certified(bound).metadata.annotations[MEMORY_ANNOTATION] == "3"
    broken = replace(pod, metadata=replace(pod.metadata, annotations={CERTIFICATE_ANNOTATION: "{"}))
    assert certificate_of(broken) is None
