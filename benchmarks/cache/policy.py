"""Which models to keep: our order of eviction beside LRU, on the requests of the GenTD26 trace, at a quarter of all models' bytes.

The trace names models, but neither sizes nor load times. Sizes are drawn by the model's name from those of public diffusion models (2.1,
6.9 and 23.8 GB), and a load takes 6 s and then 0.5 GB/s: 20 s at the median and 54 s at the far end, where the trace's authors published 22.7 and
45.4 s (p50, p95).
"""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from penstock.decide.eviction import HIGH, Held, evict
from penstock.kit.hashing import DRAWS, draw

TRACE = Path(__file__).parents[2].parent / "shared" / "traces" / "llm" / "gentd26_requests_early.csv"
SIZES = ((0.3, 2_100_000_000), (0.8, 6_900_000_000), (1.0, 23_800_000_000))
START_S, BYTES_PER_S = 6.0, 0.5e9
SHARE = 0.25


@dataclass(frozen=True)
class Outcome:
    """Of all requests: the share that found its model, and how long they waited for it (s)."""

    hit_ratio: float
    byte_hit_ratio: float
    mean_load_s: float
    p95_load_s: float
    p99_load_s: float
    p95_of_loads_s: float


def requests() -> Iterator[tuple[float, str]]:
    """Times (Unix s) and models."""
    with TRACE.open(newline="") as file:
        for row in csv.DictReader(file):
            if model := row["checkpoint_model_version_id"]:
                at = datetime.fromisoformat(row["gmt_create"]).replace(tzinfo=UTC)
                yield at.timestamp(), model


def size_of(model: str) -> int:
    chance = draw(f"size of {model}") / DRAWS
    return next(size for share, size in SIZES if chance <= share)


def load_s(model: str) -> float:
    return START_S + size_of(model) / BYTES_PER_S


def lru(asked: list[tuple[float, str]], capacity: int) -> Outcome:
    held: OrderedDict[str, int] = OrderedDict()
    waits = []
    for _, model in asked:
        if model in held:
            held.move_to_end(model)
            waits.append(0.0)
            continue
        while held and sum(held.values()) + size_of(model) > capacity:
            held.popitem(last=False)
        held[model] = size_of(model)
        waits.append(load_s(model))
    return _outcome(asked, waits)


def ours(asked: list[tuple[float, str]], capacity: int) -> Outcome:
    """The high watermark is the capacity: what LRU may fill, no more."""
    held: dict[str, Held] = {}
    past: dict[str, Held] = {}
    waits = []
    for now, model in asked:
        known = past.get(model) or Held(model, size_of(model), now, 0.0, load_s(model))
        past[model] = known.asked(now)
        if model in held:
            held[model] = past[model]
            waits.append(0.0)
            continue
        used = sum(one.size_bytes for one in held.values())
        limit = int(capacity / HIGH)
        gone = evict(held.values(), used_bytes=used, limit_bytes=limit, coming_bytes=size_of(model), now=now)
        for name in gone.names:
            del held[name]
        held[model] = past[model]
        waits.append(load_s(model))
    return _outcome(asked, waits)


def compare() -> dict[str, Outcome]:
    asked = list(requests())
    capacity = int(SHARE * sum(size_of(model) for model in {model for _, model in asked}))
    return {"LRU": lru(asked, capacity), "ours": ours(asked, capacity)}


def _outcome(asked: list[tuple[float, str]], waits: list[float]) -> Outcome:
    hits = [wait == 0.0 for wait in waits]
    sizes = [size_of(model) for _, model in asked]
    loads = sorted(wait for wait in waits if wait)
    return Outcome(
        hit_ratio=sum(hits) / len(hits),
        byte_hit_ratio=sum(s for s, hit in zip(sizes, hits, strict=True) if hit) / sum(sizes),
        mean_load_s=sum(waits) / len(waits),
        p95_load_s=sorted(waits)[int(0.95 * len(waits))],
        p99_load_s=sorted(waits)[int(0.99 * len(waits))],
        p95_of_loads_s=loads[int(0.95 * len(loads))],
    )
