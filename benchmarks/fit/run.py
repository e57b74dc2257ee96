"""How far are estimates of memory from the published figures of public models?

For each model the numbers of its config.json, typed in, go the way of `penstock fit`: KV cache of a token, weights in BF16, and how many
thousand tokens are left on one GPU of four sizes. Beside each figure stands the published one, to as many digits as it was published. That table
takes 0.92 of what CUDA sees of a GPU, 2 GiB for the engine, no activations, and lets every layer keep its whole context.

Then, what starts of vLLM said in logs that others published: weights, tokens in the cache, and memory beside it. And the embedded engine, which needs no GPU, runs models of three sizes: what it takes, beside the estimate.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fit.measured import SIZES, measure
from benchmarks.fit.reported import compared, learned
from benchmarks.report import Target, conclude
from msgspec.structs import replace

from penstock.decide.engine_memory import EngineMemory
from penstock.decide.fit import fit
from penstock.decide.fit_changes import Question
from penstock.decide.memory_need import Device, Plan
from penstock.decide.model_config import shape_of
from penstock.decide.model_size import weights_of

GIB = 1 << 30
GPUS_GIB = (23.6, 44.5, 79.1, 139.8)
ENGINE = EngineMemory(name="as published", utilization=0.92, block_tokens=1, caps_windows=False)


def measured(model: dict[str, Any]) -> dict[str, Any]:
    """Our figures, in the published units; None where the weights leave no room."""
    shape = replace(shape_of(model["config"]), weights=weights_of(model["config"]))
    bare = replace(shape, hidden_size=0, intermediate_size=0, expert_size=0, vocabulary=0)
    plan = Plan(concurrency=1, context_tokens=1)
    left = []
    for gib in GPUS_GIB:
        certificate = fit(
            Question(bare, plan, Device(name=f"{gib} GiB", memory_bytes=int(gib * GIB)), ENGINE)
        )
        left.append(certificate.kv_tokens / 1000 if certificate.kv_tokens else None)
    kept = fit(Question(bare, plan, Device(name="any", memory_bytes=1), ENGINE)).kv_token_bytes
    return {
        "kv_kib_per_token": kept / 1024,
        "weights_gib": shape.weight_bytes / GIB,
        "kv_thousand_tokens": left,
    }


def beside(ours: float | None, published: float | None, form: str) -> str:
    """Both in one cell."""
    return f"{'-' if ours is None else format(ours, form)}/{'-' if published is None else format(published, 'g')}"


def error(ours: float | None, published: float | None) -> float:
    """As a share; whole where one has room and the other has none."""
    if ours is None or published is None:
        return 0.0 if ours is published else 1.0
    return abs(ours / published - 1.0)


def main() -> None:
    models = json.loads((Path(__file__).parent / "models.json").read_text())
    print("ours/published; KV tokens in thousands on one GPU of so many GiB\n")
    print(f"{'model':<17}{'KV KiB/token':>16}{'weights GiB':>16}{''.join(f'{gib:>16}' for gib in GPUS_GIB)}")
    kept, weights, tokens, rows = [], [], [], []
    for model in models:
        ours = measured(model)
        rows.append({"model": model["name"], "ours": ours})
        cells = [beside(ours["kv_kib_per_token"], model["kv_kib_per_token"], ".3f")]
        kept.append(error(ours["kv_kib_per_token"], model["kv_kib_per_token"]))
        if model["weights_gib"] is not None:
            cells.append(beside(ours["weights_gib"], model["weights_gib"], ".2f"))
            weights.append(error(ours["weights_gib"], model["weights_gib"]))
            pairs = list(zip(ours["kv_thousand_tokens"], model["kv_thousand_tokens"], strict=True))
            cells += [beside(*pair, ".1f") for pair in pairs]
            tokens += [error(*pair) for pair in pairs if pair != (None, None)]
        print(f"{model['name']:<17}{''.join(f'{cell:>16}' for cell in cells)}", flush=True)
    print(
        f"\n{len(models)} models, {len(tokens)} figures of tokens; median error of tokens {statistics.median(tokens):.2%}"
    )
    reported = compared({model["name"]: model["config"] for model in models})
    print(f"\n{'vLLM said, GiB':<20}{'weights':>16}{'beside cache':>16}{'tokens':>20}")
    for one in reported:
        cells = [
            beside(*(pair or (None, None)), form)
            for pair, form in ((one.weights_gib, ".2f"), (one.beside_gib, ".2f"))
        ]
        print(
            f"{one.name:<20}{cells[0]:>16}{cells[1]:>16}{beside(*(one.tokens or (None, None)), '.0f'):>20}",
            flush=True,
        )
    rows += [{"reported": one._asdict()} for one in reported]
    ours = {
        name: [error(*pair) for one in reported if (pair := getattr(one, name))]
        for name in ("weights_gib", "tokens", "beside_gib")
    }
    too_little = max(said / estimate for estimate, said in learned(reported))
    print(
        f"beside the cache: median error {statistics.median(ours['beside_gib']):.1%}; most that was taken of what others' starts correct it to: {too_little:.0%}"
    )
    print("\nthe embedded engine, MiB\n")
    print(f"{'parameters':>12}{'estimate':>12}{'taken':>12}{'of it':>12}")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for hidden, layers in SIZES:
            found = measure(Path(folder) / str(hidden), hidden, layers)
            ratios.append(found.taken / found.estimate)
            rows.append({"embedded": found._asdict()})
            sizes = f"{found.estimate / 2**20:>12.0f}{found.taken / 2**20:>12.0f}"
            print(f"{found.parameters / 1e6:>10.1f} M{sizes}{ratios[-1]:>12.0%}", flush=True)
    targets = [
        Target("embedded engine, most that was taken of the estimate", round(max(ratios), 3), 1.0),
        Target("vLLM's weights, median error", round(statistics.median(ours["weights_gib"]), 4), 0.03),
        Target("vLLM's tokens in a cache of known size, largest error", round(max(ours["tokens"]), 4), 0.03),
        Target(
            "vLLM's memory beside the cache, uncorrected, median error",
            round(statistics.median(ours["beside_gib"]), 4),
            0.03,
        ),
        Target("KV cache of a token, largest error", round(max(kept), 5), 0.0005),
        Target("weights, median error", round(statistics.median(weights), 5), 0.01),
        Target("weights, largest error", round(max(weights), 5), 0.03),
        Target("tokens left, median error", round(statistics.median(tokens), 5), 0.03),
    ]
    conclude("fit", targets, rows=rows)


if __name__ == "__main__":
    main()
