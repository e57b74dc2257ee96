"""What the two planes tell each other: RouteTable down to the gateway, DemandReport up to the control plane.

The channel is a stream of JSON lines in both directions over a Unix socket (one machine) or TCP (cluster). The control
plane sends the whole RouteTable on connect and after each change; the gateway keeps the last one, also on disk, and serves
from it while the control plane is away. The gateway sends a DemandReport every second, and at once when a service that
has no endpoint is asked for (`wake`).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ServicePhase = Literal["Ready", "Starting", "Sleeping", "Failed"]
StartPhase = Literal["", "placing", "downloading", "loading", "warming"]
LATENCY_BOUNDS_S: tuple[float, ...] = tuple(0.001 * 2.0 ** (k / 2) for k in range(40))
"""Upper bounds of latency buckets, 1 ms to 741 s; counts by bucket have one entry more, for what took longer."""


Pairs = tuple[tuple[str, str], ...]
"""Labels: keys with their values, so that what holds them can be hashed."""
CONTEXT_LENGTH_LABELS = ("penstock.dev/context-length-range", "llm-d.ai/context-length-range")
"""Of a pod: from how many to how many tokens of context it is for (`0-8192`); the first that it has counts."""
ROLE_LABELS = ("penstock.dev/role", "llm-d.ai/role")
"""Of a pod: `prefill` computes prompts for others and answers nobody; `decode`, `both` or nothing answers. The first that it has counts."""


class Endpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pod as the gateway sees it. `name` is the pod's, `slots` its limit of concurrent requests (0: none).

    `grpc_port` is where it speaks KServe's V2 gRPC, 0 where it does not; `tls` says that `port` speaks HTTPS. `probe_path` is
    where it says over HTTP whether it is ready; where it is "", taking a TCP connection means so. `labels` are those of the pod's that
    routing asks for. `kv_events_port` is where its engine publishes KV events, `kv_replay_port` where it tells them again, `metrics_port`
    (with `metrics_path`) where its metrics are read; 0: nowhere. So many requests as `step_requests` double the time between tokens there;
    0: not known. One that computes prompts for another service says by `home`
    (SERVICE/REVISION, of the same namespace) whose it is itself, and by `engine_model` what its engine calls the model.
    """

    name: str
    address: str
    port: int
    node: str = ""
    slots: int = 0
    grpc_port: int = 0
    tls: bool = False
    probe_path: str = ""
    kv_events_port: int = 0
    kv_replay_port: int = 0
    metrics_port: int = 0
    metrics_path: str = ""
    step_requests: float = 0.0
    labels: Pairs = ()
    home: str = ""
    engine_model: str = ""


class RevisionRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revision of a service: its share of traffic in percent, and its ready endpoints.

    `starting` are pods with an address whose processes run, but which are not ready. A revision with a `tag` can be asked for by it.
    `prefill` are ready pods that only compute prompts, for its endpoints to go on with.
    """

    name: str
    weight_percent: int
    endpoints: tuple[Endpoint, ...] = ()
    starting: tuple[Endpoint, ...] = ()
    prefill: tuple[Endpoint, ...] = ()
    tag: str = ""


class PluginRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A filter, scorer or picker of a routing profile; `weight` is a scorer's."""

    name: str
    parameters: tuple[tuple[str, float], ...] = ()
    weight: float = 1.0


class PromptClassRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One class of prompts: the labels of the endpoints that are its own (none: all), and what may be in flight of it at once (0: no limit)."""

    pool: Pairs = ()
    max_requests: int = 0
    max_tokens: int = 0


class FlowRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When an endpoint is full, and what may wait in the gateway until one is not.

    It is full with `waiting` requests in its engine's queue, with `kv_use` of its cache in use, or with prompts that take `prefill_s` to
    compute. Each priority may have `max_requests` wait, with bodies of `max_bytes` together, for `ttl_s` each.
    """

    waiting: float = 5.0
    kv_use: float = 0.95
    prefill_s: float = 14.0
    ttl_s: float = 60.0
    max_requests: int = 5_000
    max_bytes: int = 1 << 30


class RoutingRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A routing profile as the gateway sees it. The defaults are those of the built-in profile, which `profile` "" means.

    A prompt with more than `prompt_token_threshold` uncached tokens at its best endpoint is `long`, `batch` is what its caller calls so.
    Prompts are cut into blocks of `block_tokens`; `kv_events` says whether engines' own reports of their caches are heard. A new endpoint
    computes at most `prewarm_prefixes` beginnings of prompts for `prewarm_s` before it takes requests. A prompt of `remote_prompt_tokens` of
    which its endpoint has at least `remote_uncached_tokens` (0: never) to compute may be computed by one of the role prefill. `message` says
    why another profile than the one that is asked for holds, "" otherwise. `candidate` is a profile that is tried on `candidate_percent` of
    the requests, without its own blocks and events: what is known of engines is one for both.
    """

    profile: str = ""
    filters: tuple[PluginRoute, ...] = (PluginRoute(name="healthy"), PluginRoute(name="saturation"))
    scorers: tuple[PluginRoute, ...] = (PluginRoute(name="predicted-latency"),)
    picker: PluginRoute = PluginRoute(name="max-score")
    prompt_token_threshold: int = 2048
    short: PromptClassRoute = PromptClassRoute()
    long: PromptClassRoute = PromptClassRoute()
    batch: PromptClassRoute = PromptClassRoute()
    flow: FlowRoute = FlowRoute()
    block_tokens: int = 64
    kv_events: bool = True
    prewarm_prefixes: int = 8
    prewarm_s: float = 5.0
    remote_prompt_tokens: int = 0
    remote_uncached_tokens: int = 512
    message: str = ""
    candidate: RoutingRoute | None = None
    candidate_percent: int = 0


class ServiceRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One InferenceService as the gateway sees it.

    `aliases` are further model names that callers may use; those of them that are `adapters` the engine knows by the same names.
    `engine_model` is the name that the engine itself answers to; `hosts` are the Host values that select this service. `phase` and `message` say why there
    are no endpoints, in words for the caller; one that is Sleeping starts when it is asked for, unless it `wakes` only by hand.
    `start_phase` is where its start is, "" if none is under way, and `start_expected_s` what starts take, 0 where that is unknown.
    `hold_s` bounds the wait of a request for a first endpoint. `openai_prefix` is where the engine answers OpenAI's API.
    `protocols` are those that the engine speaks itself: openai, anthropic, ollama, v1, v2. `split_by` says whose requests stay
    with one revision: "" nobody's, "key" those of an API key, else those with one value of the header of that name (lower case).
    `routing` is the profile by which endpoints are chosen; without one, the least requests in flight decide.
    `objectives` are the names that requests may give for their priority, each with that priority.
    `tokenizer` is the folder of the model's, below the data folder of the machine that serves it, or `contracts.tokenizing.BYTES_TOKENIZER`;
    "" where it is not known. `tag` is never told: the gateway sets it on a service of which one tagged revision is asked for.
    """

    namespace: str
    name: str
    uid: str
    engine_model: str
    aliases: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ("openai", "v1", "v2")
    phase: ServicePhase = "Starting"
    message: str = ""
    revisions: tuple[RevisionRoute, ...] = ()
    created_at: float = 0.0
    timeout_s: float = 600.0
    hold_s: float = 120.0
    metrics_dialect: str = ""
    openai_prefix: str = "/v1"
    start_phase: StartPhase = ""
    start_expected_s: float = 0.0
    wakes: bool = True
    split_by: str = ""
    routing: RoutingRoute | None = None
    objectives: tuple[tuple[str, int], ...] = ()
    tokenizer: str = ""
    tag: str = ""


class RateLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Per minute, for the models that match `model` (`namespace/name` with `*` and `?`); 0 is no limit."""

    model: str = "*"
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class KeyHash(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """HMAC-SHA256 of a whole key in hex, and until when it is taken (Unix seconds, 0: for ever)."""

    hash: str
    expires_at: float = 0.0


class KeyRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ApiKey as the gateway sees it: `id` is the public part of the key, `models` are patterns over `namespace/name`.

    Several hashes hold while a key is being rotated. `tenant` names a TenantRoute of the same table, "" none. Its requests have
    `priority`, and may ask for up to `max_priority`; with `fairness_ids` they may say themselves on whose account they are.
    """

    id: str
    namespace: str
    name: str
    tenant: str = ""
    hashes: tuple[KeyHash, ...] = ()
    models: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ("*",)
    admin: bool = False
    explain: bool = False
    priority: int = 0
    max_priority: int = 0
    fairness_ids: bool = False
    limits: tuple[RateLimit, ...] = ()


class TenantRoute(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Tenant as the gateway sees it; its limits hold for all its keys together, and so does its `weight` among those who wait."""

    name: str
    weight: float = 1.0
    limits: tuple[RateLimit, ...] = ()


class RouteTable(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that the gateway needs to serve. `version` grows with each change and never repeats."""

    version: int
    services: tuple[ServiceRoute, ...] = ()
    keys: tuple[KeyRoute, ...] = ()
    tenants: tuple[TenantRoute, ...] = ()


class EndpointDemand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one endpoint does now (`streams`: requests under way) and has saved since the last report (`cached_tokens` of prompts)."""

    name: str
    streams: int = 0
    cached_tokens: int = 0


class SignalDemand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named judgement of answers (output drift, say) since the last report: of `total`, `exceeded` were beyond what it allows."""

    name: str
    exceeded: int = 0
    total: int = 0


class RevisionDemand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Demand on one revision since the last report: averages over `DemandReport.window_s`, counts within it.

    `requests` came; of those that `ended`, `failures` failed. A request that was tried again is one, and a failure, of each revision that
    it was sent to. `tokens_in_flight` are those of prompts under way, estimated, and what has been generated for them so far;
    `prompt_tokens` those of all prompts that came. `ttft` counts times from a request to the first byte of its answer, `itl` the mean time
    between the tokens of each stream that ended, both by LATENCY_BOUNDS_S; () where there were none. `wanted`: there are requests for it, or for which it would get a share, and it has no endpoint.
    """

    name: str
    in_flight: float = 0.0
    tokens_in_flight: float = 0.0
    prompt_tokens: float = 0.0
    requests: int = 0
    ended: int = 0
    failures: int = 0
    ttft: tuple[int, ...] = ()
    itl: tuple[int, ...] = ()
    endpoints: tuple[EndpointDemand, ...] = ()
    wanted: bool = False
    signals: tuple[SignalDemand, ...] = ()


class ServiceDemand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Demand on one service since the last report: averages over `DemandReport.window_s`, counts within it.

    `in_flight` holds those that wait too; `queue_wait_s` is how long the first of them has waited by now.
    """

    namespace: str
    name: str
    in_flight: float = 0.0
    waiting: int = 0
    requests: int = 0
    failures: int = 0
    wake: bool = False
    queue_wait_s: float = 0.0
    revisions: tuple[RevisionDemand, ...] = ()


class DemandReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one gateway worker saw. `at` is Unix time in seconds; `table_version` the RouteTable it serves from."""

    gateway: str
    at: float
    window_s: float
    table_version: int = 0
    services: tuple[ServiceDemand, ...] = ()
