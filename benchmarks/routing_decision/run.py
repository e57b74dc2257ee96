"""What does it cost to choose where a request goes?

Each *way* is asked the same questions in turns: for prompts of 8k and 32k tokens, whose chained hashes are at hand, among 16, 128 and 1,024
endpoints, with an index of 1 million blocks, and of 10 million where memory allows. Baseline is the choice by fewest requests in flight.
Endpoints hold prompts of one system prompt and 2 copies of the rest of each, one of them in part, so that a match ends at many depths; every 8th
question is about a prompt that nobody holds. One thread does it all; times are its processor time in single calls, with what the caches of the processor
have lost since the last one.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from array import array
from collections.abc import Callable, Sequence
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Target, conclude

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.decide.routing import route
from penstock.gateway.kv_index import KvIndex
from penstock.kit.hashing import chain_seed, token_blocks

BLOCK_TOKENS = 16
PROMPT_TOKENS = (8_192, 32_768)
ENDPOINTS = (16, 128, 1024)
INDEX_BLOCKS = (1_000_000, 10_000_000)
COPIES = 2
SYSTEM_SHARE = 0.25
ROOM = 1.3
SOURCES = ("sent", "told")
"""Whether endpoints hold what was sent to them, where lookups may jump, or what their engines told, where each block is looked at."""
NOTHING_HELD = 8
BYTES_A_BLOCK = 500
"""What the whole of a case may take, with the questions; cases that do not fit are left out, and said."""


class Case(NamedTuple):
    """What is varied."""

    tokens: int
    endpoints: int
    blocks: int
    source: str


class Question(NamedTuple):
    """One request's id and the hashes of its prompt."""

    request: str
    hashes: Sequence[int]


class Way(NamedTuple):
    """One way to choose. It is asked once for each question; what comes back does not matter here."""

    name: str
    ask: Callable[[Question], object]


class World(NamedTuple):
    """One case's endpoints, index and prompts."""

    service: ServiceRoute
    in_flight: dict[str, int]
    kv_index: KvIndex
    questions: Sequence[Question]


class Figures(NamedTuple):
    """Of single calls."""

    p50_us: float
    p99_us: float


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def ways(world: World) -> tuple[Way, ...]:
    """In the order of the table; the first is the baseline."""
    return (
        Way("least requests", lambda question: route(world.service, question.request, world.in_flight)),
        Way("match", lambda question: world.kv_index.match(question.hashes, 0.0)),
    )


def build(case: Case, asked: int, draws: random.Random) -> World:
    """`case.blocks` counts those that differ; with copies, endpoints hold up to `COPIES` times as many."""
    names = [f"10.{n >> 8}.{n & 255}.1:8000" for n in range(case.endpoints)]
    pool = tuple(Endpoint(name=name, address=name.partition(":")[0], port=8000) for name in names)
    length = case.tokens // BLOCK_TOKENS
    shared = int(length * SYSTEM_SHARE)
    index = KvIndex(BLOCK_TOKENS)
    for name in names:
        index.add(name, int(case.blocks * COPIES / case.endpoints * ROOM) + 2 * length)
        if case.source == "told":
            index.restarted(name)
    system = array("I", draws.randbytes(shared * BLOCK_TOKENS * 4))
    prompts: list[list[int]] = []
    for number in range(max(case.blocks // (length - shared), 1)):
        tokens = system + array("I", draws.randbytes((length - shared) * BLOCK_TOKENS * 4))
        chain = token_blocks(tokens, BLOCK_TOKENS, chain_seed(""))
        engine_names = [*range(shared), *range(number * length + shared, (number + 1) * length)]
        for copy, name in enumerate(draws.sample(names, COPIES)):
            depth = length if copy == 0 else draws.randint(shared, length)
            if case.source == "told":
                index.stored(name, None, engine_names[:depth], tokens, BLOCK_TOKENS)
            else:
                index.sent(name, chain[:depth], 0.0)
        if len(prompts) < asked:
            prompts.append(chain)
    questions: list[Question] = []
    for number in range(asked):
        change = 1 if number % NOTHING_HELD == 0 else 0
        hashes = [
            key + change for key in draws.choice(prompts)
        ]  # numbers of its own, as hashing anew makes them
        questions.append(Question(f"request-{number}", hashes))
    service = ServiceRoute(
        namespace="n",
        name="s",
        uid="u",
        engine_model="m",
        revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=pool),),
    )
    return World(service, {name: draws.randint(0, 20) for name in names}, index, questions)


def measure(world: World) -> dict[str, Figures]:
    """All ways take turns, question by question."""
    taken: dict[str, list[float]] = {way.name: [] for way in ways(world)}
    asked = ways(world)
    for question in world.questions:
        for way in asked:
            began = time.thread_time()
            way.ask(question)
            taken[way.name].append((time.thread_time() - began) * 1e6)
    return {name: Figures(percentile(times, 0.5), percentile(times, 0.99)) for name, times in taken.items()}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def run_case(case: Case, asked: int) -> list[dict[str, object]]:
    """One row for each way, printed as well."""
    before = resident_bytes()
    world = build(case, asked, random.Random(str(case)))
    gc.collect()
    size, rows = (resident_bytes() - before) / len(world.kv_index), []
    for name, figures in measure(world).items():
        print(
            f"{case.tokens:>8,} {case.endpoints:>9,} {len(world.kv_index):>11,} {case.source:<5}{size:>13,.0f}  "
            f"{name:<16} {figures.p50_us:>9.1f} {figures.p99_us:>9.1f}",
            flush=True,
        )
        held = {"indexed_blocks": len(world.kv_index), "bytes_a_block": round(size)}
        rows.append({**case._asdict(), **held, "way": name, **figures._asdict()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=INDEX_BLOCKS, help="sizes of the index")
    parser.add_argument("--endpoints", type=int, nargs="*", default=ENDPOINTS, help="how many endpoints")
    parser.add_argument("--questions", type=int, default=2_000, help="asked of each way, in each case")
    chosen = parser.parse_args()
    cases = [Case(*one) for one in product(PROMPT_TOKENS, chosen.endpoints, chosen.blocks, SOURCES)]
    rows: list[dict[str, object]] = []
    left_out: list[Case] = []
    print(
        f"{'prompt':>8} {'endpoints':>9} {'index':>11} {'by':<5}{'bytes a block':>13}  {'way':<16} {'p50 us':>9} {'p99 us':>9}"
    )
    for case in sorted(cases, key=lambda one: one.blocks):
        if case.blocks * BYTES_A_BLOCK > available_bytes():
            left_out.append(case)
        else:
            with get_context("spawn").Pool(
                1
            ) as process:  # of its own: what the last case gave back would hide what this one takes
                rows += process.apply(run_case, (case, chosen.questions))
    for case in left_out:
        print(f"left out, too little memory: {case}")
    decisive = [row for row in rows if (row["tokens"], row["endpoints"], row["way"]) == (8_192, 128, "match")]
    targets = [
        Target(
            f"p99 of a match in us, 128 endpoints, 8k tokens, {row['blocks']:,} blocks {row['source']}",
            float(str(row["p99_us"])),
            300.0,
        )
        for row in decisive
    ]
    is_whole = (tuple(chosen.blocks), tuple(chosen.endpoints)) == (INDEX_BLOCKS, ENDPOINTS)
    conclude(
        "routing_decision",
        targets,
        is_whole=is_whole,
        rows=rows,
        left_out=[case._asdict() for case in left_out],
    )


if __name__ == "__main__":
    main()
