"""How requests find their endpoint: which parts weigh what (group penstock.dev, ours)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Json, Labels, Model, Resource

PROFILE = "penstock.dev/routing-profile"
DEFAULT_THRESHOLD_TOKENS = 2048
DEFAULT_BLOCK_TOKENS = 64


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


class RoutingProfile(Resource, frozen=True, kw_only=True):
    """Chosen by an InferenceService's annotation penstock.dev/routing-profile; several services may share one."""

    api_version: str = field(default_factory=lambda: "penstock.dev/v1alpha1")
    kind: str = field(default_factory=lambda: "RoutingProfile")
    spec: RoutingProfileSpec = field(default_factory=RoutingProfileSpec)
