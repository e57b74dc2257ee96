"""What engines in the open said that they took, beside what is estimated for them.

`reports.json` holds starts of vLLM, of several versions, as users and its authors published their logs: weights on each GPU, the peak of
activations, what else it took before it sized its cache, and how many tokens that held. Batches and requests are those that it ran with.
The numbers in `decide/engine_memory.py` and `decide/activations.py` were found with the starts that are marked `tuned`; those `held out` were
not looked at for that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from penstock.decide.engine_memory import engine_memory
from penstock.decide.fit_error import Observation, learn
from penstock.decide.kv_bytes import token_bytes
from penstock.decide.memory_need import Device, Plan, graph_bytes, terms
from penstock.decide.model_config import shape_of
from penstock.decide.model_size import weights_of

GIB = 1 << 30
Pair = tuple[float, float]


class Compared(NamedTuple):
    """One start: pairs of what was estimated and what was reported, None where nothing was. `beside` the cache are weights, activations and the rest."""

    name: str
    model: str
    held_out: bool
    weights_gib: Pair | None
    activations_gib: Pair | None
    beside_gib: Pair | None
    graphs_gib: Pair | None
    tokens: Pair | None


def compared(configs: dict[str, Any]) -> list[Compared]:
    """In the order of the file."""
    return [
        compare(report, configs[report["model"]])
        for report in json.loads((Path(__file__).parent / "reports.json").read_text())
    ]


def compare(report: dict[str, Any], config: dict[str, Any]) -> Compared:
    """Estimated as `penstock fit` does, without anything learned. CUDA graphs are compared apart: older versions did not count them."""
    shape = replace(shape_of(config), weights=weights_of(config))
    ranks = report["tensor_parallel"]
    device = Device(name=report["gpu"], memory_bytes=int(report["gpu_gib"] * GIB))
    plan = Plan(
        concurrency=report["sequences"],
        context_tokens=1,
        tensor_parallel=ranks,
        quantization=report.get("quantization", ""),
        batched_tokens=report["batched_tokens"],
    )
    engine = replace(engine_memory("vllm", report["version"]), counts_graphs=False)
    sizes = {term.name: term.size_bytes / GIB for term in terms(shape, plan, device, engine)}
    said = {name: report.get(f"{name}_gib") for name in ("weights", "activations", "other", "graphs")}
    whole = [said[name] for name in ("weights", "activations", "other")]
    tokens = None
    if "cache_tokens" in report:
        tokens = report["cache_gib"] * GIB / token_bytes(shape, ranks), float(report["cache_tokens"])
    return Compared(
        name=f"{report['model']}{f' x{ranks}' if ranks > 1 else ''} {report['gpu']}",
        model=report["model"],
        held_out=report["set"] == "held out",
        weights_gib=_pair(sizes["weights"], said["weights"]),
        activations_gib=_pair(sizes["activations"], said["activations"]),
        beside_gib=_pair(
            sum(size for name, size in sizes.items() if name != "kv cache"),
            None if None in whole else sum(whole),
        ),
        graphs_gib=_pair(graph_bytes(shape, engine) / GIB, said["graphs"]),
        tokens=tokens,
    )


def _pair(estimate: float, reported: float | None) -> Pair | None:
    return None if reported is None else (estimate, reported)


def learned(found: list[Compared]) -> list[Pair]:
    """What is estimated beside the cache where the same model ran before, at other settings, corrected by the median of these runs; and what was reported."""
    pairs = []
    for place, one in enumerate(found):
        others = found[:place] + found[place + 1 :]
        seen = [_observation(other, other.beside_gib) for other in others if other.beside_gib]
        known = [item for item in seen if item.model == one.model]
        if one.beside_gib and known:
            estimate, reported = one.beside_gib
            typical = learn(known, model=one.model, engine="vllm", version="", gpu="any").typical
            pairs.append((estimate * typical, reported))
    return pairs


def safe(found: list[Compared]) -> list[Pair]:
    """Corrected by the 95th percentile of all starts but the one in question."""
    pairs = []
    for place, one in enumerate(found):
        others = found[:place] + found[place + 1 :]
        seen = [_observation(other, other.beside_gib) for other in others if other.beside_gib]
        if one.beside_gib:
            estimate, reported = one.beside_gib
            factor = learn(seen, model="", engine="vllm", version="", gpu="any").correction
            pairs.append((estimate * factor, reported))
    return pairs


def _observation(one: Compared, pair: Pair) -> Observation:
    estimate, reported = pair
    return Observation(
        model=one.model,
        engine="vllm",
        version="",
        gpu="any",
        predicted_bytes=int(estimate * GIB),
        observed_bytes=int(reported * GIB),
    )
