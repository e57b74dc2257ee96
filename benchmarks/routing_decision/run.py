"""What does it cost to choose where a request goes?

The whole decision, step by step, for prompts of 8k and 32k tokens among 16, 128 and 1,024 endpoints, with an index of 1 million blocks and of
10 million; what a million blocks take; the slowest insert while the index grew to that. Then what a gateway takes that nobody asks for anything,
with 100 endpoints whose metrics it reads and whose KV events it hears. Endpoints hold what was sent to them, or what their engines told; with
10 million blocks the latter is asked of 128 endpoints only, for it takes a minute to tell.

One thread does it all; times are its processor time in single calls.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.report import Target, conclude
from benchmarks.routing_decision.decision import Figures, figures, measure
from benchmarks.routing_decision.idle import ENDPOINTS as IDLE_ENDPOINTS
from benchmarks.routing_decision.idle import Idle, idle
from benchmarks.routing_decision.world import PROMPT_TOKENS, Case, build
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

ENDPOINTS = (16, 128, 1024)
INDEX_BLOCKS = (1_000_000, 10_000_000)
SOURCES = ("sent", "told")
TOLD_LONG = 128
"""Endpoints with which the greatest index is told."""
BYTES_A_BLOCK = 600
"""What a case may take; those that do not fit are left out, and said."""
IDLE_S = 25.0
DECISION_US, INSERT_MS, IDLE_CORES = 1_000.0, 2.0, 0.2


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """On this machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def cases(endpoints: list[int], blocks: list[int]) -> list[Case]:
    """In the order in which they are run: the small ones first."""
    greatest = max(INDEX_BLOCKS)
    return [
        Case(source, many, size)
        for size in sorted(blocks)
        for many in endpoints
        for source in SOURCES
        if source == "sent" or size < greatest or many == TOLD_LONG
    ]


def run_case(case: Case, asked: int, pipe: Connection) -> None:
    """In a process of its own, for what the last case gave back would hide what this one takes."""
    draws = random.Random(str(case))
    gc.collect()
    gc.freeze()  # as the gateway does
    before, said = resident_bytes(), [0.0]

    def advance(share: float) -> None:
        if share >= said[0] + 0.02:
            said[0] = share
            pipe.send(share)

    world = build(case, draws, advance)
    gc.collect()
    size = (resident_bytes() - before - world.kept_bytes) / len(world.router.index)
    rows = [
        {**case._asdict(), "tokens": length, "step": step, **found._asdict()}
        for length in PROMPT_TOKENS
        for step, found in measure(world, length, asked, draws).items()
    ]
    inserts = {blocks: figures(times) for blocks, times in sorted(world.inserts_us.items())}
    pipe.send((rows, inserts, len(world.router.index), size))


def play(case: Case, asked: int, progress: Progress, task: TaskID) -> dict[str, Any]:
    """One case's figures, as its process tells them."""
    progress.update(
        task, description=f"{case.blocks // 1_000_000} M blocks {case.source}, {case.endpoints} endpoints"
    )
    done = progress.tasks[task].completed
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=run_case, args=(case, asked, there))
    process.start()
    there.close()
    try:
        while isinstance(told := here.recv(), float):
            progress.update(task, completed=done + min(told, 1.0) * case.blocks)
    except EOFError:
        raise SystemExit(f"a case ended before its time: {case}") from None
    finally:
        process.join()
    rows, inserts, indexed, size = told
    return {"case": case, "rows": rows, "inserts": inserts, "indexed_blocks": indexed, "bytes_a_block": size}


def show(found: dict[str, Any], console: Console) -> None:
    """One case's table."""
    case: Case = found["case"]
    console.print(
        f"\n{case.blocks / 1e6:g} M blocks {case.source}, {case.endpoints:,} endpoints: "
        f"{found['bytes_a_block']:.0f} MB for each million blocks (with {found['indexed_blocks']:,})"
    )
    console.print(f"  {'prompt':>7}  {'step':<16} {'p50 us':>9} {'p99 us':>9} {'most us':>9}")
    for row in found["rows"]:
        times = f"{row['p50_us']:>9.1f} {row['p99_us']:>9.1f} {row['most_us']:>9.1f}"
        console.print(f"  {row['tokens']:>7,}  {row['step']:<16} {times}")
    for blocks, one in found["inserts"].items():
        times = f"{one.p50_us:>9.1f} {one.p99_us:>9.1f} {one.most_us:>9.1f}"
        console.print(f"  while it grew, inserts of {blocks:>5,}: {times}")


def targets(found: list[dict[str, Any]], idled: Idle | None) -> list[Target]:
    """What was promised, of what was run."""
    promised = []
    for one in found:
        case: Case = one["case"]
        where = f"{case.endpoints:,} endpoints, {case.blocks // 1_000_000} M blocks {case.source}"
        for row in one["rows"]:
            if (row["tokens"], row["endpoints"], row["step"]) == (8_192, 128, "decision"):
                promised.append(
                    Target(f"p99 of a decision in us, 8k tokens, {where}", row["p99_us"], DECISION_US)
                )
        slowest: list[Figures] = [times for blocks, times in one["inserts"].items() if blocks <= 512]
        most_ms = max(times.most_us for times in slowest) / 1e3
        promised.append(
            Target(f"slowest insert of 512 blocks at most in ms, {where}", round(most_ms, 3), INSERT_MS)
        )
    if idled is not None:
        promised.append(
            Target(f"cores of an idle gateway, {IDLE_ENDPOINTS} endpoints", idled.cores, IDLE_CORES)
        )
    return promised


def main() -> None:
    """All of it, or as little as is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[*INDEX_BLOCKS], help="sizes of the index")
    parser.add_argument("--endpoints", type=int, nargs="*", default=[*ENDPOINTS], help="how many endpoints")
    parser.add_argument("--questions", type=int, default=600, help="decisions in each case and length")
    parser.add_argument(
        "--idle-s", type=float, default=IDLE_S, help="how long the idle gateway is watched; 0: not"
    )
    chosen = parser.parse_args()
    wanted, console = cases(chosen.endpoints, chosen.blocks), Console(highlight=False, soft_wrap=True)
    found: list[dict[str, Any]] = []
    left_out: list[Case] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(case.blocks for case in wanted) or 1)
        idled = None
        if chosen.idle_s:
            progress.update(task, description=f"an idle gateway, for {chosen.idle_s:g} s")
            idled = idle(chosen.idle_s)
            console.print(idled.told)
        for case in wanted:
            before = progress.tasks[task].completed
            if case.blocks * BYTES_A_BLOCK > available_bytes():
                left_out.append(case)
                console.print(f"left out, too little memory: {case}")
            else:
                found.append(play(case, chosen.questions, progress, task))
                show(found[-1], console)
            progress.update(task, completed=before + case.blocks)
    is_whole = (tuple(chosen.blocks), tuple(chosen.endpoints)) == (
        INDEX_BLOCKS,
        ENDPOINTS,
    ) and idled is not None
    conclude(
        "routing_decision",
        targets(found, idled),
        is_whole=is_whole,
        cases=[_kept(one) for one in found],
        idle=idled._asdict() if idled is not None else None,
        left_out=[case._asdict() for case in left_out],
    )


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    inserts = {blocks: one._asdict() for blocks, one in found["inserts"].items()}
    return {**found, "case": found["case"]._asdict(), "inserts": inserts}


if __name__ == "__main__":
    main()
