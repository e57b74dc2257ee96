"""What does the gateway need to know?

Every service with its ready endpoints by revision, and with those that could be asked themselves whether they are: a pod that is being
deleted, or drains, is neither. And every
API key that could be taken now or without anything else changing: none that is revoked, or whose tenant does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from penstock.contracts.exchange import (
    Endpoint,
    KeyHash,
    KeyRoute,
    RateLimit,
    RevisionRoute,
    ServiceRoute,
    TenantRoute,
)
from penstock.decide.disaggregation import PREFILL, role_of
from penstock.decide.engine_metrics import metrics_endpoint
from penstock.decide.key_tokens import holding
from penstock.decide.readiness import probe_path
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.routing_profile import Profiles, needed_labels, profiles_of, routing_route
from penstock.decide.scale_in import DRAINING
from penstock.decide.standing import Awaited, standing_of
from penstock.decide.tokenizer_folder import tokenizer_folder
from penstock.decide.workload import SERVICE_LABEL, grpc_port, served_name, serving_port, speaks_https
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.access import AccessLimit, ApiKey, Tenant
from penstock.resources.meta import Labels
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.routing import PREFILL_FOR
from penstock.resources.serving import Component, ComponentStatus, InferenceService, TrafficTarget

ALIASES = "penstock.dev/aliases"
ADAPTERS = "penstock.dev/adapters"
"""Names under which the engine itself answers beside its own: LoRA adapters that it has loaded, or loads."""
METRICS_DIALECT = "penstock.dev/metrics-dialect"
KV_EVENTS_PORT = "penstock.dev/kv-events-port"
KV_REPLAY_PORT = "penstock.dev/kv-replay-port"
STEP_REQUESTS = "penstock.dev/step-requests"
"""How many requests at once double the time between an engine's tokens."""
OPENAI_PREFIX = "penstock.dev/openai-prefix"
SPLIT_BY = "penstock.dev/split-by"
TRANSFER_GROUP = "penstock.dev/transfer-group"
"""Of a pod: only such as have the same can go on with each other's KV."""
PROTOCOLS = "penstock.dev/protocols"
ANY_ENGINES = ("openai", "v1", "v2")
"""What is taken for granted where the runtime says nothing."""
DEFAULT_TIMEOUT_S = 600.0
BUILT_IN = profiles_of()
HASH = re.compile("[0-9a-f]{64}")


class Revisions(NamedTuple):
    """What there is of revisions, by namespace and the revision's name: their pods in the order of their names, and their autoscalers.

    `helpers` are the pods of services that compute prompts for another, by that other's namespace and name.
    """

    pods: Mapping[tuple[str, str], tuple[Pod, ...]]
    scalers: Mapping[tuple[str, str], PodAutoscaler]
    helpers: Mapping[tuple[str, str], tuple[Pod, ...]] = MappingProxyType({})


def revisions_of(pods: Iterable[Pod], scalers: Iterable[PodAutoscaler] = ()) -> Revisions:
    """Without the pods that have ended, or are about to."""
    by_revision: dict[tuple[str, str], list[Pod]] = {}
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        revision = pod.metadata.labels.get(REVISION_LABEL)
        if revision and is_active(pod):
            by_revision.setdefault((pod.metadata.namespace, revision), []).append(pod)
    return Revisions(
        {key: tuple(found) for key, found in by_revision.items()},
        {(scaler.metadata.namespace, scaler.metadata.name): scaler for scaler in scalers},
    )


def service_routes(
    services: Iterable[InferenceService],
    pods: Iterable[Pod],
    scalers: Iterable[PodAutoscaler] = (),
    profiles: Profiles = BUILT_IN,
) -> tuple[ServiceRoute, ...]:
    """The routes of all services, ordered by namespace and name."""
    every = tuple(services)
    known = revisions_of(pods, scalers)
    known = known._replace(helpers=helpers_of(every, known))
    routes = [route for service in every for route in routes_of(service, known, profiles)]
    return tuple(sorted(routes, key=lambda route: (route.namespace, route.name)))


