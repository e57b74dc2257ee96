"""Reads each of an autoscaler's metrics from where it is: processes, pods' endpoints, objects, and what is outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from penstock.contracts.trigger import ExternalMetrics
from penstock.decide.hpa_metric import PodReadings, Reading, Unread
from penstock.decide.hpa_pods import lasting_containers, refusal, thousandths, values
from penstock.decide.hpa_replicas import PodSample
from penstock.decide.usage import Usage, of_pod
from penstock.host.metrics.objects import Registry, scraped
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError
from penstock.resources.autoscaling import MetricSpec, ObjectMetricSource, PodsMetricSource
from penstock.resources.pod import Pod

MEASURED = ("cpu", "memory", "nvidia.com/gpu")
MAX_SCRAPES = 16
"""Pods that are asked at the same time."""


class Usages(Protocol):
    """What containers use, by pod."""

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        """By container; empty where nothing is known."""
        ...


class MetricReader:
    """Never raises for what can go wrong with a metric: that is an answer, too."""

    def __init__(self, clock: Clock, usages: Usages, external: ExternalMetrics, objects: Registry) -> None:
        """`objects` are offered by kind."""
        self._clock = clock
        self._usages = usages
        self._external = external
        self._objects = objects
        self._slots = asyncio.Semaphore(MAX_SCRAPES)

    async def read_all(
        self, metrics: Iterable[MetricSpec], namespace: str, pods: Sequence[Pod]
    ) -> tuple[Reading, ...]:
        """One reading per metric, in order; `pods` are those of the target."""
        return tuple(await asyncio.gather(*(self._read(metric, namespace, pods) for metric in metrics)))

    async def _read(self, metric: MetricSpec, namespace: str, pods: Sequence[Pod]) -> Reading:
        try:
            if metric.resource is not None:
                return self._resource(metric.resource.name, "", pods)
            if metric.container_resource is not None:
                own = metric.container_resource
                return self._resource(own.name, own.container, pods)
            if metric.pods is not None:
                return await self._of_pods(metric.pods, pods)
            if metric.object is not None:
                return await self._of_object(metric.object, namespace)
            if metric.external is not None:
                wanted = metric.external.metric
                return values(await self._external.external(namespace, wanted.name, wanted.selector))
        except PlatformError as error:
            return Unread(str(error))
        return Unread(f"unknown metric source type {metric.type!r}")

    def _resource(self, resource: str, container: str, pods: Sequence[Pod]) -> Reading:
        if resource not in MEASURED:
            return Unread(
                f"found resource {resource!r}, expected one that is measured: {', '.join(MEASURED)}"
            )
        now = self._clock.now()
        samples: dict[str, PodSample] = {}
        for pod in pods:
            names = frozenset(c.name for c in lasting_containers(pod))
            seen = of_pod(self._usages.of(pod), names, resource, container, now)
            amount = thousandths(seen.amounts[resource]) if seen else None
            if seen is not None and amount is not None:
                samples[pod.metadata.name] = PodSample(amount, seen.at, seen.window_s)
        if not samples:
            return Unread("no metrics returned from resource metrics API")
        return PodReadings(samples)

    async def _of_pods(self, source: PodsMetricSource, pods: Sequence[Pod]) -> Reading:
        """A pod that does not answer is missing; one that tells nonsense makes the metric unusable."""
        running = [pod for pod in pods if pod.status.phase == "Running"]
        answers = await asyncio.gather(*(self._of_pod(source, pod) for pod in running))
        samples: dict[str, PodSample] = {}
        problems = []
        for pod, answer in zip(running, answers, strict=True):
            if isinstance(answer, PlatformError):
                problems.append(str(answer))
            elif (amount := thousandths(answer)) is None:
                return Unread(f"pod {pod.metadata.name}: {refusal(answer)}")
            else:
                samples[pod.metadata.name] = PodSample(amount, self._clock.now())
        if not samples:
            return Unread(problems[0] if problems else "no metrics returned from custom metrics API")
        return PodReadings(samples)

    async def _of_pod(self, source: PodsMetricSource, pod: Pod) -> float | PlatformError:
        try:
            async with self._slots:
                return await scraped(pod, source.metric.name, source.metric.selector)
        except PlatformError as error:
            return error

    async def _of_object(self, source: ObjectMetricSource, namespace: str) -> Reading:
        about = source.described_object
        offered = self._objects.get(about.kind)
        if offered is None:
            known = ", ".join(sorted(self._objects)) or "none"
            return Unread(f"no metrics are offered for objects of kind {about.kind}, only for: {known}")
        metric = source.metric
        return values([await offered.value(namespace, about.name, metric.name, metric.selector)])
