"""What engines in the open said that they took, beside what is estimated for them.

`reports.json` holds figures of ten starts of vLLM, of several versions, as users and its authors published their logs: weights on each GPU, what it
took beside the KV cache, and how many tokens its cache held. Batches and requests are vLLM's defaults there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from penstock.decide.engine_memory import engine_memory
from penstock.decide.fit_error import Observation, learn
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.memory_need import Device, Plan, terms
from penstock.decide.model_config import shape_of
from penstock.decide.model_size import weights_of

GIB = 1 << 30
REQUESTS = 256
"""What vLLM makes room for where nobody says it."""


class Compared(NamedTuple):
    """One start: pairs of what was estimated and what was reported, None where nothing was."""

    name: str
    weights_gib: tuple[float, float] | None
    tokens: tuple[float, float] | None
    beside_gib: tuple[float, float] | None


def compared(configs: dict[str, Any]) -> list[Compared]:
    """In the order of the file."""
    return [
        compare(report, configs[report["model"]])
        for report in json.loads((Path(__file__).parent / "reports.json").read_text())
    ]


def compare(report: dict[str, Any], config: dict[str, Any]) -> Compared:
    """Estimated as `penstock fit` does, without anything learned."""
    shape = replace(shape_of(config), weights=weights_of(config))
    ranks = report["tensor_parallel"]
    device = Device(name=f"{report['gpu_gib']} GiB", memory_bytes=int(report["gpu_gib"] * GIB))
    plan = Plan(concurrency=REQUESTS, context_tokens=1, tensor_parallel=ranks)
    sizes = {term.name: term.size_bytes for term in terms(shape, plan, device, engine_memory("vllm", "0.9"))}
    beside = sum(size for name, size in sizes.items() if name != "kv cache")
    tokens = None
    if "cache_tokens" in report:
        tokens = report["cache_gib"] * GIB / token_bytes(shape, ranks), float(report["cache_tokens"])
    return Compared(
        f"{report['model']}{f' x{ranks}' if ranks > 1 else ''}",
        (sizes["weights"] / GIB, report["weights_gib"]) if "weights_gib" in report else None,
        tokens,
        (beside / GIB, report["beside_gib"]) if "beside_gib" in report else None,
    )


def learned(found: list[Compared]) -> list[tuple[float, float]]:
    """What is estimated beside the cache, corrected by all starts but the one in question, and what was reported."""
    pairs = [one.beside_gib for one in found if one.beside_gib]
    seen = [
        Observation(
            model="",
            engine="vllm",
            version="",
            gpu="any",
            predicted_bytes=int(estimate * GIB),
            observed_bytes=int(reported * GIB),
        )
        for estimate, reported in pairs
    ]
    corrections = [
        learn(seen[:place] + seen[place + 1 :], model="", engine="vllm", version="", gpu="any").correction
        for place in range(len(seen))
    ]
    return [
        (estimate * factor, reported) for (estimate, reported), factor in zip(pairs, corrections, strict=True)
    ]
