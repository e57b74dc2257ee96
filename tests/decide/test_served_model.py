"""Which model a pod serves, read off its command, its arguments and its initializer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.decide.memory_need import Plan
from penstock.decide.served_model import Served, served_model
from penstock.decide.workload import LOCAL_COMMANDS
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, VolumeMount

BRINGER = Container(name="storage-initializer", args=("hf://org/llama", "/mnt/models"))


def pod(*args: str, command: tuple[str, ...] = ("vllm", "serve"), init: Container | None = BRINGER, **more: str) -> Pod:  # fmt: skip
    main = Container(name="main", command=command, args=args, image=more.pop("image", ""))
    metadata = ObjectMeta(name="p", namespace="default", annotations=more)
    return Pod(metadata=metadata, spec=PodSpec(containers=(main,), init_containers=(init,) if init else ()))


def served(*args: str, **more: object) -> Served:
    found = served_model(pod(*args, **more))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_vllms_arguments_make_a_plan() -> None:
    found = served(
        "--model=/mnt/models", "--max-model-len", "16k", "--max_num_seqs=64", "-tp", "2", "--kv-cache-dtype=fp8",
        "--gpu-memory-utilization=0.5", "--enforce-eager", "--max-num-batched-tokens=4096", "--quantization=fp8",
    )  # fmt: skip
    assert (found.container, found.model, found.engine) == ("main", "hf://org/llama", "vllm")
    assert found.plan == Plan(
        context_tokens=16_000, sequences=64, tensor_parallel=2, kv_dtype="fp8", utilization=0.5, is_eager=True,
        batched_tokens=4096, quantization="fp8",
    )  # fmt: skip
    assert {"context", "sequences", "utilization"} <= found.said and "cache" not in found.said


def test_what_is_not_said_stays_open() -> None:
    assert served("--model=/mnt/models", "--max-model-len=auto", "--quantization=awq").plan == Plan(
        context_tokens=0
    )


@pytest.mark.parametrize(
    ("command", "image", "engine"),
    [
        (("python3", "-m", "vllm.entrypoints.openai.api_server"), "", "vllm"),
        ((), "vllm/vllm-openai:latest", "vllm"),
        (("/opt/bin/vllm", "serve"), "", "vllm"),
        (("sglang", "serve"), "", "sglang"),
        ((), "lmsysorg/sglang:latest", "sglang"),
        (("text-generation-launcher",), "", "tgi"),
        (("sh", "-c", 'exec llama-server "$@"', "llama-server"), "", "llama-cpp"),
    ],
)
def test_the_command_or_the_image_tells_the_engine(command: tuple[str, ...], image: str, engine: str) -> None:
    assert served("--model-path=/mnt/models", command=command, image=image).engine == engine


def test_a_runtimes_local_command_goes_before_the_image() -> None:
    local = {LOCAL_COMMANDS: json.dumps({"main": ["sglang", "serve"]})}
    assert served("--tp-size=4", command=(), image="vllm/vllm-openai", **local).plan.tensor_parallel == 4


def test_a_program_that_only_mentions_an_engine_serves_none() -> None:
    assert served_model(pod("--to=vllm", command=("python", "report.py"))) is None
    assert served_model(pod("--model=/mnt/models", command=("python",), image="my/model")) is None


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ("meta-llama/Llama-3.1-8B", "hf://meta-llama/Llama-3.1-8B"),
        ("s3://bucket/model", "s3://bucket/model"),
        ("/srv/models/llama", "/srv/models/llama"),
    ],
)
def test_without_an_initializer_the_engine_is_told_where_the_model_is(said: str, model: str) -> None:
    assert served("--model", said, init=None).model == model
    assert served(said, init=None).model == model  # as `vllm serve MODEL`


def test_a_path_within_a_mount_says_nothing_of_where_the_model_is() -> None:
    plain = pod("--model=/mnt/models", init=None)
    mounted = replace(
        plain.spec.containers[0], volume_mounts=(VolumeMount(name="v", mount_path="/mnt/models"),)
    )
    assert served_model(replace(plain, spec=replace(plain.spec, containers=(mounted,)))) is None


def test_of_several_models_the_engines_own_counts_and_a_caches_source_before_all() -> None:
    two = replace(BRINGER, args=("hf://org/draft", "/mnt/models/draft", "hf://org/llama", "/mnt/models/main"))
    assert served("--model=/mnt/models/main", init=two).model == "hf://org/llama"
    source = {"internal.serving.kserve.io/localmodel-sourceuri": "s3://b/cached"}
    assert served("--model=/mnt/models", **source).model == "s3://b/cached"


@pytest.mark.parametrize(
    "words",
    [("--pipeline-parallel-size=2",), ("-pp", "4"), ("--cpu-offload-gb", "10"), ("--data_parallel_size=8",)],
)
def test_of_an_engine_that_divides_its_model_otherwise_nothing_is_said(words: tuple[str, ...]) -> None:
    assert served_model(pod("--model=/mnt/models", *words)) is None
    assert served("--model=/mnt/models", "-pp", "1").engine == "vllm"


def test_adapters_and_drafts_are_seen() -> None:
    found = served(
        "--enable-lora",
        "--max-loras=4",
        "--max-lora-rank",
        "64",
        '--speculative-config={"model": "org/draft"}',
    )
    assert (found.plan.loras, found.plan.lora_rank, found.draft) == (4, 64, "hf://org/draft")
    assert served("--enable-lora").plan.loras == 1 and served("--max-loras=4").plan.loras == 0
    assert (
        served("--speculative-config={").draft
        == ""
        == served('--speculative-config={"method": "ngram"}').draft
    )


@given(st.lists(st.text(alphabet="-=_mtpx0.9k/ ", max_size=12), max_size=12))
def test_arguments_that_make_no_sense_make_no_error(words: list[str]) -> None:
    found = served_model(pod("--model=/mnt/models", *words))
    assert found is None or (found.plan.tensor_parallel >= 1 and 0.0 <= found.plan.utilization <= 1.0)
