"""What is the smallest change that would make a model fit?

Each way is tried by itself, and told with its number: how short the requests, how few of them, an FP8 cache, quantised weights, more
GPUs, the next larger GPU. Where none alone is enough, two or three of them together are, cheapest for the answers' quality first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from penstock.decide.engine_memory import EngineMemory
from penstock.decide.memory_need import Device, Plan, terms, usable_bytes
from penstock.decide.model_shape import FLOATS, ModelShape

LEAST_CONTEXT = 256
"""Shorter requests are no use."""
MAX_UTILIZATION = 0.97
RANKS = (2, 4, 8, 16)
ONE_BYTE = frozenset(("fp8", "fp8_e4m3", "fp8_e5m2", "int8", "u8", "q8_0", "q5_0", "q4_0", "nvfp4"))
CACHES = {"llama-cpp": "q8_0", "ollama": "q8_0", "penstock-cpu": "u8"}
"""What an engine calls a cache of one byte for each number, if not fp8."""
LOADS_FP8 = ("vllm", "sglang", "tgi")
"""Engines that make FP8 of 16-bit weights by themselves."""
OWN_FORMATS = ("llama-cpp", "ollama", "penstock-cpu")
"""Engines that take weights as they are in the file, or store them in a way of their own."""


class Change(NamedTuple):
    """A way out, in words; the plan and the device with it."""

    text: str
    plan: Plan
    device: Device


class Question(NamedTuple):
    """What is asked: whether `shape` fits as planned. `devices` are other GPUs that there are."""

    shape: ModelShape
    plan: Plan
    device: Device
    engine: EngineMemory
    correction: float = 1.0
    devices: Sequence[Device] = ()

    def fits(self, plan: Plan, device: Device | None = None) -> bool:
        """The inequality itself."""
        on = device or self.device
        need = sum(term.size_bytes for term in terms(self.shape, plan, on, self.engine, self.correction))
        return need <= usable_bytes(on, plan, self.engine)


def least_changes(asked: Question) -> tuple[Change, ...]:
    """Those that suffice, alone where there are such; empty if it fits already, or if nothing known would help."""
    if asked.fits(asked.plan):
        return ()
    alone = [change for change in _each(asked) if asked.fits(change.plan, change.device)]
    return tuple(alone) or tuple(_together(asked))


def longest_context(asked: Question) -> int:
    """Tokens per request, in whole blocks, at the plan's concurrency; 0 if not even one block fits."""
    block = asked.engine.block_tokens
    most = max(asked.plan.context_tokens, asked.shape.context_tokens) // block

    def fits(blocks: int) -> bool:
        return asked.fits(replace(asked.plan, context_tokens=blocks * block))

    return largest(most, fits) * block


def most_requests(asked: Question, limit: int = 1 << 20) -> int:
    """Requests at once, of the plan's context."""
    return largest(limit, lambda count: asked.fits(replace(asked.plan, concurrency=count)))


def largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number from 1 to `limit` that holds, where smaller ones hold as well; 0 if none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _each(asked: Question) -> Iterable[Change]:
    return chain(
        _smaller_requests(asked),
        _share(asked),
        _kv_types(asked),
        _quantizations(asked),
        _ranks(asked),
        _devices(asked),
    )


def _smaller_requests(asked: Question) -> Iterable[Change]:
    plan, device = asked.plan, asked.device
    context = longest_context(asked)
    if asked.shape.layers and LEAST_CONTEXT <= context < plan.context_tokens:
        yield Change(
            f"shorten the context to {context} tokens", replace(plan, context_tokens=context), device
        )
    count = most_requests(asked, plan.concurrency)
    if asked.shape.layers and 0 < count < plan.concurrency:
        yield Change(f"serve {count} requests at once", replace(plan, concurrency=count), device)


