"""How long does it take to decide about ten thousand services once?

The autoscaler of the control plane as it runs: its revisions, the windows of their demand, its cache of pods and services, its laws.
Only the cluster behind the cache is a list in memory. Every service has all of its traffic on one revision with one to four ready pods,
and reports of its demand; the forecast has an hour of history. For each law, ticks of all services at once, as after a restart, though
otherwise they are spread over the time between two: while demand is as before, and while it grows, so that services get other sizes and
the decisions are recorded; what it takes to hear a gateway's report; and seconds as they come in service, ticks spread. Between two ticks
of all lies as much time as the law leaves, so that each of them decides. One thread does it all. Applying what was decided means waiting for the store, and is no part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import time
from typing import Any, NamedTuple

from benchmarks.report import Target, conclude

from penstock.contracts.cluster import Listing
from penstock.contracts.exchange import LATENCY_BOUNDS_S, DemandReport, RevisionDemand, ServiceDemand
from penstock.controlplane.autoscaling.applying import Applier
from penstock.controlplane.autoscaling.laws import ForecastLaw
from penstock.controlplane.autoscaling.loop import Autoscaler
from penstock.controlplane.autoscaling.revision import Revision
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.feed import Feed
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.starts import Starts
from penstock.decide import forecast
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.workload import SERVICE_LABEL
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition, Resource
from penstock.resources.pod import Pod, PodSpec, PodStatus
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec
from penstock.resources.serving import (
    ComponentStatus,
    InferenceService,
    InferenceServiceSpec,
    InferenceServiceStatus,
    PredictorSpec,
    TrafficTarget,
)
from penstock.resources.workload import Deployment
from penstock.testing.factories import meta

SERVICES = 10_000
TICKS = 15
TARGET_S = 1.0


class Compared(NamedTuple):
    """A law by its class, what lies between two of its ticks, and after how many its windows are full."""

    named: str
    every_s: float
    warm_up: int


LAWS = {
    "Knative": Compared("kpa.autoscaling.knative.dev", 2.0, 32),
    "forecast": Compared("forecast.penstock.dev", forecast.STEP_S, 6),
}
REPORTS = 2
"""Between two ticks; each is of the time since the last."""
HISTORY_S = 3600.0
USUAL, GROWTH = 1.0, 0.3
"""Demand, in what a service's pods are for."""
REPORT, STEADY, MOVING = "a report of all services", "a tick, demand as before", "a tick, demand grows"
SECOND = "a second, ticks spread"


class Spent(NamedTuple):
    """Of the one thread that works: seconds of a core, and on the clock."""

    cpu_s: float
    wall_s: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.thread_time(), time.perf_counter())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cpu_s - other.cpu_s, self.wall_s - other.wall_s)

    def __truediv__(self, parts: float) -> Spent:
        return Spent(self.cpu_s / parts, self.wall_s / parts)


class Hands:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return 1_767_225_600.0 + self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Objects:
    """As much of a cluster as a cache reads: everything was there from the beginning."""

    def __init__(self, objects: dict[type[Resource], tuple[Resource, ...]]) -> None:
        self._objects = objects

    async def list(self, kind: type[Resource], *_: object, **__: object) -> Listing[Any]:
        return Listing(self._objects.get(kind, ()), "1")

    async def watch(self, *_: object, **__: object) -> Any:
        await asyncio.Event().wait()
        yield


def service_objects(number: int, law: str, pods: int) -> tuple[Resource, ...]:
    """A service, its autoscaler, and its ready pods."""
    name, revision = f"svc-{number:05d}", f"svc-{number:05d}-predictor-00001"
    traffic = (TrafficTarget(revision_name=revision, percent=100, latest_revision=True),)
    service = InferenceService(
        metadata=meta(name),
        spec=InferenceServiceSpec(predictor=PredictorSpec()),
        status=InferenceServiceStatus(components={"predictor": ComponentStatus(traffic=traffic)}),
    )
    scaler = PodAutoscaler(
        metadata=meta(
            revision,
            labels={SERVICE_LABEL: name, "component": "predictor"},
            annotations={
                "autoscaling.knative.dev/class": law,
                "autoscaling.knative.dev/target": "10",
                "autoscaling.knative.dev/max-scale": "50",
            },
        ),
        spec=PodAutoscalerSpec(
            scale_target_ref=CrossVersionObjectReference(
                api_version="apps/v1", kind="Deployment", name=revision
            )
        ),
    )
    ready = Condition(type="Ready", status="True", last_transition_time="2026-01-01T00:00:00Z")
    running = tuple(
        Pod(
            metadata=meta(f"{revision}-{pod}", labels={REVISION_LABEL: revision, SERVICE_LABEL: name}),
            spec=PodSpec(node_name="node-1"),
            status=PodStatus(phase="Running", conditions=(ready,)),
        )
        for pod in range(pods)
    )
    return (service, scaler, *running)


