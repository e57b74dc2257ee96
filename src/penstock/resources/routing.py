"""How requests find their endpoint: which parts weigh what (group penstock.dev, ours)."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import field

from penstock.resources.meta import Json, Labels, Model, Resource

PROFILE = "penstock.dev/routing-profile"
PROFILE_CANARY = "penstock.dev/routing-profile-canary"
"""`NAME=PERCENT`: a profile that is tried on a share of the requests."""
PREFILL_FOR = "penstock.dev/prefill-for"
"""Of a service: the other one, of the same namespace, whose prompts its pods compute. It answers nobody itself."""
DEFAULT_THRESHOLD_TOKENS = 2048
DEFAULT_BLOCK_TOKENS = 64
DEFAULT_PREWARM_PREFIXES = 8
DEFAULT_PREWARM_S = 5.0
DEFAULT_REMOTE_UNCACHED_TOKENS = 512


class ProfileCanary(NamedTuple):
    """A profile that is tried on so many percent of the requests, 1 to 99."""

    name: str
    percent: int


def profile_canary(annotations: Labels) -> ProfileCanary | None:
    """None where no profile is tried, or what is written cannot be read."""
    name, equals, percent = annotations.get(PROFILE_CANARY, "").partition("=")
    if not (name and equals and percent.isascii() and percent.isdecimal() and len(percent) <= 2):
        return None
    return ProfileCanary(name, int(percent)) if int(percent) else None


class RoutingPlugin(Model, frozen=True):
    """A filter or the picker, by name, and what it is told."""

    name: str
    parameters: dict[str, Json] = {}


class RoutingScorer(Model, frozen=True):
    """A scorer, by name; its scores from 0 to 1 count `weight` times. One of weight 0 is not asked."""

    name: str
    weight: float = 1.0
    parameters: dict[str, Json] = {}


class PromptClassSpec(Model, frozen=True):
    """The endpoints of a class, by the labels of their pods (none: all), and what may be in flight of it in each gateway at once."""

    pool: Labels = {}
    max_requests: int | None = None
    max_tokens: int | None = None


class PromptClassesSpec(Model, frozen=True):
    """A prompt with more than `threshold_tokens` that are in no cache is long; what its caller calls a batch is one."""

    threshold_tokens: int | None = None
    short: PromptClassSpec = field(default_factory=PromptClassSpec)
    long: PromptClassSpec = field(default_factory=PromptClassSpec)
    batch: PromptClassSpec = field(default_factory=PromptClassSpec)


class KvIndexSpec(Model, frozen=True):
    """How what engines hold is kept in mind: in blocks of `block_tokens`, by engines' own events where `events` is not false."""

    block_tokens: int | None = None
    events: bool | None = None


class PrewarmSpec(Model, frozen=True):
    """A new endpoint computes at most so many `prefixes` of prompts for so many `seconds` before it takes requests; 0 of either: none."""

    prefixes: int | None = None
    seconds: float | None = None


class DisaggregationSpec(Model, frozen=True):
    """Which prompts pods of the role prefill may compute: of at least `prompt_tokens`, of which `uncached_tokens` (0: never) are in no cache."""

    prompt_tokens: int | None = None
    uncached_tokens: int | None = None


class FlowSpec(Model, frozen=True):
    """When an endpoint is full, so that requests wait in the gateway, and how many may.

    With `engine_queue` requests waiting in its engine, `max_kv_use` of its cache in use, or prompts that take `prefill_seconds` to compute. Of
    each priority `max_requests` may wait, with bodies of `max_bytes` together, each for `ttl_seconds`.
    """

    engine_queue: int | None = None
    max_kv_use: float | None = None
    prefill_seconds: float | None = None
    max_requests: int | None = None
    max_bytes: int | None = None
    ttl_seconds: float | None = None


DEFAULT_FLOW = FlowSpec(
    engine_queue=5,
    max_kv_use=0.95,
    prefill_seconds=14.0,
    max_requests=5_000,
    max_bytes=1 << 30,
    ttl_seconds=60.0,
)


class RoutingProfileSpec(Model, frozen=True):
    """Filters in their order, scorers, and a picker; what is not given is as in the built-in profile.

    A profile that is the `default` holds for the services of its namespace that name none; in the namespace penstock-system for those of
    all namespaces.
    """

    default: bool = False
    filters: tuple[RoutingPlugin, ...] | None = None
    scorers: tuple[RoutingScorer, ...] = ()
    picker: RoutingPlugin | None = None
    prompt_classes: PromptClassesSpec = field(default_factory=PromptClassesSpec)
    kv_index: KvIndexSpec = field(default_factory=KvIndexSpec)
    flow: FlowSpec = field(default_factory=FlowSpec)
    prewarm: PrewarmSpec = field(default_factory=PrewarmSpec)
    disaggregation: DisaggregationSpec = field(default_factory=DisaggregationSpec)


class RoutingProfile(Resource, frozen=True, kw_only=True):
    """Chosen by an InferenceService's annotation penstock.dev/routing-profile; several services may share one."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "RoutingProfile")
    spec: RoutingProfileSpec = field(default_factory=RoutingProfileSpec)
