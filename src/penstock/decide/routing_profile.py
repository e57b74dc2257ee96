"""Which routing profile holds for this service, and what does the gateway have to know of it?

The one that annotation penstock.dev/routing-profile names, of the service's namespace; else the namespace's default, else that of the
namespace penstock-system, else the built-in one. Of several defaults the first by name holds. Where KV-aware routing is switched off, a
service that is given no profile has none, and the least requests in flight decide. Annotation penstock.dev/routing-profile-canary names a
profile that is tried on a share of the requests (`decide/profile_canary.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from penstock.contracts.exchange import (
    CONTEXT_LENGTH_LABELS,
    FlowRoute,
    PluginRoute,
    PromptClassRoute,
    RoutingRoute,
)
from penstock.resources.meta import Json
from penstock.resources.routing import (
    PROFILE,
    PROFILE_CANARY,
    FlowSpec,
    PromptClassSpec,
    RoutingPlugin,
    RoutingProfile,
    profile_canary,
)
from penstock.resources.serving import InferenceService
from penstock.resources.validate_routing import validate_routing_profile

Number = TypeVar("Number", int, float)
SYSTEM_NAMESPACE = "penstock-system"
BY_LABEL = "context-length"
"""The filter and the scorer that read the labels of endpoints."""


class Platform(NamedTuple):
    """What the platform's settings say."""

    kv_aware: bool = True
    prompt_token_threshold: int = 2048


PLATFORM = Platform()


class Profiles(NamedTuple):
    """Every profile by namespace and name, and each namespace's default."""

    named: Mapping[tuple[str, str], RoutingProfile]
    defaults: Mapping[str, RoutingProfile]
    platform: Platform


def profiles_of(profiles: Iterable[RoutingProfile] = (), platform: Platform = PLATFORM) -> Profiles:
    """Without those that are being deleted."""
    named: dict[tuple[str, str], RoutingProfile] = {}
    defaults: dict[str, RoutingProfile] = {}
    for one in sorted(profiles, key=lambda one: one.metadata.name):
        if one.metadata.deletion_timestamp is None:
            named[one.metadata.namespace, one.metadata.name] = one
            if one.spec.default:
                defaults.setdefault(one.metadata.namespace, one)
    return Profiles(named, defaults, platform)


def profile_of(service: InferenceService, known: Profiles) -> RoutingProfile | None:
    """The object that holds for a service, None for the built-in profile or none at all."""
    namespace, name = service.metadata.namespace, service.metadata.annotations.get(PROFILE, "")
    found = known.named.get((namespace, name)) if name else None
    return found or known.defaults.get(namespace) or known.defaults.get(SYSTEM_NAMESPACE)


def routing_route(service: InferenceService, known: Profiles) -> RoutingRoute | None:
    """None where the least requests in flight decide."""
    name = service.metadata.annotations.get(PROFILE, "")
    profile = profile_of(service, known)
    if profile is None and not name and not known.platform.kv_aware:
        return None
    route = route_of(profile, known.platform)
    if name and (service.metadata.namespace, name) not in known.named:
        message = f"annotation {PROFILE}: there is no RoutingProfile {name!r} in this namespace"
        route = replace(route, message=message)
    return _tried(route, service, known)


def problem(service: InferenceService, known: Profiles) -> str:
    """Why a profile that the service names does not hold for it, or not as it is written; "" where all is well."""
    route = routing_route(service, known)
    said = [route.message] if route is not None and route.message else []
    canary = profile_canary(service.metadata.annotations)
    for name in (service.metadata.annotations.get(PROFILE, ""), canary.name if canary else ""):
        profile = known.named.get((service.metadata.namespace, name))
        causes = tuple(validate_routing_profile(profile)) if profile is not None else ()
        said += [f"RoutingProfile {name}: {one.field}: {one.message}" for one in causes]
    if said and route is not None:
        said.append(f"{route.profile or 'the built-in profile'} holds")
    return "; ".join(said)