def routes_of(
    service: InferenceService, known: Revisions, profiles: Profiles = BUILT_IN
) -> tuple[ServiceRoute, ...]:
    """One route for the service, and one more for a predictor behind a transformer; endpoints are ordered by name.

    None for one that only computes prompts for another.
    """
    if service.metadata.deletion_timestamp is not None or PREFILL_FOR in service.metadata.annotations:
        return ()
    name = service.metadata.name
    if service.spec.transformer is None:
        return (_route(service, name, "predictor", known, profiles),)
    return (
        _route(service, name, "transformer", known, profiles),
        _route(service, f"{name}-predictor", "predictor", known, profiles),
    )


def helpers_of(
    services: Iterable[InferenceService], known: Revisions
) -> Mapping[tuple[str, str], tuple[Pod, ...]]:
    """The pods of those that compute prompts for another, by that other's namespace and name."""
    found: dict[tuple[str, str], tuple[Pod, ...]] = {}
    for service in services:
        meta, other = service.metadata, service.metadata.annotations.get(PREFILL_FOR)
        if other and meta.deletion_timestamp is None:
            key = (meta.namespace, other)
            own = (known.pods.get((meta.namespace, name), ()) for name in named_revisions(service))
            found[key] = (*found.get(key, ()), *(pod for pods in own for pod in pods))
    return found


def named_revisions(service: InferenceService) -> tuple[str, ...]:
    """Those whose pods and autoscalers `routes_of` looks at; it looks at nothing else but the service, and profiles."""
    return tuple(name for status in service.status.components.values() for name in _named(status))


def _route(
    service: InferenceService, name: str, entry: str, known: Revisions, profiles: Profiles
) -> ServiceRoute:
    meta = service.metadata
    component: Component = getattr(service.spec, entry)
    slots = component.container_concurrency or 0
    status = service.status.components.get(entry, ComponentStatus())
    routing = routing_route(service, profiles)
    labels = needed_labels(routing)
    helpers = known.helpers.get((meta.namespace, meta.name), ()) if entry == "predictor" else ()
    revisions = tuple(
        _revision(target, slots, labels, known.pods.get((meta.namespace, target.revision_name), ()), helpers)
        for target in status.traffic
    )
    own = [pod for target in revisions for pod in known.pods.get((meta.namespace, target.name), ())]
    traits: Labels = own[0].metadata.annotations if own else {}
    engine_model = (served_name(own[0].spec) if own else "") or meta.name
    standing = standing_of(
        service,
        tuple(
            Awaited(
                known.pods.get((meta.namespace, revision), ()), known.scalers.get((meta.namespace, revision))
            )
            for revision in _awaited(status)
        ),
        is_served=any(revision.endpoints for revision in revisions if revision.weight_percent),
    )
    timeout_s = float(component.timeout) if component.timeout else DEFAULT_TIMEOUT_S
    return ServiceRoute(
        namespace=meta.namespace,
        name=name,
        uid=meta.uid,
        engine_model=engine_model,
        aliases=_aliases(service, engine_model) if name == meta.name else (),
        adapters=_listed(meta.annotations.get(ADAPTERS, "")),
        hosts=(f"{name}.{meta.namespace}", f"{name}-{meta.namespace}"),
        phase=standing.phase,
        message=standing.message,
        revisions=revisions,
        created_at=parse_rfc3339(meta.creation_timestamp) if meta.creation_timestamp else 0.0,
        timeout_s=timeout_s,
        hold_s=standing.hold_s(timeout_s),
        metrics_dialect=traits.get(METRICS_DIALECT, ""),
        openai_prefix=traits.get(OPENAI_PREFIX, "/v1"),
        protocols=_listed(traits.get(PROTOCOLS, "")) or ANY_ENGINES,
        start_phase=standing.start_phase,
        start_expected_s=standing.start_expected_s,
        wakes=standing.wakes,
        split_by=_split_by(meta.annotations.get(SPLIT_BY, "")),
        routing=routing,
        tokenizer=next((tokenizer_folder(pod) for pod in own if ready_since(pod) is not None), ""),
    )


def _named(status: ComponentStatus) -> list[str]:
    """The revisions with traffic; before the first is ready, the one that is to get it."""
    first = [] if status.traffic else [status.latest_created_revision]
    return [target.revision_name for target in status.traffic] + first


def _awaited(status: ComponentStatus) -> list[str]:
    """Those of them that somebody waits for while the service has no endpoint."""
    unasked = {target.revision_name for target in status.traffic if not target.percent}
    return [name for name in _named(status) if name not in unasked]


