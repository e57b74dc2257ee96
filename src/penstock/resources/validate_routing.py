"""Does a routing profile, or an annotation that names one, say something that can be followed?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from penstock.resources.meta import Labels
from penstock.resources.routing import (
    PREFILL_FOR,
    PROFILE,
    PROFILE_CANARY,
    FlowSpec,
    PromptClassSpec,
    RoutingPlugin,
    RoutingProfile,
    RoutingProfileSpec,
    RoutingScorer,
    profile_canary,
)
from penstock.resources.routing_plugins import Family, check_name, check_parameters
from penstock.resources.validation import Causes, duplicate, label_pairs, subdomain_name, wrong

MAX_PARTS = 16
MAX_WEIGHT = 1_000.0
MAX_TOKENS = 1_000_000_000
BLOCK_TOKENS = (1, 4_096)
MAX_QUEUED = 100_000
MAX_QUEUED_BYTES = 1 << 40
MAX_FLOW_S = 3_600.0
MAX_PREWARM_PREFIXES = 64
MAX_PREWARM_S = 600.0


def validate_routing_profile(new: RoutingProfile) -> Causes:
    """Causes in a profile."""
    spec = new.spec
    yield from _plugins("spec.filters", "filters", spec.filters or ())
    yield from _plugins("spec.scorers", "scorers", spec.scorers)
    for i, scorer in enumerate(spec.scorers[:MAX_PARTS]):
        if not (math.isfinite(scorer.weight) and 0 <= scorer.weight <= MAX_WEIGHT):
            yield wrong(f"spec.scorers[{i}].weight", scorer.weight, f"must be between 0 and {MAX_WEIGHT:g}")
    if spec.scorers and not any(scorer.weight for scorer in spec.scorers):
        yield wrong("spec.scorers", len(spec.scorers), "at least one must have a weight above 0")
    if spec.picker is not None:
        yield from _plugin("spec.picker", "pickers", spec.picker)
    yield from _classes(spec)
    least, most = BLOCK_TOKENS
    yield from _within("spec.kvIndex.blockTokens", spec.kv_index.block_tokens, least, most)
    yield from _flow(spec.flow)
    yield from _within("spec.prewarm.prefixes", spec.prewarm.prefixes, 0, MAX_PREWARM_PREFIXES)
    seconds = spec.prewarm.seconds
    if seconds is not None and not 0 <= seconds <= MAX_PREWARM_S:
        yield wrong("spec.prewarm.seconds", seconds, f"must be between 0 and {MAX_PREWARM_S:g}")
    remote = spec.disaggregation
    yield from _within("spec.disaggregation.promptTokens", remote.prompt_tokens, 0, MAX_TOKENS)
    yield from _within("spec.disaggregation.uncachedTokens", remote.uncached_tokens, 0, MAX_TOKENS)


def validate_routing_annotation(annotations: Labels) -> Causes:
    """Causes in an InferenceService's annotations about routing."""
    if PREFILL_FOR in annotations:
        yield from subdomain_name(f"metadata.annotations[{PREFILL_FOR}]", annotations[PREFILL_FOR])
    if PROFILE in annotations:
        yield from subdomain_name(f"metadata.annotations[{PROFILE}]", annotations[PROFILE])
    if PROFILE_CANARY in annotations:
        field, canary = f"metadata.annotations[{PROFILE_CANARY}]", profile_canary(annotations)
        if canary is None:
            yield wrong(field, annotations[PROFILE_CANARY], "must be NAME=PERCENT, with 1 to 99 percent")
        else:
            yield from subdomain_name(field, canary.name)


def _plugins(field: str, family: Family, plugins: Sequence[RoutingPlugin | RoutingScorer]) -> Causes:
    if len(plugins) > MAX_PARTS:
        yield wrong(field, len(plugins), f"at most {MAX_PARTS}")
    names = [plugin.name for plugin in plugins]
    for i, plugin in enumerate(plugins[:MAX_PARTS]):
        yield from _plugin(f"{field}[{i}]", family, plugin)
        if plugin.name in names[:i]:
            yield duplicate(f"{field}[{i}].name", plugin.name)


def _plugin(field: str, family: Family, plugin: RoutingPlugin | RoutingScorer) -> Causes:
    unknown = list(check_name(f"{field}.name", family, plugin.name))
    yield from unknown or check_parameters(f"{field}.parameters", family, plugin.name, plugin.parameters)


def _classes(spec: RoutingProfileSpec) -> Causes:
    classes = spec.prompt_classes
    yield from _within("spec.promptClasses.thresholdTokens", classes.threshold_tokens, 0, MAX_TOKENS)
    for name in ("short", "long", "batch"):
        one: PromptClassSpec = getattr(classes, name)
        where = f"spec.promptClasses.{name}"
        yield from label_pairs(f"{where}.pool", one.pool)
        yield from _within(f"{where}.maxRequests", one.max_requests, 1, MAX_TOKENS)
        yield from _within(f"{where}.maxTokens", one.max_tokens, 1, MAX_TOKENS)


def _flow(flow: FlowSpec) -> Causes:
    yield from _within("spec.flow.engineQueue", flow.engine_queue, 1, MAX_QUEUED)
    yield from _between("spec.flow.maxKvUse", flow.max_kv_use, 0.01, 1.0)
    yield from _between("spec.flow.prefillSeconds", flow.prefill_seconds, 0.01, MAX_FLOW_S)
    yield from _within("spec.flow.maxRequests", flow.max_requests, 0, MAX_QUEUED)
    yield from _within("spec.flow.maxBytes", flow.max_bytes, 0, MAX_QUEUED_BYTES)
    yield from _between("spec.flow.ttlSeconds", flow.ttl_seconds, 0.0, MAX_FLOW_S)


def _between(field: str, value: float | None, least: float, most: float) -> Causes:
    if value is not None and not least <= value <= most:
        yield wrong(field, value, f"must be between {least:g} and {most:g}")


def _within(field: str, value: int | None, least: int, most: int) -> Causes:
    if value is not None and not least <= value <= most:
        yield wrong(field, value, f"must be between {least} and {most}")
