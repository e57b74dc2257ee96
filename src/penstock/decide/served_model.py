"""Which model does this pod serve, with which engine, and how?

The engine is told by its command, or by its image; how it serves by the arguments that bear on memory, in the words of vLLM, SGLang, TGI and
llama.cpp. The model is what the storage initializer brings, or a cache holds, or what the engine itself is to fetch. Of an engine that divides
its model in ways that are not reckoned with (pipelines, data parallelism, weights in the host's memory) nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from penstock.decide.cache_binding import SOURCE_URI
from penstock.decide.engine_memory import ENGINES
from penstock.decide.kv_bytes import KV_DTYPES
from penstock.decide.memory_need import Plan
from penstock.decide.quantization import BITS
from penstock.decide.storage import INITIALIZER
from penstock.decide.workload import LOCAL_COMMANDS
from penstock.kit.errors import InvalidInput
from penstock.kit.quantity import to_bytes
from penstock.resources.pod import Container, Pod

PROGRAMS = (
    ("vllm", re.compile(r"(^|/)vllm($|[/.:-])|vllm\.entrypoints|huggingfaceserver")),
    ("sglang", re.compile(r"(^|/)sglang($|[/.:-])")),
    ("tgi", re.compile(r"text-generation-(launcher|inference)")),
    ("llama-cpp", re.compile(r"llama-server|llama\.cpp")),
)
"""What of a word of the command, or of the image, tells the engine."""
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "model": ("--model", "--model-path", "--model-id", "--model-dir", "-m"),
    "context": ("--max-model-len", "--context-length", "--max-total-tokens", "--ctx-size", "-c"),
    "sequences": ("--max-num-seqs", "--max-running-requests", "--max-concurrent-requests", "--parallel", "-np"),
    "batched": ("--max-num-batched-tokens", "--chunked-prefill-size", "--max-batch-prefill-tokens", "--ubatch-size", "-ub"),
    "ranks": ("--tensor-parallel-size", "-tp", "--tp-size", "--tp", "--num-shard"),
    "quantization": ("--quantization", "-q", "--quantize"),
    "kv_dtype": ("--kv-cache-dtype", "--cache-type-k", "-ctk"),
    "utilization": ("--gpu-memory-utilization", "--mem-fraction-static", "--cuda-memory-fraction"),
    "cache": ("--kv-cache-memory-bytes", "--kv-cache-memory"),
    "loras": ("--max-loras", "--max-loras-per-batch"),
    "lora_rank": ("--max-lora-rank",),
    "speculative": ("--speculative-config",),
    "draft": ("--speculative-draft-model-path", "--speculative-model", "--model-draft", "-md"),
}  # fmt: skip
ELSEWHERE = (
    "--pipeline-parallel-size", "-pp", "--pp-size", "--pp", "--data-parallel-size", "-dp", "--dp-size", "--dp", "--cpu-offload-gb",
    "--n-gpu-layers", "--gpu-layers", "-ngl", "--n-cpu-moe", "--cpu-moe", "--hf-overrides",
)  # fmt: skip
"""Options with which a GPU holds another part of the model than 1 of as many as there are ranks."""
ENABLE_LORA, USUAL_RANK = ("--enable-lora",), 16
EAGER = ("--enforce-eager", "--disable-cuda-graph")
MAX_WORDS = 1024
_HUB = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_NUMBER = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([kKmMgG]?)i?")
_FACTORS = {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 1 << 20, "g": 10**9, "G": 1 << 30}


class Served(Struct, frozen=True, kw_only=True):
    """`model` is a URI or a path, with its secrets. `plan` has what the arguments say, 0 and "" where they say nothing: `concurrency` is 1, `context_tokens` may be 0.

    `draft` is the smaller model that speculates, "" for none that is known of. `said` are the kinds of options that are set.
    """

    container: str
    model: str
    engine: str
    plan: Plan
    draft: str = ""
    said: frozenset[str] = frozenset()


def served_model(pod: Pod) -> Served | None:
    """Of the first container with an engine that is known; None where there is none, or nothing says where its model is."""
    commands = _local_commands(pod)
    for container in pod.spec.containers:
        words = (*commands.get(container.name, container.command), *container.args)[:MAX_WORDS]
        engine = _engine(words, container.image)
        options = _options(words) if engine else {}
        model = _model(pod, options.get("model", "")) if engine else ""
        if model and _is_elsewhere(words):
            return None
        if model:
            return Served(
                container=container.name,
                model=model,
                engine=engine,
                plan=_plan(options, words),
                draft=_draft(options),
                said=frozenset(options),
            )
    return None


def _local_commands(pod: Pod) -> Mapping[str, tuple[str, ...]]:
    try:
        return msgspec.json.decode(
            pod.metadata.annotations.get(LOCAL_COMMANDS, "{}"), type=dict[str, tuple[str, ...]]
        )
    except msgspec.DecodeError:
        return {}


def _engine(words: Sequence[str], image: str) -> str:
    """The first word that tells; arguments may hold anything, so that only the program's words count, else the image."""
    program = [word for word in words[:4] if not word.startswith("--")]
    found = (name for word in (*program, image) for name, pattern in PROGRAMS if pattern.search(word))
    name = next(found, "")
    return name if name in ENGINES else ""