def _tried(route: RoutingRoute, service: InferenceService, known: Profiles) -> RoutingRoute:
    """With the profile that is tried beside it, if there is one."""
    canary = profile_canary(service.metadata.annotations)
    if canary is None:
        return route
    candidate = known.named.get((service.metadata.namespace, canary.name))
    if candidate is None:
        message = f"annotation {PROFILE_CANARY}: there is no RoutingProfile {canary.name!r} in this namespace"
        return replace(route, message="; ".join(filter(None, (route.message, message))))
    return replace(route, candidate=route_of(candidate, known.platform), candidate_percent=canary.percent)


def needed_labels(route: RoutingRoute | None) -> frozenset[str]:
    """The labels of pods that a profile asks for."""
    if route is None:
        return frozenset()
    pools = {key for held in (route.short, route.long, route.batch) for key, _ in held.pool}
    reads = any(part.name == BY_LABEL for part in (*route.filters, *route.scorers))
    return frozenset(pools | set(CONTEXT_LENGTH_LABELS if reads else ())) | needed_labels(route.candidate)


def route_of(profile: RoutingProfile | None, platform: Platform = PLATFORM) -> RoutingRoute:
    """A profile as the gateway gets it, None for the built-in one."""
    built_in = RoutingRoute(prompt_token_threshold=platform.prompt_token_threshold)
    if profile is None:
        return built_in
    spec, classes = profile.spec, profile.spec.prompt_classes
    threshold, block, events = (
        classes.threshold_tokens,
        spec.kv_index.block_tokens,
        spec.kv_index.events,
    )
    return RoutingRoute(
        profile=profile.metadata.name,
        filters=built_in.filters if spec.filters is None else tuple(map(_plugin, spec.filters)),
        scorers=tuple(
            PluginRoute(name=one.name, parameters=_pairs(one.parameters), weight=float(one.weight))
            for one in spec.scorers
        )
        or built_in.scorers,
        picker=_plugin(spec.picker) if spec.picker else built_in.picker,
        prompt_token_threshold=built_in.prompt_token_threshold if threshold is None else threshold,
        short=_class(classes.short),
        long=_class(classes.long),
        batch=_class(classes.batch),
        block_tokens=block or built_in.block_tokens,
        kv_events=built_in.kv_events if events is None else events,
        flow=_flow(spec.flow),
        prewarm_prefixes=_or(spec.prewarm.prefixes, built_in.prewarm_prefixes),
        prewarm_s=_or(spec.prewarm.seconds, built_in.prewarm_s),
        remote_prompt_tokens=_or(spec.disaggregation.prompt_tokens, built_in.remote_prompt_tokens),
        remote_uncached_tokens=_or(spec.disaggregation.uncached_tokens, built_in.remote_uncached_tokens),
    )


def _flow(spec: FlowSpec) -> FlowRoute:
    built_in = FlowRoute()
    return FlowRoute(
        waiting=float(_or(spec.engine_queue, built_in.waiting)),
        kv_use=_or(spec.max_kv_use, built_in.kv_use),
        prefill_s=_or(spec.prefill_seconds, built_in.prefill_s),
        ttl_s=_or(spec.ttl_seconds, built_in.ttl_s),
        max_requests=_or(spec.max_requests, built_in.max_requests),
        max_bytes=_or(spec.max_bytes, built_in.max_bytes),
    )


def _or(given: Number | None, default: Number) -> Number:
    return default if given is None else given


def _plugin(plugin: RoutingPlugin) -> PluginRoute:
    return PluginRoute(name=plugin.name, parameters=_pairs(plugin.parameters))


def _class(spec: PromptClassSpec) -> PromptClassRoute:
    return PromptClassRoute(
        pool=tuple(sorted(spec.pool.items())),
        max_requests=spec.max_requests or 0,
        max_tokens=spec.max_tokens or 0,
    )


def _pairs(parameters: Mapping[str, Json]) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(value)) for name, value in sorted(parameters.items()))
