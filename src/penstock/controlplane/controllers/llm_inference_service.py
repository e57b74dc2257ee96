"""LLMInferenceServices: keeps the InferenceServices that each asks for, and its status by theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key, owner_keys
from penstock.controlplane.controllers.children import keep_children
from penstock.decide.cache_binding import ANNOTATIONS, LABELS
from penstock.decide.llm_service import LlmPlan, plan_llm_service, prefill_name
from penstock.decide.llm_status import llm_status
from penstock.kit.clock import Clock
from penstock.kit.errors import Invalid
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceConfig
from penstock.resources.meta import Resource
from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime
from penstock.resources.serving import InferenceService

REFUSED_AGAIN_S = 60.0


class LLMInferenceServiceController:
    """What the InferenceServices come to be is the other controllers' business."""

    name = "llminferenceservice"

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock, *, gateway_addr: str
    ) -> None:
        """`gateway_addr` (HOST:PORT) is where services answer."""
        self._cluster, self._cache = cluster, cache
        self._recorder, self._clock = recorder, clock
        self._gateway_addr = gateway_addr

    def watches(self) -> tuple[Watch, ...]:
        """Services, those that they ask for, their presets, and runtimes."""
        return (
            Watch(LLMInferenceService, own_key),
            Watch(InferenceService, owner_keys("LLMInferenceService")),
            Watch(LLMInferenceServiceConfig, self._every_service),
            Watch(ServingRuntime, self._every_service),
            Watch(ClusterServingRuntime, self._every_service),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide, apply."""
        service = self._cache.get(LLMInferenceService, key.name, key.namespace)
        if service is None or service.metadata.deletion_timestamp is not None:
            return None
        presets = self._cache.list(LLMInferenceServiceConfig, key.namespace)
        plan = plan_llm_service(
            service,
            {one.metadata.name: one for one in presets},
            self._cache.list(ServingRuntime, key.namespace),
            self._cache.list(ClusterServingRuntime),
        )
        refusal = await self._keep(service, plan)
        await self._tell(service, replace(plan, refusal=refusal) if refusal else plan)
        return REFUSED_AGAIN_S if refusal else None

    async def _keep(self, service: LLMInferenceService, plan: LlmPlan) -> str:
        """Why what it asks for is refused, "" if it is not. What there is stays as it is while nothing can be planned."""
        if not plan.services:
            return ""
        try:
            await keep_children(
                self._cluster,
                self._cache,
                service,
                (InferenceService,),
                plan.services,
                left=(*LABELS, *ANNOTATIONS),
            )
        except Invalid as error:
            self._recorder.event(service, "Warning", "InferenceServiceRefused", error.message)
            return error.message
        return ""

    async def _tell(self, service: LLMInferenceService, plan: LlmPlan) -> None:
        meta = service.metadata
        found = (
            self._cache.get(InferenceService, name, meta.namespace)
            for name in (meta.name, prefill_name(service))
        )
        status = llm_status(
            service,
            plan,
            {one.metadata.name: one for one in found if one is not None},
            url=f"http://{self._gateway_addr}/serving/{meta.namespace}/{meta.name}",
            now=self._clock.now(),
        )
        if status != service.status:
            changed = msgspec.structs.replace(service, status=status)
            await self._cluster.replace(changed, subresource="status")

    def _every_service(self, changed: Resource) -> Iterable[Key]:
        namespace = changed.metadata.namespace or None
        return tuple(own for s in self._cache.list(LLMInferenceService, namespace) for own in own_key(s))
