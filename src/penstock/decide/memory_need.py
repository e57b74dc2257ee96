"""How much memory does a model take on each GPU?

need = weights / tp + KV cache of the declared requests + activations + what the engine takes for itself.

Activations are the widest moment of a pass over one batch: `decide/activations.py`. What the engine takes for itself (collectives, CUDA
graphs, allocators) are numbers of each engine; a learned correction makes them and the estimate of the weights right.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from penstock.contracts.devices import GpuType
from penstock.decide.activations import activation_bytes
from penstock.decide.engine_memory import EngineMemory
from penstock.decide.kv_bytes import kv_bytes
from penstock.decide.lora_bytes import lora_bytes
from penstock.decide.model_shape import FLOATS, ModelShape, Weights
from penstock.decide.quantization import quantized_bytes

DRIVER_BYTES = 576 << 20
"""NVML's total less CUDA's, about: 23.4 of 24.0 GiB, 79.1 of 79.6, 139.8 of 140.4."""
AMPERE = 8
"""Compute capability."""
HALVED = {"F32": 2, "F64": 4}
"""By what the bytes of such weights are divided when an engine loads them in 16 bits."""
UNPACKED_BYTES = 4
WEIGHT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class Plan(Struct, frozen=True, kw_only=True):
    """How a model is to be served: `concurrency` requests at once of `context_tokens` each, on `tensor_parallel` GPUs.

    `quantization` is what the engine is to make of 16-bit weights while it loads them, empty to leave them. `utilization` is the share of
    a GPU that the engine may take, 0 for its default; `batched_tokens` are computed at once, 0 for its default; `sequences` are the requests that
    it makes room for, 0 for as many as are meant to be served. `is_eager`: it captures no CUDA graphs. `cache_bytes` is a KV cache that the engine is told to have, if
    the requests do not need a larger one. `loras` adapters of `lora_rank` may be used at once.
    """

    concurrency: int = 1
    context_tokens: int = 8192
    tensor_parallel: int = 1
    quantization: str = ""
    kv_dtype: str = "auto"
    utilization: float = 0.0
    batched_tokens: int = 0
    sequences: int = 0
    is_eager: bool = False
    cache_bytes: int = 0
    loras: int = 0
    lora_rank: int = 16


class Device(Struct, frozen=True, kw_only=True):
    """One GPU, or as much of one as an engine may see. `can_fp8` is false where FP8 weights and caches have no kernels (before Ampere)."""

    name: str
    memory_bytes: int
    can_fp8: bool = True


def device_of(kind: GpuType) -> Device:
    """What an engine sees of a GPU of this type: its driver keeps some of what NVML counts."""
    major = kind.compute_capability.partition(".")[0]
    can_fp8 = not major.isdecimal() or int(major) >= AMPERE
    return Device(name=kind.name, memory_bytes=max(0, kind.memory_bytes - DRIVER_BYTES), can_fp8=can_fp8)


class Term(NamedTuple):
    """One summand, and what it consists of."""

    name: str
    size_bytes: int
    of: str = ""


def terms(
    shape: ModelShape, plan: Plan, device: Device, engine: EngineMemory, correction: float = 1.0
) -> tuple[Term, ...]:
    """What each of the GPUs needs; a correction is of all but the KV cache, whose size is arithmetic."""
    ranks = plan.tensor_parallel
    batched = plan.batched_tokens or engine.batched(device.name, device.memory_bytes)
    kept = kv_bytes(
        shape,
        plan.concurrency,
        plan.context_tokens,
        tensor_parallel=ranks,
        kv_dtype=plan.kv_dtype,
        block_tokens=engine.block_tokens,
        batched_tokens=batched,
        caps_windows=engine.caps_windows,
    )
    loaded = weight_bytes(shape, plan.quantization, engine)
    active = activation_bytes(shape, batched, plan.sequences or plan.concurrency, ranks, engine)
    graphs = graph_bytes(shape, engine) if engine.counts_graphs and not plan.is_eager else 0
    stored = plan.quantization or "as loaded"
    beside: tuple[Term, ...] = (
        Term("weights", -(-loaded // ranks), f"{stored}, 1 of {ranks} parts" if ranks > 1 else stored),
        Term("activations", active, f"of {batched} tokens at once"),
        Term(
            "engine",
            engine.overhead(device.name, device.memory_bytes, ranks) + graphs,
            f"{engine.name} {engine.version}".rstrip() + (", with CUDA graphs" if graphs else ""),
        ),
    )
    if plan.loras:
        slots = lora_bytes(shape, plan.loras, plan.lora_rank, ranks)
        beside = (*beside, Term("adapters", slots, f"{plan.loras} at once, of rank {plan.lora_rank}"))
    learned = round((correction - 1.0) * sum(term.size_bytes for term in beside))
    requests = f"{plan.concurrency} requests of {plan.context_tokens} tokens"
    cache = Term("kv cache", max(kept, plan.cache_bytes), requests if kept >= plan.cache_bytes else "as told")
    correct = (
        (Term("learned correction", learned, f"x {correction:.3f} of all but the kv cache"),)
        if learned
        else ()
    )
    return (beside[0], cache, *beside[1:], *correct)


def weight_bytes(shape: ModelShape, quantization: str, engine: EngineMemory) -> int:
    """Of all ranks together, as the engine holds them."""
    return sum(_loaded(part, quantization, engine) for part in shape.weights)


def _loaded(part: Weights, quantization: str, engine: EngineMemory) -> int:
    if engine.unpacks:
        return part.size_bytes // WEIGHT_BYTES.get(part.dtype, 1) * UNPACKED_BYTES
    if quantization and part.is_linear and part.dtype in FLOATS:
        return quantized_bytes(part.size_bytes // WEIGHT_BYTES[part.dtype], quantization)
    if engine.halves_floats and part.dtype in HALVED:
        return -(-part.size_bytes // HALVED[part.dtype])
    return part.size_bytes


def graph_bytes(shape: ModelShape, engine: EngineMemory) -> int:
    """Of CUDA graphs, on each rank."""
    each = engine.expert_graph_bytes if shape.experts_per_token else engine.graph_bytes
    return each * (shape.depth or sum(layers.count for layers in shape.layers))


def outside_bytes(shape: ModelShape, plan: Plan, engine: EngineMemory) -> int:
    """What an engine takes beside its share: CUDA's context, and graphs where it does not count them."""
    is_beside = not (engine.counts_graphs or plan.is_eager)
    return engine.context_bytes + (graph_bytes(shape, engine) if is_beside else 0)


def usable_bytes(device: Device, plan: Plan, engine: EngineMemory) -> int:
    """What of a GPU the engine may take."""
    return int(device.memory_bytes * (plan.utilization or engine.utilization))
