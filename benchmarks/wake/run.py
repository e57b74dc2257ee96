"""What does the platform add to the start of an engine, when a request comes at zero?

Takes, in turns, the time from a request for a service at zero to its first token, and from the exec of the very same engine by hand (asked
for its readiness every few milliseconds, then sent the same request) to its first token. Medians are compared: on a machine that others
use, single runs differ by more than what is looked for. What lies outside of the engine is told part by part, from the API's watches,
the pod's files and the engine's log. Then, of fifty who wait for one replica, how long after its first ready answer the last is sent
to it. Prints tables and one RESULT line, and writes `benchmarks/results/wake.json`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.report import Target, conclude
from benchmarks.wake import waiters
from benchmarks.wake.bare import Bare
from benchmarks.wake.platform import Platform

LEAST_OVERHEAD_MS = 100.0
SHARE = 0.1
MOST_SENT_MS = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    bares, wakes = [], []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home, Platform(Path(home)) as platform:
        platform.wake()  # converts the model, and fills the page cache
        bare = Bare(platform.engine())
        bare.start()
        for turn in range(arguments.repeats):
            platform.sleep()
            bares.append(bare.start())
            wakes.append(platform.wake())
            print(
                f"run {turn + 1}: bare {bares[-1].total_ms:.0f} ms, wake {wakes[-1].total_ms:.0f} ms",
                flush=True,
            )
        last_sent_ms = waiters.measure(platform, arguments.repeats)
    parts = {"bare engine": [one.parts_ms for one in bares], "wake": [one.parts_ms for one in wakes]}
    for title, taken in parts.items():
        table(title, taken)
    pairs = [wake.total_ms - bare.total_ms for wake, bare in zip(wakes, bares, strict=True)]
    bare_ms, wake_ms = (statistics.median(one.total_ms for one in taken) for taken in (bares, wakes))
    overhead_ms = wake_ms - bare_ms
    print(
        f"\noverhead, median to median: {overhead_ms:.0f} ms, {overhead_ms / bare_ms:.0%} of the bare start"
    )
    print(f"run by run: {', '.join(f'{ms:.0f}' for ms in pairs)} ms")
    most_ms = max(LEAST_OVERHEAD_MS, SHARE * bare_ms)
    target = Target("overhead_ms", round(overhead_ms, 1), round(most_ms, 1))
    sent = Target("last_of_50_waiters_sent_ms", round(max(last_sent_ms), 1), MOST_SENT_MS)
    conclude("wake", [target, sent], last_sent_ms=last_sent_ms, parts_ms=parts, overhead_by_run_ms=pairs)


def table(title: str, taken: list[dict[str, float]]) -> None:
    """Median and spread of each part, in milliseconds; the parts follow each other."""
    print(f"\n{title:42} {'min':>8} {'median':>8} {'max':>8}  ms")
    for name in taken[0]:
        values = [one[name] for one in taken]
        print(f"  {name:40} {min(values):8.0f} {statistics.median(values):8.0f} {max(values):8.0f}")
    totals = [sum(one.values()) for one in taken]
    print(f"  {'in all':40} {min(totals):8.0f} {statistics.median(totals):8.0f} {max(totals):8.0f}")


if __name__ == "__main__":
    main()