class Shell:
    """The autoscaler over `count` services, and a gateway that reports them all."""

    def __init__(self, count: int, law: Compared) -> None:
        self.window_s = law.every_s / REPORTS
        self.chance = random.Random(7)
        self.pods = [self.chance.randint(1, 4) for _ in range(count)]
        objects: dict[type[Resource], list[Resource]] = {}
        for number, pods in enumerate(self.pods):
            for one in service_objects(number, law.named, pods):
                objects.setdefault(type(one), []).append(one)
        cluster: Any = Objects({kind: tuple(found) for kind, found in objects.items()})
        self.clock = Hands()
        self.cache = InformerCache(cluster, self.clock)
        self.cache.watch(Deployment, lambda before, after: None)
        starts, recorder = Starts(self.clock), EventRecorder(cluster, self.clock).named("autoscaler")
        applier = Applier(cluster, self.cache, recorder, self.clock, starts)
        self.autoscaler = Autoscaler(self.cache, Feed(self.clock), applier, starts, self.clock)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        return tuple(self.autoscaler._revisions.values())

    def report(self, factor: float) -> DemandReport:
        """Demand on all services: `factor` times what their pods are for, which is 7 requests each, give or take."""
        return DemandReport(
            gateway="gateway",
            at=self.clock.now(),
            window_s=self.window_s,
            services=tuple(
                demand(f"svc-{number:05d}", self.chance.uniform(4.0, 10.0) * pods * factor, self.window_s)
                for number, pods in enumerate(self.pods)
            ),
        )

    def hear(self, factor: float) -> Spent:
        """What a report takes, on average over those between two ticks."""
        reports = [self.report(factor) for _ in range(REPORTS)]
        began = Spent.now()
        for report in reports:
            self.clock.at += self.window_s
            self.autoscaler.report(report)
        return (Spent.now() - began) / REPORTS

    async def tick(self) -> Spent:
        """What it takes to decide about every service."""
        for revision in self.revisions:
            revision.next_tick = self.clock.at
        return await self.due()

    async def due(self) -> Spent:
        """What it takes to decide about those whose turn it is."""
        began = Spent.now()
        await self.autoscaler._decide(self.clock.at)
        return Spent.now() - began


def first_tokens(count: int) -> tuple[int, ...]:
    """So many after a third of a second."""
    return (0,) * 17 + (count,) + (0,) * (len(LATENCY_BOUNDS_S) - 17)


def demand(name: str, in_flight: float, window_s: float) -> ServiceDemand:
    """A request takes a second."""
    requests = int(in_flight * window_s)
    revision = RevisionDemand(
        name=f"{name}-predictor-00001",
        in_flight=in_flight - 0.5,
        requests=requests,
        prompt_tokens=500.0 * requests,
        ttft=first_tokens(requests),
    )
    return ServiceDemand(namespace="default", name=name, in_flight=in_flight - 0.5, revisions=(revision,))


def remembered() -> forecast.State:
    """What the forecast knows after an hour of some demand."""
    chance, now, state = random.Random(7), 0.0, forecast.State()
    while now < HISTORY_S:
        now += forecast.STEP_S
        requests = chance.randint(25, 150)
        seen = forecast.Seen(
            window_s=forecast.STEP_S,
            requests=requests,
            in_flight=requests / forecast.STEP_S,
            prompt_tokens=500.0 * requests,
            ready=3,
            starting=0,
            ttft=first_tokens(requests),
        )
        state = forecast.decide(forecast.Spec(max_replicas=50), state, seen, now).state
    return state


async def measure(count: int, law: Compared, ticks: int) -> dict[str, list[Spent]]:
    """By what was done."""
    shell = Shell(count, law)
    watching = asyncio.ensure_future(shell.cache.run())
    await shell.cache.wait_synced()
    assert len(shell.revisions) == count
    shell.clock.at = HISTORY_S
    known = remembered()
    for revision in shell.revisions:
        if isinstance(revision._law, ForecastLaw):
            revision._law._state = known
    for _ in range(law.warm_up):
        shell.hear(USUAL)
        await shell.tick()
    gc.collect()
    taken: dict[str, list[Spent]] = {REPORT: [], STEADY: [], MOVING: []}
    for _ in range(ticks):
        taken[REPORT].append(shell.hear(USUAL))
        taken[STEADY].append(await shell.tick())
    before = [revision.desired for revision in shell.revisions]
    for number in range(ticks):
        taken[REPORT].append(shell.hear(USUAL + GROWTH * (1 + number)))
        taken[MOVING].append(await shell.tick())
    moved = sum(revision.desired != was for revision, was in zip(shell.revisions, before, strict=True))
    assert moved >= count / 10, f"only {moved} of {count} services got another size"
    shell.window_s = 1.0 / REPORTS
    taken[SECOND] = []
    for _ in range(ticks):
        shell.hear(USUAL)
        taken[SECOND].append(await shell.due())
    watching.cancel()
    return taken


def show(law: str, work: str, spent: list[Spent]) -> None:
    cells = []
    for name in Spent._fields:
        seconds = [getattr(one, name) for one in spent]
        cells.append(
            f"{statistics.median(seconds):6.3f} {statistics.mean(seconds):6.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        )
    print(f"{law:<10}{work:<26}{'   '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--ticks", type=int, default=TICKS)
    options = parser.parse_args()
    print(
        f"{options.services} services, {options.ticks} ticks: seconds of one core, then on the clock; median, mean (range)\n"
    )
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    targets = []
    for law, compared in LAWS.items():
        taken = asyncio.run(measure(options.services, compared, options.ticks))
        for work, spent in taken.items():
            show(law, work, spent)
            kept = {name: [round(getattr(one, name), 4) for one in spent] for name in Spent._fields}
            figures.setdefault(law, {})[work] = kept
        for work in (STEADY, MOVING, SECOND):
            seconds = [one.cpu_s for one in taken[work]]
            mean, most = round(statistics.mean(seconds), 3), round(max(seconds), 3)
            targets.append(Target(f"{law}: {work}, mean, seconds of one core", mean, TARGET_S))
            targets.append(Target(f"{law}: {work}, slowest, seconds of one core", most, TARGET_S))
    is_whole = options.services == SERVICES and options.ticks >= TICKS
    conclude("autoscaler_tick", targets, is_whole=is_whole, services=options.services, figures=figures)


if __name__ == "__main__":
    main()
