"""What does the gateway need to know?

Every service with its ready endpoints by revision: a pod that is being deleted, or is not ready, is no endpoint. And every
API key that could be taken now or without anything else changing: none that is revoked, or whose tenant does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from penstock.contracts.exchange import (
    Endpoint,
    KeyHash,
    KeyRoute,
    RateLimit,
    RevisionRoute,
    ServicePhase,
    ServiceRoute,
    TenantRoute,
)
from penstock.decide.key_tokens import holding
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.rollout import is_stopped
from penstock.decide.workload import grpc_port, served_name, serving_port, speaks_https
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.access import AccessLimit, ApiKey, Tenant
from penstock.resources.meta import Labels
from penstock.resources.pod import Pod
from penstock.resources.serving import Component, ComponentStatus, InferenceService

ALIASES = "penstock.dev/aliases"
METRICS_DIALECT = "penstock.dev/metrics-dialect"
OPENAI_PREFIX = "penstock.dev/openai-prefix"
PROTOCOLS = "penstock.dev/protocols"
ANY_ENGINES = ("openai", "v1", "v2")
"""What is taken for granted where the runtime says nothing."""
DEFAULT_TIMEOUT_S = 600.0
HASH = re.compile("[0-9a-f]{64}")


def service_routes(services: Iterable[InferenceService], pods: Iterable[Pod]) -> tuple[ServiceRoute, ...]:
    """One route for each service, and one more for a predictor behind a transformer; routes and endpoints are ordered by name."""
    by_revision: dict[tuple[str, str], list[Pod]] = {}
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        revision = pod.metadata.labels.get(REVISION_LABEL)
        if revision and is_active(pod) and ready_since(pod) is not None and pod.status.pod_ip:
            by_revision.setdefault((pod.metadata.namespace, revision), []).append(pod)
    routes = []
    for service in services:
        if service.metadata.deletion_timestamp is not None:
            continue
        entry = "transformer" if service.spec.transformer is not None else "predictor"
        routes.append(_route(service, service.metadata.name, entry, by_revision))
        if entry != "predictor":
            routes.append(_route(service, f"{service.metadata.name}-predictor", "predictor", by_revision))
    return tuple(sorted(routes, key=lambda route: (route.namespace, route.name)))


def _route(
    service: InferenceService, name: str, entry: str, pods: dict[tuple[str, str], list[Pod]]
) -> ServiceRoute:
    meta = service.metadata
    component: Component = getattr(service.spec, entry)
    slots = component.container_concurrency or 0
    status = service.status.components.get(entry, ComponentStatus())
    revisions = tuple(
        RevisionRoute(
            name=target.revision_name,
            weight_percent=target.percent or 0,
            endpoints=tuple(
                _endpoint(pod, slots) for pod in pods.get((meta.namespace, target.revision_name), ())
            ),
        )
        for target in status.traffic
    )
    phase, message = _phase(service, revisions)
    own = [pod for revision in revisions for pod in pods.get((meta.namespace, revision.name), ())]
    traits: Labels = own[0].metadata.annotations if own else {}
    engine_model = (served_name(own[0].spec) if own else "") or meta.name
    return ServiceRoute(
        namespace=meta.namespace,
        name=name,
        uid=meta.uid,
        engine_model=engine_model,
        aliases=_aliases(service, engine_model) if name == meta.name else (),
        hosts=(f"{name}.{meta.namespace}", f"{name}-{meta.namespace}"),
        phase=phase,
        message=message,
        revisions=revisions,
        created_at=parse_rfc3339(meta.creation_timestamp) if meta.creation_timestamp else 0.0,
        timeout_s=float(component.timeout) if component.timeout else DEFAULT_TIMEOUT_S,
        metrics_dialect=traits.get(METRICS_DIALECT, ""),
        openai_prefix=traits.get(OPENAI_PREFIX, "/v1"),
        protocols=_listed(traits.get(PROTOCOLS, "")) or ANY_ENGINES,
    )


def _aliases(service: InferenceService, engine_model: str) -> tuple[str, ...]:
    """Those that the annotation names, and the engine's own name if it is another than the service's."""
    named = _listed(service.metadata.annotations.get(ALIASES, ""))
    own = [engine_model] if engine_model not in (service.metadata.name, *named) else []
    return (*named, *own)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _endpoint(pod: Pod, slots: int) -> Endpoint:
    return Endpoint(
        name=pod.metadata.name,
        address=pod.status.pod_ip,
        port=serving_port(pod.spec),
        grpc_port=grpc_port(pod.spec),
        tls=speaks_https(pod.spec),
        node=pod.spec.node_name,
        slots=slots,
    )


def _phase(service: InferenceService, revisions: tuple[RevisionRoute, ...]) -> tuple[ServicePhase, str]:
    if any(revision.endpoints for revision in revisions if revision.weight_percent):
        return "Ready", ""
    if is_stopped(service):
        return "Sleeping", "the service is stopped (annotation serving.kserve.io/stop)"
    model = service.status.model_status
    if model is not None and model.transition_status in ("InvalidSpec", "BlockedByFailedLoad"):
        return (
            "Failed",
            model.last_failure_info.message if model.last_failure_info else model.transition_status,
        )
    state = model.states.target_model_state if model and model.states else ""
    return "Starting", "its model is being fetched" if state == "Loading" else "its pods are starting"


def key_routes(keys: Iterable[ApiKey], tenants: Iterable[Tenant], now: float) -> tuple[KeyRoute, ...]:
    """One route for each key that has a token, ordered by id; a hash that will expire is told with its end.

    Of two keys with one id, which only a hand-written status can bring about, neither is told.
    """
    known = {tenant.metadata.name for tenant in tenants if tenant.metadata.deletion_timestamp is None}
    routes: dict[str, KeyRoute | None] = {}
    for key in keys:
        route = _key_route(key, now) if key.metadata.deletion_timestamp is None else None
        if route is not None and (not route.tenant or route.tenant in known):
            routes[route.id] = route if route.id not in routes else None
    return tuple(route for _, route in sorted(routes.items()) if route is not None)


def tenant_routes(tenants: Iterable[Tenant]) -> tuple[TenantRoute, ...]:
    """One route for each tenant, ordered by name."""
    routes = [TenantRoute(name=one.metadata.name, limits=_limits(one.spec.limits)) for one in tenants]
    return tuple(sorted(routes, key=lambda route: route.name))


def _key_route(key: ApiKey, now: float) -> KeyRoute | None:
    spec, meta = key.spec, key.metadata
    hashes = tuple(
        KeyHash(hash=token.hash, expires_at=end)
        for token, end in holding(spec, key.status, now)
        if HASH.fullmatch(token.hash)
    )
    if spec.disabled or not key.status.id or not hashes:
        return None
    return KeyRoute(
        id=key.status.id,
        namespace=meta.namespace,
        name=meta.name,
        tenant=spec.tenant,
        hashes=hashes,
        models=tuple(map(_whole, spec.models)) or ("*",),
        namespaces=spec.namespaces or (meta.namespace,),
        admin=spec.admin,
        limits=_limits(spec.limits),
    )


def _limits(limits: Iterable[AccessLimit]) -> tuple[RateLimit, ...]:
    return tuple(
        RateLimit(
            model=_whole(limit.model),
            requests_per_minute=limit.requests_per_minute or 0,
            tokens_per_minute=limit.tokens_per_minute or 0,
        )
        for limit in limits
    )


def _whole(pattern: str) -> str:
    """A pattern over `namespace/name`: one without a slash means the name, in whatever namespace."""
    return pattern if "/" in pattern or pattern == "*" else f"*/{pattern}"
