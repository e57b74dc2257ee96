"""How good is the model cache, for real?

Servers on loopback (a file server with ranges, an S3 store, a Hub) hand out generated weights. Measured are: the rate beside a plain curl to the
same disk in the same run, and beside curl with sha256sum after it, since everything that is fetched is checked; what a kill in the middle costs; ten fetchers at once; then, on a running platform with three declared nodes in two
groups, ten pods, a full group and a group that is taken away; and the order of eviction beside LRU on the GenTD26 trace.
Prints tables and one RESULT line, and writes `benchmarks/results/cache.json`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.cache import host, policy
from benchmarks.cache.downloads import (
    CURL,
    VERIFIED,
    Origin,
    at_once,
    generate,
    killed,
    median,
    origin,
    rates,
)
from benchmarks.report import Target, conclude

from penstock.app.part_file import PART_BYTES
from penstock.app.part_streams import STREAMS

MIB = 1 << 20
FULL_MIB = 2000
SHARE_OF_CURL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=FULL_MIB, help="size of the weights")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    size = arguments.mib * MIB
    work = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        (work / "root").mkdir()
        print(f"generating {arguments.mib} MiB of weights", flush=True)
        generate(work / "root", size)
        with origin(work / "root") as source:
            figures = _downloads(source, work, size, arguments.repeats)
            figures["host"] = _host(source, size)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    figures["policy"] = _policy()
    targets = _targets(figures, size)
    conclude("cache", targets, is_whole=arguments.mib >= FULL_MIB, size_bytes=size, **figures)


def _downloads(source: Origin, work: Path, size: int, repeats: int) -> dict[str, Any]:
    times = rates(source, work, repeats)
    print(
        f"\n{'system':16} {'seconds, each run':40} {'MiB/s':>6} {'of curl':>8} {'of both':>8} {'medians, of curl':>17}"
    )
    for system, took in times.items():
        each = " ".join(f"{one:.2f}" for one in took)
        rate, shares = size / MIB / min(took), [_share(times, one, system) for one in (CURL, VERIFIED)]
        usual = median(times[CURL]) / median(took)
        print(
            f"{system:16} {each:40} {rate:6.0f} {shares[0]:8.2f} {shares[1]:8.2f} {usual:17.2f}", flush=True
        )
    print("\nkilling a fetcher in the middle, then ten fetchers at once", flush=True)
    twice, spared = killed(source, work, size)
    print(
        f"killed at half: {twice / MIB:.1f} MiB were sent twice; the next run was spared {100 * spared:.0f} %"
    )
    together = at_once(source, work, 10)
    print(f"ten fetchers at once: the source sent {together / size:.3f} times the model", flush=True)
    return {"seconds": times, "twice_bytes": twice, "spared": spared, "at_once_bytes": together}


def _share(times: dict[str, list[float]], reference: str, system: str) -> float:
    """The system's rate as a share of the reference's, each in its fastest run.

    A virtual machine's host takes memory back and gives it again page by page: any run, curl's too, may take twice as long for it.
    """
    return min(times[reference]) / min(times[system])


def _host(source: Origin, size: int) -> dict[str, Any]:
    print("\nstarting a platform with three nodes in two groups", flush=True)
    found = host.measure(source, size)
    print(
        f"three nodes hold the model after {found['cached_s']} s; the source sent {found['brought_bytes'] / size:.3f} times the model"
    )
    print(f"ten pods of it: the source sent {found['pods_bytes']} bytes more")
    print(f"a pod, meanwhile: {found['waiting']}")
    print(f"a second model for a full group: {found['refused']} ({found['refused_bytes']} bytes were sent)")
    print(f"deleted while in use: {found['delete_in_use']}")
    print(f"copies by node: {found['there']}; without group a: {found['left']}", flush=True)
    return found


def _policy() -> dict[str, Any]:
    if not policy.TRACE.exists():
        print(
            "\nthe order of eviction is not measured: ../shared/traces/llm/gentd26_requests_early.csv is absent"
        )
        return {}
    print("\nplaying the trace against two orders of eviction", flush=True)
    outcomes = policy.compare()
    print(
        f"{'eviction':9} {'hits':>7} {'by bytes':>9} {'mean load s':>12} {'p95':>6} {'p99':>6} {'p95 of loads':>13}"
    )
    for name, one in outcomes.items():
        print(
            f"{name:9} {one.hit_ratio:7.4f} {one.byte_hit_ratio:9.4f} {one.mean_load_s:12.3f}"
            f" {one.p95_load_s:6.1f} {one.p99_load_s:6.1f} {one.p95_of_loads_s:13.1f}"
        )
    return {name: asdict(one) for name, one in outcomes.items()}


def _targets(figures: dict[str, Any], size: int) -> list[Target]:
    seconds, found, order = figures["seconds"], figures["host"], figures["policy"]
    targets = [
        *(
            Target(
                f"{kind}: seconds as a share of curl's", 1 / _share(seconds, CURL, kind), 1 / SHARE_OF_CURL
            )
            for kind in ("http", "s3", "hf")
        ),
        Target("bytes sent twice after a kill", figures["twice_bytes"], STREAMS * PART_BYTES),
        Target("ten fetchers at once: models sent", figures["at_once_bytes"] / size, 1.0),
        Target("models sent for three nodes", found["brought_bytes"] / size, 1.0),
        Target("bytes sent for ten pods", found["pods_bytes"], 0),
        Target("bytes sent for a full group", found["refused_bytes"], 0),
        Target(
            "pods that did not say what they waited for",
            float("waiting for model cache" not in found["waiting"]),
            0,
        ),
        Target("full group not refused with its numbers", float("has no room" not in found["refused"]), 0),
        Target("copies left in the group that was taken away", found["left"]["a1"] + found["left"]["a2"], 0),
        Target("copies lost in the group that was left", 1 - found["left"]["b1"], 0),
    ]
    if order:
        ours, lru = order["ours"], order["LRU"]
        targets.append(
            Target("misses as a share of LRU's", (1 - ours["hit_ratio"]) / (1 - lru["hit_ratio"]), 1.0)
        )
        targets.append(Target("p95 load time (s), LRU's as target", ours["p95_load_s"], lru["p95_load_s"]))
    return targets


if __name__ == "__main__":
    main()
