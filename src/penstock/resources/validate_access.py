"""Do API keys and tenants say something that can be kept?"""

from __future__ import annotations

import re

from penstock.kit.errors import Cause, InvalidInput
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.access import AccessLimit, ApiKey, ApiKeySpec, Tenant
from penstock.resources.validation import Causes, at_least, duplicate, required, subdomain_name, wrong

MAX_PATTERNS = 256
MAX_LIMITS = 64
MAX_DISPLAY_NAME = 256
MOST_PRIORITY = (1 << 31) - 1
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 1_000.0
NAMESPACE_PATTERN = "[-a-z0-9*?]+"
MODEL_PATTERN = rf"({NAMESPACE_PATTERN}/)?[-a-z0-9.*?]+"
MODEL_TEXT = "expected a name, namespace/name, or a pattern of those with * and ?, in lower case"
NAMESPACE_TEXT = "expected a namespace's name, or a pattern of it with * and ?, in lower case"


def validate_api_key(new: ApiKey) -> Causes:
    """Causes in a key."""
    spec = new.spec
    if spec.tenant:
        yield from subdomain_name("spec.tenant", spec.tenant)
    yield from _patterns("spec.namespaces", spec.namespaces, NAMESPACE_PATTERN, NAMESPACE_TEXT)
    yield from _patterns("spec.models", spec.models, MODEL_PATTERN, MODEL_TEXT)
    yield from _reach(new)
    yield from _priorities(spec)
    if spec.expires_at is not None:
        try:
            parse_rfc3339(spec.expires_at)
        except InvalidInput as error:
            yield wrong("spec.expiresAt", spec.expires_at, error.message)
    yield from _limits(spec.limits)


def validate_tenant(new: Tenant) -> Causes:
    """Causes in a tenant."""
    if len(new.spec.display_name) > MAX_DISPLAY_NAME:
        yield Cause(
            "spec.displayName",
            f"Too long: may not be more than {MAX_DISPLAY_NAME} characters",
            "FieldValueTooLong",
        )
    weight = new.spec.weight
    if weight is not None and not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        yield wrong("spec.weight", weight, f"must be between {LEAST_WEIGHT:g} and {MOST_WEIGHT:g}")
    yield from _limits(new.spec.limits)


def _priorities(spec: ApiKeySpec) -> Causes:
    for name, value in (("priority", spec.priority), ("maxPriority", spec.max_priority)):
        if value is not None and not -MOST_PRIORITY <= value <= MOST_PRIORITY:
            yield wrong(f"spec.{name}", value, f"must be between {-MOST_PRIORITY} and {MOST_PRIORITY}")
    if spec.max_priority is not None and spec.max_priority < (spec.priority or 0):
        yield wrong(
            "spec.maxPriority", spec.max_priority, f"must not be below the priority, {spec.priority or 0}"
        )


def _reach(key: ApiKey) -> Causes:
    """A model of a namespace that is named by its whole name, but not among the key's namespaces, would never be allowed."""
    namespaces = key.spec.namespaces or (key.metadata.namespace,)
    if any(not one or "*" in one or "?" in one for one in namespaces):
        return
    for i, pattern in enumerate(key.spec.models):
        namespace, slash, _ = pattern.partition("/")
        if slash and "*" not in namespace and "?" not in namespace and namespace not in namespaces:
            yield wrong(
                f"spec.models[{i}]",
                pattern,
                f"the key does not reach the namespace {namespace!r}: add it to spec.namespaces, which are now"
                f" {', '.join(namespaces)}",
            )


def _patterns(field: str, patterns: tuple[str, ...], syntax: str, expected: str) -> Causes:
    if len(patterns) > MAX_PATTERNS:
        yield _too_many(field, len(patterns), MAX_PATTERNS)
    for i, pattern in enumerate(patterns[:MAX_PATTERNS]):
        if len(pattern) > 253 or not re.fullmatch(syntax, pattern):
            yield wrong(f"{field}[{i}]", pattern, expected)
        elif pattern in patterns[:i]:
            yield duplicate(f"{field}[{i}]", pattern)


def _limits(limits: tuple[AccessLimit, ...]) -> Causes:
    if len(limits) > MAX_LIMITS:
        yield _too_many("spec.limits", len(limits), MAX_LIMITS)
    models = [limit.model for limit in limits]
    for i, limit in enumerate(limits[:MAX_LIMITS]):
        where = f"spec.limits[{i}]"
        if len(limit.model) > 253 or not re.fullmatch(MODEL_PATTERN, limit.model):
            yield wrong(f"{where}.model", limit.model, MODEL_TEXT)
        elif limit.model in models[:i]:
            yield duplicate(f"{where}.model", limit.model)
        if limit.requests_per_minute is None and limit.tokens_per_minute is None:
            yield required(where, "requestsPerMinute or tokensPerMinute must be given")
        yield from at_least(f"{where}.requestsPerMinute", limit.requests_per_minute)
        yield from at_least(f"{where}.tokensPerMinute", limit.tokens_per_minute)


def _too_many(field: str, found: int, most: int) -> Cause:
    return Cause(field, f"Too many: {found}: must have at most {most} items", "FieldValueTooMany")