def _share(asked: Question) -> Iterable[Change]:
    plan, device = asked.plan, asked.device
    need = sum(term.size_bytes for term in terms(asked.shape, plan, device, asked.engine, asked.correction))
    share = -(-need * 100 // device.memory_bytes) / 100
    if (plan.utilization or asked.engine.utilization) < share <= MAX_UTILIZATION:
        yield Change(f"let the engine take {share:.2f} of the GPU", replace(plan, utilization=share), device)


def _kv_types(asked: Question) -> Iterable[Change]:
    kind = CACHES.get(asked.engine.name, "fp8")
    if asked.shape.layers and asked.plan.kv_dtype not in ONE_BYTE and (asked.device.can_fp8 or kind != "fp8"):
        yield Change(f"keep the KV cache in {kind}", replace(asked.plan, kv_dtype=kind), asked.device)


def _quantizations(asked: Question) -> Iterable[Change]:
    floats = any(part.is_linear and part.dtype in FLOATS for part in asked.shape.weights)
    if asked.plan.quantization or not floats or asked.engine.name in OWN_FORMATS:
        return
    eight = "fp8" if asked.engine.name in LOADS_FP8 and asked.device.can_fp8 else "int8"
    for method, text in (
        (eight, f"have its weights in {eight}"),
        ("int4", "have its weights in 4 bits (AWQ, GPTQ)"),
    ):
        yield Change(text, replace(asked.plan, quantization=method), asked.device)


def _ranks(asked: Question) -> Iterable[Change]:
    """The least number of GPUs that shares the heads out evenly and is enough."""
    for ranks in RANKS if asked.engine.is_spread else ():
        heads = asked.shape.heads
        plan = replace(asked.plan, tensor_parallel=ranks)
        if ranks > asked.plan.tensor_parallel and not heads % ranks and asked.fits(plan):
            yield Change(f"spread it over {ranks} GPUs (tensor parallel {ranks})", plan, asked.device)
            return


def _devices(asked: Question) -> Iterable[Change]:
    """The smallest larger GPU that is enough."""
    larger = (one for one in asked.devices if one.memory_bytes > asked.device.memory_bytes)
    for device in sorted(larger, key=lambda one: (one.memory_bytes, one.name)):
        if asked.fits(asked.plan, device):
            yield Change(f"take a {device.name} ({device.memory_bytes / 2**30:.1f} GiB)", asked.plan, device)
            return


def _together(asked: Question) -> Iterable[Change]:
    """FP8 cache, then quantised weights, then the fewest GPUs; without quantisation, on more or larger ones."""
    smaller_kv = next(iter(_kv_types(asked)), None)
    for first in (smaller_kv, *_quantizations(asked)):
        if first is None:
            continue
        plans = [first]
        if first is not smaller_kv and smaller_kv is not None:
            both = replace(first.plan, kv_dtype=smaller_kv.plan.kv_dtype)
            plans.append(Change(f"{smaller_kv.text}, and {first.text}", both, asked.device))
        for one in plans:
            if asked.fits(one.plan):
                yield one
                return
    yield from _larger_together(asked)


def _larger_together(asked: Question) -> Iterable[Change]:
    """One answer for each way to store weights: the fewest GPUs of the smallest type that carry it."""
    stored = (Change("", asked.plan, asked.device), *_quantizations(asked))
    for way in stored:
        choices = [
            (ranks * device.memory_bytes, ranks, device)
            for device in (asked.device, *asked.devices)
            for ranks in (1, *(RANKS if asked.engine.is_spread else ()))
            if not asked.shape.heads % ranks and asked.fits(replace(way.plan, tensor_parallel=ranks), device)
        ]
        if choices:
            _, ranks, device = min(choices, key=lambda choice: (choice[0], choice[1], choice[2].name))
            where = f"spread it over {ranks} x {device.name} ({device.memory_bytes / 2**30:.1f} GiB each)"
            yield Change(
                f"{way.text}, and {where}" if way.text else where,
                replace(way.plan, tensor_parallel=ranks),
                device,
            )