def _revision(
    target: TrafficTarget,
    slots: int,
    labels: frozenset[str],
    pods: Sequence[Pod],
    helpers: Sequence[Pod] = (),
) -> RevisionRoute:
    """Pods that drain get no more requests, ready or not. `helpers` are another service's, for this one."""
    ready, starting, prefill = [], [], []
    groups = {pod.metadata.labels.get(TRANSFER_GROUP) for pod in pods}
    others = {pod.metadata.name for pod in helpers}
    parts = [(pod, role_of(pod.metadata.labels) == PREFILL) for pod in pods]
    parts += [(pod, True) for pod in helpers if pod.metadata.labels.get(TRANSFER_GROUP) in groups]
    for pod, helps in parts:
        if DRAINING in pod.metadata.annotations or not pod.status.pod_ip:
            continue
        if helps:
            if ready_since(pod) is not None:
                endpoint = _endpoint(pod, slots, labels)
                prefill.append(_helping(endpoint, pod) if pod.metadata.name in others else endpoint)
        elif ready_since(pod) is not None:
            ready.append(_endpoint(pod, slots, labels))
        elif (path := probe_path(pod)) is not None:
            starting.append(_endpoint(pod, slots, labels, path))
    return RevisionRoute(
        name=target.revision_name,
        weight_percent=target.percent or 0,
        endpoints=tuple(ready),
        starting=tuple(starting),
        prefill=tuple(prefill),
        tag=target.tag,
    )


def _split_by(annotation: str) -> str:
    """`key`, or `header:NAME`; anything else splits by request."""
    kind, _, header = annotation.partition(":")
    return header.strip().lower() if kind == "header" else "key" if annotation == "key" else ""


def _aliases(service: InferenceService, engine_model: str) -> tuple[str, ...]:
    """Those that the annotations name, and the engine's own name if it is another than the service's."""
    annotations = service.metadata.annotations
    named = _listed(annotations.get(ALIASES, "")) + _listed(annotations.get(ADAPTERS, ""))
    own = [engine_model] if engine_model not in (service.metadata.name, *named) else []
    return (*named, *own)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _endpoint(pod: Pod, slots: int, labels: frozenset[str], path: str = "") -> Endpoint:
    metrics, traits = metrics_endpoint(pod), pod.metadata.annotations
    return Endpoint(
        name=pod.metadata.name,
        address=pod.status.pod_ip,
        port=serving_port(pod.spec),
        grpc_port=grpc_port(pod.spec),
        tls=speaks_https(pod.spec),
        node=pod.spec.node_name,
        slots=slots,
        probe_path=path,
        labels=tuple((key, pod.metadata.labels[key]) for key in sorted(labels & pod.metadata.labels.keys())),
        kv_events_port=_port(traits.get(KV_EVENTS_PORT, "")),
        kv_replay_port=_port(traits.get(KV_REPLAY_PORT, "")),
        metrics_port=metrics.port if metrics else 0,
        metrics_path=metrics.path if metrics else "",
        step_requests=_step_requests(traits.get(STEP_REQUESTS, "")),
    )


def _helping(endpoint: Endpoint, pod: Pod) -> Endpoint:
    """It is another service's, and knows the model by the name that it has there."""
    name, revision = (pod.metadata.labels.get(label, "") for label in (SERVICE_LABEL, REVISION_LABEL))
    return replace(endpoint, home=f"{name}/{revision}", engine_model=served_name(pod.spec) or name)


def _port(annotation: str) -> int:
    """0 for none, or for what is no port."""
    return int(annotation) if re.fullmatch("[0-9]{1,5}", annotation) and int(annotation) < 65536 else 0


def _step_requests(annotation: str) -> float:
    """0 for none, or for what is no such number."""
    return float(annotation) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", annotation) else 0.0


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
    routes = [
        TenantRoute(name=one.metadata.name, weight=one.spec.weight or 1.0, limits=_limits(one.spec.limits))
        for one in tenants
    ]
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
        explain=spec.explain,
        priority=spec.priority or 0,
        max_priority=spec.max_priority if spec.max_priority is not None else spec.priority or 0,
        fairness_ids=spec.fairness_ids,
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
