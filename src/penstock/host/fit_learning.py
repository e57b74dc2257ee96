"""Learns from engines that run how far estimates of their memory were off: from their own logs, once for each start.

Of every pod that was placed with a certificate, once its engine is ready, the end of its log is read and held against what was predicted for
such a start. What an engine says is kept with the start's name, so that nothing counts twice, also after the platform itself started anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of
from penstock.contracts.devices import GpuType
from penstock.contracts.source import public
from penstock.decide.engine_log import report_of
from penstock.decide.engine_report import MAX_TEXT, EngineReport
from penstock.decide.fit_error import Observation
from penstock.decide.inventory import shares_of
from penstock.decide.learned_start import Start, learn_start
from penstock.decide.pod_fit import CERTIFICATE_ANNOTATION
from penstock.decide.served_model import Served, served_model
from penstock.host.fit_book import known_types
from penstock.host.fit_store import Observations
from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.devices import known_gpus
from penstock.host.kubelet.layout import Layout
from penstock.host.model_shapes import ModelShapes
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

log = logging.getLogger(__name__)
AGAIN_S = 5.0
MAX_RUNS = 4096
"""Starts that said nothing of use, and are not looked at again."""


class FitLearner:
    """One reconcile per pod with a certificate."""

    name = "fit-learning"

    def __init__(
        self,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        layout: Layout,
        shapes: ModelShapes,
        observations: Observations,
        gpu_types: Sequence[GpuType] = (),
    ) -> None:
        """`layout` is where containers' logs are."""
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._layout = layout
        self._shapes = shapes
        self._observations = observations
        self._gpus = known_gpus(cache, gpu_types)
        self._seen: set[str] = set()

    def watches(self) -> tuple[Watch, ...]:
        """Pods that stand on a certificate; slices only so that the cache has them."""
        return (Watch(Pod, _certified), Watch(ResourceSlice, lambda _: ()))

    async def reconcile(self, key: Key) -> float | None:
        """Learn from the pod's start, if it is ready and that was not done yet."""
        pod = self._cache.get(Pod, key.name, key.namespace)
        served = served_model(pod) if pod is not None else None
        if pod is None or served is None or (run := _run_of(pod, served)) is None or self._is_known(run):
            return None
        known = self._shapes.served(served)
        if known is None:
            return AGAIN_S
        kind = self._kind(pod)
        if known.shape is None or kind is None:
            self._forget(run)
            return None
        path = self._layout.pod(pod.spec.node_name, pod.metadata.uid).container(served.container)
        report = await asyncio.to_thread(_report, path)
        start = Start(served=served, name=public(served.model), shape=known.shape, kind=kind, run=run)
        found = learn_start(start, report, self._clock.now())
        if found is None:
            self._forget(run)
            return None
        await self._keep(pod, found)
        return None

    async def _keep(self, pod: Pod, found: Observation) -> None:
        try:
            await asyncio.to_thread(self._observations.add, found)
        except PlatformError as error:
            log.warning("%s", error)
        self._forget(found.run)
        self._recorder.event(
            pod,
            "Normal",
            "FitLearned",
            f"Beside its KV cache the engine took {found.observed_bytes / 2**30:.2f} GiB of each {found.gpu}, "
            f"predicted {found.predicted_bytes / 2**30:.2f} (x {found.ratio:.3f})",
        )

    def _is_known(self, run: str) -> bool:
        return run in self._seen or any(one.run == run for one in self._observations.read())

    def _forget(self, run: str) -> None:
        """There is nothing more to learn from it."""
        if len(self._seen) >= MAX_RUNS:
            self._seen.clear()
        self._seen.add(run)

    def _kind(self, pod: Pod) -> GpuType | None:
        """The type of the first GPU that it holds."""
        kinds = known_types(self._gpus(pod.spec.node_name))
        return next((kinds[share.gpu] for share in shares_of(pod) if share.gpu in kinds), None)


def _certified(obj: Resource) -> Iterable[Key]:
    return (key_of(obj),) if CERTIFICATE_ANNOTATION in obj.metadata.annotations else ()


def _run_of(pod: Pod, served: Served) -> str | None:
    """What tells this start from others; None as long as the engine is not ready."""
    status = next((one for one in pod.status.container_statuses if one.name == served.container), None)
    if status is None or not status.ready:
        return None
    return f"{pod.metadata.uid}/{status.restart_count}"


def _report(container: Path) -> EngineReport:
    """Of its last attempt, as much as its newest log file holds."""
    kept = attempts(container)
    if not kept:
        return EngineReport()
    try:
        with kept[-1].log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_TEXT))
            return report_of(file.read(MAX_TEXT).decode("utf-8", "replace"))
    except OSError:
        return EngineReport()
