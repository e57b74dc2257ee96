"""Makes the Deployments of a service's revisions and canaries as they were planned, with an Event for each step."""

from __future__ import annotations

import contextlib
from typing import Any

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Recorder
from penstock.decide.canaries import CANARY_LABEL, Canaries
from penstock.decide.handover import Handover
from penstock.decide.revision import IDLE_SINCE
from penstock.decide.rollout import Rollout
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment


class RevisionWriter:
    """Applies plans; what another reconcile has done already is left as it is."""

    def __init__(self, cluster: Cluster, recorder: Recorder) -> None:
        """Events are about the service."""
        self._cluster = cluster
        self._recorder = recorder

    async def apply_rollout(self, service: InferenceService, rollout: Rollout) -> None:
        """A component's revisions."""
        if rollout.create is not None:
            await self._create(service, rollout.create, "RevisionCreated", "; ".join(rollout.reasons))
        for name, size in rollout.scale:
            await self._scale(service, name, size)
        await self._mark_idle(service, rollout.mark_idle)
        await self._delete(service, rollout.delete, "RevisionDeleted")

    async def apply_canaries(self, service: InferenceService, canaries: Canaries) -> None:
        """The Deployments of `spec.canary`."""
        for deployment in canaries.create:
            await self._create(service, deployment, "CanaryCreated", deployment.metadata.name)
        for deployment in canaries.replace:
            await self._cluster.replace(deployment)
            self._recorder.event(service, "Normal", "CanaryChanged", deployment.metadata.name)
        for name in canaries.adopt:
            await self._patch(service, name, {"metadata": {"labels": {CANARY_LABEL: None}}})
            self._recorder.event(service, "Normal", "CanaryPromoted", f"{name} is the stable predictor's now")
        for name, size in canaries.scale:
            await self._scale(service, name, size)
        await self._mark_idle(service, canaries.mark_idle)
        await self._delete(service, canaries.delete, "CanaryDeleted")

    async def apply_handover(self, service: InferenceService, handover: Handover) -> None:
        """A revision's marks and size in one write: whoever else sets sizes leaves a marked one alone."""
        marks: dict[str, dict[str, str | None]] = {}
        for name, key, value in handover.annotate:
            marks.setdefault(name, {})[key] = value
        sizes = dict(handover.scale)
        for name in (*marks, *(name for name in sizes if name not in marks)):
            spec = {"spec": {"replicas": sizes[name]}} if name in sizes else {}
            await self._patch(service, name, {"metadata": {"annotations": marks.get(name, {})}, **spec})
        if handover.event is not None:
            kind, reason, message = handover.event
            self._recorder.event(service, "Warning" if kind == "Warning" else "Normal", reason, message)

    async def _create(
        self, service: InferenceService, deployment: Deployment, reason: str, message: str
    ) -> None:
        with contextlib.suppress(AlreadyExists):  # made a moment ago; the cache brings it
            await self._cluster.create(deployment)
            self._recorder.event(service, "Normal", reason, message)

    async def _scale(self, service: InferenceService, name: str, size: int) -> None:
        await self._patch(service, name, {"spec": {"replicas": size}})
        self._recorder.event(service, "Normal", "RevisionScaled", f"{name} to {size} pods")

    async def _mark_idle(self, service: InferenceService, marks: tuple[tuple[str, str | None], ...]) -> None:
        for name, since in marks:
            await self._patch(service, name, {"metadata": {"annotations": {IDLE_SINCE: since}}})

    async def _delete(self, service: InferenceService, names: tuple[str, ...], reason: str) -> None:
        for name in names:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(Deployment, name, service.metadata.namespace)
            self._recorder.event(service, "Normal", reason, name)

    async def _patch(self, service: InferenceService, name: str, patch: dict[str, Any]) -> None:
        await self._cluster.patch(Deployment, name, service.metadata.namespace, patch)
