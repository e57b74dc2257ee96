"""What is done with each field of a RoutingProfile, and with the annotation that names one. The reference is made of it."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.resources.routing import (
    DEFAULT_BLOCK_TOKENS,
    DEFAULT_FLOW,
    DEFAULT_PREWARM_PREFIXES,
    DEFAULT_PREWARM_S,
    DEFAULT_REMOTE_UNCACHED_TOKENS,
    DEFAULT_THRESHOLD_TOKENS,
    PREFILL_FOR,
    PROFILE,
    PROFILE_CANARY,
)
from penstock.resources.routing_plugins import PARTS, Family
from penstock.resources.validate_routing import (
    BLOCK_TOKENS,
    MAX_FLOW_S,
    MAX_PARTS,
    MAX_PREWARM_PREFIXES,
    MAX_PREWARM_S,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    MAX_TOKENS,
    MAX_WEIGHT,
)

_CLASSES = "short,long,batch"
FIELDS: tuple[tuple[str, str, str, str], ...] = (
    ("spec.default", "false", "true, false", "holds for services of its namespace that name no profile; in penstock-system for those of all namespaces"),
    ("spec.filters[].name", "healthy, saturation", f"a filter, at most {MAX_PARTS}", "asked in this order; an empty list asks none"),
    ("spec.filters[].parameters", "by filter", "see below", "what it is told"),
    ("spec.scorers[].name", "predicted-latency", f"a scorer, at most {MAX_PARTS}", "its score from 0 to 1 counts"),
    ("spec.scorers[].weight", "1", f"0 … {MAX_WEIGHT:g}", "so many times; with 0 it is not asked"),
    ("spec.scorers[].parameters", "by scorer", "see below", "what it is told"),
    ("spec.picker.name", "max-score", "a picker", "takes one by the sums"),
    ("spec.picker.parameters", "by picker", "see below", "what it is told"),
    ("spec.promptClasses.thresholdTokens", str(DEFAULT_THRESHOLD_TOKENS), f"0 … {MAX_TOKENS}", "a prompt with more tokens that its best endpoint does not hold is long"),
    (f"spec.promptClasses.{{{_CLASSES}}}.pool", "all endpoints", "labels", "the class keeps to pods with these labels, where there are any"),
    (f"spec.promptClasses.{{{_CLASSES}}}.maxRequests", "none", f"1 … {MAX_TOKENS}", "requests of the class in flight in one gateway at once"),
    (f"spec.promptClasses.{{{_CLASSES}}}.maxTokens", "none", f"1 … {MAX_TOKENS}", "uncached tokens of the class in flight in one gateway at once"),
    ("spec.kvIndex.blockTokens", str(DEFAULT_BLOCK_TOKENS), f"{BLOCK_TOKENS[0]} … {BLOCK_TOKENS[1]}", "tokens that are told apart as one block, where the engine does not say its own"),
    ("spec.kvIndex.events", "true", "true, false", "engines' own reports of their caches are heard"),
    ("spec.prewarm.prefixes", str(DEFAULT_PREWARM_PREFIXES), f"0 … {MAX_PREWARM_PREFIXES}", "a new endpoint computes so many of the hottest beginnings of prompts before it takes requests"),
    ("spec.prewarm.seconds", f"{DEFAULT_PREWARM_S:g}", f"0 … {MAX_PREWARM_S:g}", "and no longer than this"),
    ("spec.disaggregation.promptTokens", "0", f"0 … {MAX_TOKENS}", "shorter prompts are never computed by pods of the role prefill"),
    ("spec.disaggregation.uncachedTokens", str(DEFAULT_REMOTE_UNCACHED_TOKENS), f"0 … {MAX_TOKENS}", "nor are those of which the endpoint that answers has less to compute; 0: none are"),
    ("spec.flow.engineQueue", f"{DEFAULT_FLOW.engine_queue}", f"1 … {MAX_QUEUED}", "an endpoint is full with so many requests waiting in its engine"),
    ("spec.flow.maxKvUse", f"{DEFAULT_FLOW.max_kv_use:g}", "0.01 … 1", "or with such a share of its KV cache in use"),
    ("spec.flow.prefillSeconds", f"{DEFAULT_FLOW.prefill_seconds:g}", f"0.01 … {MAX_FLOW_S:g}", "or with prompts that take so long to compute"),
    ("spec.flow.maxRequests", str(DEFAULT_FLOW.max_requests), f"0 … {MAX_QUEUED}", "requests of one priority that may wait in one gateway until an endpoint is not full; 0: none"),
    ("spec.flow.maxBytes", str(DEFAULT_FLOW.max_bytes), f"0 … {MAX_QUEUED_BYTES}", "bytes of their bodies together"),
    ("spec.flow.ttlSeconds", f"{DEFAULT_FLOW.ttl_seconds:g}", f"0 … {MAX_FLOW_S:g}", "how long each may wait"),
    (f"annotation {PROFILE}", "none", "a RoutingProfile of the namespace", "the service's requests are routed by it"),
    (f"annotation {PROFILE_CANARY}", "none", "NAME=PERCENT, 1 … 99", "a share of the service's requests, whole sessions, is routed by that profile instead; its kvIndex is not used"),
    (f"annotation {PREFILL_FOR}", "none", "an InferenceService of the namespace", "the pods compute prompts for that service, and answer nobody; pods of both say so by label penstock.dev/role (prefill, decode)"),
)  # fmt: skip
"""Field, default, range, effect."""


def part_rows(family: Family) -> Iterator[tuple[str, str, str, str]]:
    """Each part of a family, and each of its parameters: name, default, range, effect."""
    for name, part in sorted(PARTS[family].items()):
        yield name, "", "", part.effect
        for one in part.parameters:
            yield f"{name}: {one.name}", f"{one.default:g}", f"{one.least:g} … {one.most:g}", one.effect
