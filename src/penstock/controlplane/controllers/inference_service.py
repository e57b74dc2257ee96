"""InferenceServices: observe runtimes, revisions and pods; decide; apply Deployments and status."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key, owner_keys
from penstock.controlplane.controllers.children import keep_children
from penstock.controlplane.controllers.credentials import credentials, storage_secret
from penstock.controlplane.controllers.revisions import RevisionWriter
from penstock.decide.autoscalers import MADE as BY_METRICS
from penstock.decide.autoscalers import standing_by
from penstock.decide.cache_binding import bind, is_stale, rebound
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.caching import Known, model_key, user_of
from penstock.decide.handover import Room, is_in_handover
from penstock.decide.plan import (
    ComponentPlan,
    ServicePlan,
    Surroundings,
    plan_service,
    service_url,
)
from penstock.decide.pod_autoscaler import given_up
from penstock.decide.scaling_conflict import Autoscaler, target_of
from penstock.decide.status import Observed, service_status
from penstock.decide.storage_config import Located, located, secret_name, storage_of
from penstock.decide.workload import SERVICE_LABEL, component_labels
from penstock.kit.clock import Clock
from penstock.kit.errors import Invalid
from penstock.resources.autoscaler_config import (
    CONFIG_NAME,
    CONFIG_NAMESPACE,
    DEFAULTS,
    AutoscalerConfig,
    parse_config,
)
from penstock.resources.caching import LocalModelCache, LocalModelNamespaceCache, LocalModelNodeGroup
from penstock.resources.core import ConfigMap, Node
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.rollout import Rollout
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.serving import InferenceService, ModelStatus
from penstock.resources.workload import Deployment

AUTOSCALERS: tuple[type[Autoscaler], ...] = (PodAutoscaler, *BY_METRICS)
REFUSED_AGAIN_S = 60.0
SETTLE_S = 0.01
"""A new revision comes back as a Deployment, an autoscaler and the status of each, within milliseconds."""


class InferenceServiceController:
    """Keeps the Deployments of each service's revisions, and its status."""

    name = "inferenceservice"
    settle_s = SETTLE_S

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock, *, gateway_addr: str
    ) -> None:
        """`gateway_addr` (HOST:PORT) is where services answer."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._revisions = RevisionWriter(cluster, recorder)
        self._clock = clock
        self._gateway_addr = gateway_addr
        self._parsed: tuple[ConfigMap | None, AutoscalerConfig] = (None, DEFAULTS)

    def watches(self) -> tuple[Watch, ...]:
        """Services, what they own, and runtimes: a new runtime may be the one that a service waits for."""
        return (
            Watch(InferenceService, own_key),
            Watch(Deployment, owner_keys("InferenceService")),
            Watch(Pod, _service_of_pod),
            *(Watch(kind, owner_keys("InferenceService")) for kind in AUTOSCALERS),
            Watch(ConfigMap, self._every_service_by_config),
            Watch(Rollout, owner_keys("InferenceService")),
            Watch(Node, _nobody),
            Watch(LocalModelNodeGroup, _nobody),
            *(Watch(kind, self._users) for kind in (LocalModelCache, LocalModelNamespaceCache)),
            Watch(ServingRuntime, self._every_service),
            Watch(ClusterServingRuntime, self._every_service),
            Watch(ClusterStorageContainer, self._every_service),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide, apply."""
        service = self._cache.get(InferenceService, key.name, key.namespace)
        if service is None or service.metadata.deletion_timestamp is not None:
            return None
        placed = await self._located(await self._bound(service))
        service = placed.service
        plan = plan_service(service, await self._observe(placed), self._clock.now())
        for part in plan.components:
            await self._revisions.apply_rollout(service, part.rollout)
            await self._revisions.apply_canaries(service, part.canaries)
            await self._revisions.apply_handover(service, part.handover)
        refused_s = await self._keep_autoscalers(service, plan)
        await self._write_status(service, plan)
        waits = [
            decided.again_s
            for part in plan.components
            for decided in (part.rollout, part.canaries, part.handover)
        ]
        return min((wait_s for wait_s in (*waits, refused_s) if wait_s is not None), default=None)

    async def _bound(self, service: InferenceService) -> InferenceService:
        """Bound to a model cache when it is written, as by KServe's webhook: a cache that comes later restarts nothing."""
        caches: tuple[ModelCache, ...] = (
            *self._cache.list(LocalModelNamespaceCache),
            *self._cache.list(LocalModelCache),
        )
        is_observed = service.metadata.generation == service.status.observed_generation
        if is_observed and not is_stale(service.metadata, caches):
            return service
        known = Known(caches, self._cache.list(LocalModelNodeGroup), self._cache.list(Node))
        bindings, meta = bind((await self._located(service)).service, known), service.metadata
        patch = rebound(meta, bindings)
        if not patch:
            return service
        for binding in bindings:
            chosen = f"model cache {model_key(binding.cache)} on node group {binding.group}: {binding.reason}"
            self._recorder.event(service, "Normal", "ModelCacheBound", chosen)
        return await self._cluster.patch(InferenceService, meta.name, meta.namespace, {"metadata": patch})

    async def _located(self, service: InferenceService) -> Located:
        if storage_of(service) is None:
            return Located(service)
        namespace, name = service.metadata.namespace, secret_name(service)
        return located(service, await storage_secret(self._cluster, namespace, name))

    async def _keep_autoscalers(self, service: InferenceService, plan: ServicePlan) -> float | None:
        """One that is refused, as for a trigger that this cluster does not know, holds up nothing else; when to try again (s)."""
        wished = [scaler for part in plan.components for scaler in part.autoscalers]
        try:
            await keep_children(self._cluster, self._cache, service, AUTOSCALERS, wished)
        except Invalid as error:
            self._recorder.event(service, "Warning", "AutoscalerRefused", error.message)
            return REFUSED_AGAIN_S
        return None

    async def _observe(self, placed: Located) -> Surroundings:
        service = placed.service
        namespace = service.metadata.namespace
        deployments = self._cache.list(
            Deployment, namespace, labels=f"{SERVICE_LABEL}={service.metadata.name}"
        )
        return Surroundings(
            gateway_addr=self._gateway_addr,
            runtimes=self._cache.list(ServingRuntime, namespace),
            cluster_runtimes=self._cache.list(ClusterServingRuntime),
            storage_containers=self._cache.list(ClusterStorageContainer),
            deployments=deployments,
            secret_env=(*await credentials(self._cluster, service), *placed.env),
            storage_failure=placed.failure,
            rollouts=self._cache.list(Rollout, namespace, owner=service.metadata.uid),
            initialized=standing_by(service, self._scalers(service)),
            sized_elsewhere=frozenset(target_of(scaler).name for scaler in self._scalers(service)),
            autoscaler=self._config(),
            room=self._room(service, deployments),
        )

    def _users(self, cache: Resource) -> Iterable[Key]:
        """Services that are bound to the cache."""
        assert isinstance(cache, LocalModelCache | LocalModelNamespaceCache), "only these are watched so"
        services = self._cache.list(InferenceService)
        return tuple(key_of(service) for service in services if any(user_of(service, cache)))

    def _room(self, service: InferenceService, deployments: tuple[Deployment, ...]) -> Room:
        """Looked at only while a revision has yet to take over."""
        settled = all(
            status.latest_created_revision == status.latest_rolledout_revision
            for status in service.status.components.values()
        )
        if settled and not any(is_in_handover(deployment) for deployment in deployments):
            return Room()
        return Room(self._cache.list(Node), self._cache.list(Pod))

    def _scalers(self, service: InferenceService) -> tuple[Autoscaler, ...]:
        meta = service.metadata
        return tuple(
            one for kind in AUTOSCALERS for one in self._cache.list(kind, meta.namespace, owner=meta.uid)
        )

    def _config(self) -> AutoscalerConfig:
        """Read once for as long as the object is the same."""
        given = self._cache.get(ConfigMap, CONFIG_NAME, CONFIG_NAMESPACE)
        if given is not self._parsed[0]:
            self._parsed = (given, parse_config(given.data)[0] if given is not None else DEFAULTS)
        return self._parsed[1]

    async def _write_status(self, service: InferenceService, plan: ServicePlan) -> None:
        runtime = plan.choice.runtime
        scoped = isinstance(runtime, ServingRuntime)
        observed = tuple(self._observed(service, part, plan.choice.reason) for part in plan.components)
        status = service_status(
            service,
            observed,
            url=service_url(service, self._gateway_addr),
            runtime_name=runtime.metadata.name if runtime and scoped else "",
            cluster_runtime_name=runtime.metadata.name if runtime and not scoped else "",
            canaries=tuple(status for part in plan.components for status in part.canaries.statuses),
            now=self._clock.now(),
        )
        if status == service.status:
            return
        await self._cluster.replace(msgspec.structs.replace(service, status=status), subresource="status")
        self._tell(service, status.model_status)

    def _observed(self, service: InferenceService, part: ComponentPlan, refusal: str) -> Observed:
        scalers = self._scalers(service)
        labels = ",".join(f"{key}={value}" for key, value in component_labels(service, part.name).items())
        return Observed(
            name=part.name,
            rollout=part.rollout.status,
            deployments=part.deployments,
            pods=self._cache.list(Pod, service.metadata.namespace, labels=labels),
            failure_reason=(refusal or "InvalidPredictorSpec") if part.workload.failure else "",
            failure=part.workload.failure,
            rolled_back=part.rolled_back,
            standby=standing_by(service, scalers),
            given_up=given_up(one for one in scalers if isinstance(one, PodAutoscaler)),
        )

    def _tell(self, service: InferenceService, after: ModelStatus | None) -> None:
        """An Event when the service becomes ready, or a new failure shows."""
        before = service.status.model_status
        known = before.last_failure_info.message if before and before.last_failure_info else ""
        failure = after.last_failure_info if after else None
        if failure is not None and failure.message != known:
            self._recorder.event(service, "Warning", failure.reason, failure.message)
        ready = after is not None and after.transition_status == "UpToDate"
        if ready and (before is None or before.transition_status != "UpToDate"):
            self._recorder.event(service, "Normal", "InferenceServiceReady", "the latest revision serves")

    def _every_service_by_config(self, config: Resource) -> Iterable[Key]:
        named = (config.metadata.namespace, config.metadata.name)
        return self._every_service(ConfigMap()) if named == (CONFIG_NAMESPACE, CONFIG_NAME) else ()

    def _every_service(self, runtime: Resource) -> Iterable[Key]:
        namespace = runtime.metadata.namespace or None
        return tuple(own for s in self._cache.list(InferenceService, namespace) for own in own_key(s))


def _nobody(seen: Resource) -> Iterable[Key]:
    """Nodes and model caches are looked at, but their changes concern no service by itself."""
    return ()


def _service_of_pod(pod: Resource) -> Iterable[Key]:
    name = pod.metadata.labels.get(SERVICE_LABEL)
    return (Key(pod.metadata.namespace, name),) if name else ()
