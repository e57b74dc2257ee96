"""What is done with each field of a RoutingProfile, and with the annotation that names one. The reference is made of it."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.resources.routing import DEFAULT_BLOCK_TOKENS, DEFAULT_THRESHOLD_TOKENS, PROFILE
from penstock.resources.routing_plugins import PARTS, Family
from penstock.resources.validate_routing import BLOCK_TOKENS, MAX_PARTS, MAX_TOKENS, MAX_WEIGHT

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
    (f"annotation {PROFILE}", "none", "a RoutingProfile of the namespace", "the service's requests are routed by it"),
)  # fmt: skip
"""Field, default, range, effect."""


def part_rows(family: Family) -> Iterator[tuple[str, str, str, str]]:
    """Each part of a family, and each of its parameters: name, default, range, effect."""
    for name, part in sorted(PARTS[family].items()):
        yield name, "", "", part.effect
        for one in part.parameters:
            yield f"{name}: {one.name}", f"{one.default:g}", f"{one.least:g} … {one.most:g}", one.effect
