"""How far are estimates of memory from the published figures of public models?

For each model the numbers of its config.json, typed in, go the way of `penstock fit`: KV cache of a token, weights in BF16, and how many
thousand tokens are left on one GPU of four sizes. Beside each figure stands the published one, to as many digits as it was published. That table
takes 0.92 of what CUDA sees of a GPU, 2 GiB for the engine, no activations, and lets every layer keep its whole context.

Then, what starts of vLLM said in logs that others published: weights, activations, all memory beside the cache, CUDA graphs, tokens. Those marked + were held out when
the numbers of the estimate were found. Where a model ran more than once, each start is estimated anew with what the others taught. And the
embedded engine, which needs no GPU, runs models of three sizes: what it takes, beside the estimate.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fit.measured import SIZES, measure
from benchmarks.fit.reported import Compared, Pair, compared, learned, safe
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


def published(models: list[dict[str, Any]]) -> tuple[list[Target], list[dict[str, Any]]]:
    """Beside the published figures of public models."""
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
    print(f"\n{len(models)} models, {len(tokens)} figures of tokens")
    return [
        Target("KV cache of a token, largest error", round(max(kept), 5), 0.0005),
        Target("weights, median error", round(statistics.median(weights), 5), 0.01),
        Target("weights, largest error", round(max(weights), 5), 0.03),
        Target("tokens left, median error", round(statistics.median(tokens), 5), 0.03),
    ], rows


COLUMNS = ("weights_gib", "activations_gib", "beside_gib", "graphs_gib")


def reported(found: list[Compared]) -> list[Target]:
    """Beside what vLLM said."""
    print(
        f"\n{'vLLM said, GiB':<30}{'weights':>15}{'activations':>15}{'beside cache':>15}{'graphs':>15}{'tokens':>18}"
    )
    for one in found:
        cells = [beside(*(getattr(one, name) or (None, None)), ".2f") for name in COLUMNS]
        cells.append(beside(*(one.tokens or (None, None)), ".0f"))
        name = f"{one.name}{' +' if one.held_out else ''}"
        print(f"{name:<30}{''.join(f'{cell:>15}' for cell in cells[:4])}{cells[4]:>18}", flush=True)
    print("+ held out")
    tuned = [one for one in found if not one.held_out]
    held_out = [one for one in found if one.held_out]
    anew, cautious = learned(found), safe(found)
    print(
        f"beside the cache, median error: {middle(tuned, 'beside_gib'):.1%} of {len(of(tuned, 'beside_gib'))} starts that the estimate was made with, "
        f"{middle(held_out, 'beside_gib'):.1%} of {len(of(held_out, 'beside_gib'))} held out; "
        f"largest {max(error(*pair) for pair in of(held_out, 'beside_gib')):.1%} held out; "
        f"of {len(anew)} starts whose model had run before at other settings {statistics.median(error(*pair) for pair in anew):.1%}"
    )
    return [
        Target("vLLM's weights, median error", round(middle(found, "weights_gib"), 4), 0.03),
        Target("vLLM's tokens in a cache of known size, largest error", round(max(error(*pair) for pair in of(found, "tokens")), 4), 0.03),
        Target("vLLM's activations, held out, median error", round(middle(held_out, "activations_gib"), 4), 0.03),
        Target("vLLM's memory beside the cache, held out, uncorrected, median error", round(middle(held_out, "beside_gib"), 4), 0.03),
        Target("the same, all starts, uncorrected, median error", round(middle(found, "beside_gib"), 4), 0.03),
        Target("the same after other starts of the model, median error", round(statistics.median(error(*pair) for pair in anew), 4), 0.03),
        Target("most that was taken of what others' starts correct it to", round(max(said / estimate for estimate, said in cautious), 3), 1.0),
        Target("vLLM's CUDA graphs, median error", round(middle([one for one in found if one.graphs_gib and one.graphs_gib[1]], "graphs_gib"), 3), 0.35),
    ]  # fmt: skip


def of(found: list[Compared], name: str) -> list[Pair]:
    """The pairs of one column."""
    return [pair for one in found if (pair := getattr(one, name))]


def middle(found: list[Compared], name: str) -> float:
    """The median error of one column."""
    return statistics.median(error(*pair) for pair in of(found, name))


def embedded() -> tuple[list[Target], list[dict[str, Any]]]:
    """Models of three sizes on the embedded engine."""
    print("\nthe embedded engine, MiB\n")
    print(f"{'parameters':>12}{'estimate':>12}{'taken':>12}{'of it':>12}")
    ratios, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        for hidden, layers in SIZES:
            found = measure(Path(folder) / str(hidden), hidden, layers)
            ratios.append(found.taken / found.estimate)
            rows.append({"embedded": found._asdict()})
            sizes = f"{found.estimate / 2**20:>12.0f}{found.taken / 2**20:>12.0f}"
            print(f"{found.parameters / 1e6:>10.1f} M{sizes}{ratios[-1]:>12.0%}", flush=True)
    return [Target("embedded engine, most that was taken of the estimate", round(max(ratios), 3), 1.0)], rows


def main() -> None:
    models = json.loads((Path(__file__).parent / "models.json").read_text())
    figures, rows = published([model for model in models if model["kv_kib_per_token"] is not None])
    found = compared({model["name"]: model["config"] for model in models})
    said = reported(found)
    taken, sizes = embedded()
    conclude(
        "fit",
        [*taken, *said, *figures],
        rows=[*rows, *({"reported": one._asdict()} for one in found), *sizes],
    )


if __name__ == "__main__":
    main()