def _options(words: Sequence[str]) -> dict[str, str]:
    """The last of each kind, as engines take them: `--name value`, `--name=value`, `_` for `-`."""
    kinds = {option: kind for kind, options in OPTIONS.items() for option in options}
    found = {}
    for place, word in enumerate(words):
        name, has_value, value = word.partition("=")
        kind = kinds.get(_dashed(name))
        if kind is not None:
            following = words[place + 1] if place + 1 < len(words) else ""
            found[kind] = value if has_value else following
    if "serve" in words[1:4] and "model" not in found:
        place = words.index("serve") + 1
        if place < len(words) and not words[place].startswith("-"):
            found["model"] = words[place]
    return found


def _model(pod: Pod, said: str) -> str:
    """Where its headers can be read."""
    if source := pod.metadata.annotations.get(SOURCE_URI):
        return source
    bringer = next((one for one in pod.spec.init_containers if one.name == INITIALIZER), None)
    if bringer is not None and bringer.args:
        return _brought(bringer, said)
    if "://" in said:
        return said
    if said.startswith("/"):
        mounts = [mount.mount_path for container in pod.spec.containers for mount in container.volume_mounts]
        return "" if any(said.startswith(path.rstrip("/")) for path in mounts) else said
    return f"hf://{said}" if _HUB.fullmatch(said) else ""


def _brought(bringer: Container, said: str) -> str:
    """The URI whose folder the engine is told of; the first if that is not said."""
    pairs = list(zip(bringer.args[::2], bringer.args[1::2], strict=False))
    return next((uri for uri, folder in pairs if said and said.startswith(folder)), bringer.args[0])


def _plan(options: Mapping[str, str], words: Sequence[str]) -> Plan:
    quantization = options.get("quantization", "")
    kv_dtype = options.get("kv_dtype", "auto")
    return Plan(
        concurrency=1,
        context_tokens=_count(options.get("context", "")),
        tensor_parallel=max(1, _count(options.get("ranks", ""))),
        quantization=quantization if quantization in ("fp8", "bitsandbytes") and quantization in BITS else "",
        kv_dtype=kv_dtype if kv_dtype in KV_DTYPES else "auto",
        utilization=_share(options.get("utilization", "")),
        batched_tokens=_count(options.get("batched", "")),
        sequences=_count(options.get("sequences", "")),
        is_eager=_has(words, EAGER),
        cache_bytes=_size(options.get("cache", "")),
        loras=max(1, _count(options.get("loras", ""))) if _has(words, ENABLE_LORA) else 0,
        lora_rank=_count(options.get("lora_rank", "")) or USUAL_RANK,
    )


def _dashed(name: str) -> str:
    """Long options may have either."""
    return name.replace("_", "-") if name.startswith("--") else name


def _is_elsewhere(words: Sequence[str]) -> bool:
    """Whether one of those options is set to something else than 0 or 1."""
    for place, word in enumerate(words):
        name, has_value, value = word.partition("=")
        if _dashed(name) in ELSEWHERE:
            following = words[place + 1] if place + 1 < len(words) else ""
            if (value if has_value else following) not in ("0", "1"):
                return True
    return False


def _has(words: Sequence[str], flags: Sequence[str]) -> bool:
    return any(_dashed(word) in flags for word in words)


def _draft(options: Mapping[str, str]) -> str:
    """Where it can be read: of the Hub, or of any source. One within the model's own folder is not looked for."""
    said = options.get("draft", "")
    try:
        config = msgspec.json.decode(options.get("speculative", "{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        config = {}
    said = said or str(config.get("model") or "")
    return said if "://" in said else f"hf://{said}" if _HUB.fullmatch(said) else ""


def _count(text: str) -> int:
    """As vLLM reads it: 8k is 8000 and 8K 8192; 0 for what is no number."""
    found = _NUMBER.fullmatch(text)
    return int(float(found[1]) * _FACTORS[found[2]]) if found else 0


def _size(text: str) -> int:
    try:
        return to_bytes(text) if text else 0
    except InvalidInput:
        return 0


def _share(text: str) -> float:
    found = _NUMBER.fullmatch(text)
    share = float(found[1]) if found and not found[2] else 0.0
    return share if share <= 1.0 else 0.0
