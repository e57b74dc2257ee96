"""Which routing profile holds for this service, and what does the gateway have to know of it?

The one that annotation penstock.dev/routing-profile names, of the service's namespace; else the namespace's default, else that of the
namespace penstock-system, else the built-in one. Of several defaults the first by name holds. Where KV-aware routing is switched off, a
service that is given no profile has none, and the least requests in flight decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from penstock.contracts.exchange import (
    CONTEXT_LENGTH_LABELS,
    PluginRoute,
    PromptClassRoute,
    RoutingRoute,
)
from penstock.resources.meta import Json
from penstock.resources.routing import PROFILE, PromptClassSpec, RoutingPlugin, RoutingProfile
from penstock.resources.serving import InferenceService

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
    route = _route(profile, known.platform)
    if name and (service.metadata.namespace, name) not in known.named:
        message = f"annotation {PROFILE}: there is no RoutingProfile {name!r} in this namespace"
        return replace(route, message=message)
    return route


def needed_labels(route: RoutingRoute | None) -> frozenset[str]:
    """The labels of pods that a profile asks for."""
    if route is None:
        return frozenset()
    pools = {key for held in (route.short, route.long, route.batch) for key, _ in held.pool}
    reads = any(part.name == BY_LABEL for part in (*route.filters, *route.scorers))
    return frozenset(pools | set(CONTEXT_LENGTH_LABELS if reads else ()))


def _route(profile: RoutingProfile | None, platform: Platform) -> RoutingRoute:
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
    )


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
