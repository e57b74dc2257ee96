"""Everything that one gateway worker counts, and the sum over workers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from penstock.gateway.exchanged import Exchanged
from penstock.gateway.kv_index import Knowledge
from penstock.gateway.telemetry import names
from penstock.gateway.telemetry.series import Counter, Family, Histogram, Kind, Labels, gauge, merge, text

MAX_KEYS = 1000
"""API keys of which each has series of its own in one worker; the tokens of further ones are counted under `other`."""

HOLD_HELP = "How long requests waited for a first endpoint, whatever came of it"
TURN_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
HOLD_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)

Id = tuple[str, str]
_SERVICE = ("namespace", "service")
_PRIORITY = (*_SERVICE, "priority")
_ENDPOINT = ("namespace", "service", "endpoint", "state")
_INDEXED = ("namespace", "service", "endpoint")
_ROUTED = ("namespace", "service", "profile", "class")
GAUGES: dict[str, tuple[str, Labels]] = {
    "penstock_gateway_requests_in_flight": ("Requests under way", _SERVICE),
    "penstock_gateway_requests_waiting": ("Requests that wait for a first endpoint", _SERVICE),
    "penstock_gateway_requests_queued": ("Requests that wait for an endpoint with room, by priority", _PRIORITY),
    "penstock_gateway_connections": ("Clients that are connected", ()),
    "penstock_gateway_endpoint_state": ("1 for the state in which an endpoint is: closed, half_open, open or ejected, summed over workers", _ENDPOINT),
    "penstock_gateway_kv_index_confidence": ("How far the index of an endpoint's cache is believed, 0 to 1; the least of all workers", _INDEXED),
    "penstock_gateway_kv_index_accuracy": ("Of the tokens that the index or the engine said were cached, the share on which they agreed of late, 0 to 1; the least of all workers", _INDEXED),
    "penstock_gateway_kv_index_precise": ("1 where an endpoint's index is what its engine tells, without a gap, in every worker", _INDEXED),
    "penstock_gateway_kv_index_blocks": ("Blocks that an endpoint is taken to hold, summed over workers", _INDEXED),
    "penstock_gateway_gossip_gateways": ("Other gateways and workers that this one hears; the least of all workers", ()),
    "penstock_gateway_gossip_last_heard_timestamp_seconds": ("When the last new message of another gateway came, Unix time; the oldest of all workers, absent until one came", ()),
    "penstock_gateway_route_table_version": ("The oldest table that a worker serves from", ()),
    "penstock_gateway_workers": ("Workers that these numbers are the sum of", ()),
    "penstock_gateway_workers_unread": ("Workers that answered, but whose numbers have another layout, as there may be while a new release takes over", ()),
}  # fmt: skip


class Readings(Struct, frozen=True, kw_only=True):
    """What a worker does not count here but knows when it is asked.

    `queued` wait for room, by namespace, service and priority. `refused` is what the wire refused, by reason. `endpoint_states` is 1 by namespace, service, endpoint and the state in which it is;
    `openings` are those of circuits, by endpoint. `limit_faults` are by cause. `indexed` is what is known of caches by namespace, service
    and endpoint; `kv_events` are batches of what engines told of them, by outcome. `untokenized` are by reason. `warmings` are requests by
    which new endpoints were warmed, `remote_prompts` prompts that were to be computed elsewhere, by outcome.
    """

    in_flight: Mapping[Id, int] = {}
    waiting: Mapping[Id, int] = {}
    queued: Mapping[tuple[str, str, str], int] = {}
    connections: int = 0
    table_version: int = 0
    refused: Mapping[str, int] = {}
    log_lines_dropped: Mapping[str, int] = {}
    spans_dropped: Mapping[str, int] = {}
    endpoint_states: Mapping[tuple[str, str, str, str], int] = {}
    openings: Mapping[str, int] = {}
    limit_faults: Mapping[str, int] = {}
    gossip: Exchanged = Exchanged()
    indexed: Mapping[tuple[str, str, str], Knowledge] = {}
    kv_events: Mapping[str, int] = {}
    warmings: Mapping[str, int] = {}
    remote_prompts: Mapping[str, int] = {}
    untokenized: Mapping[str, int] = {}


class Telemetry:
    """All series of one gateway worker."""

    def __init__(self, *, latest_names: bool = False) -> None:
        """Zero. `latest_names`: the newer generation of OpenTelemetry's GenAI names, see `names`."""
        self.requests = Counter(
            "penstock_gateway_requests_total", "Requests by service and status", (*_SERVICE, "code")
        )
        self.refused = Counter("penstock_gateway_refused_total", "Requests refused, by reason", ("reason",))
        self.retries = Counter("penstock_gateway_retries_total", "Further attempts, by cause", ("cause",))
        self.bytes = Counter("penstock_gateway_response_bytes_total", "Body bytes passed on", _SERVICE)
        self.cancelled = Counter(
            "penstock_gateway_cancelled_total", "Requests whose client went away", _SERVICE
        )
        self.broken = Counter(
            "penstock_gateway_broken_total", "Answers that broke off after they had begun", _SERVICE
        )
        self.held = Histogram("penstock_gateway_hold_seconds", HOLD_HELP, _SERVICE, HOLD_S)
        self.streams = Counter("penstock_gateway_streams_total", "Streams that came to their end", _SERVICE)
        self.streams_without_usage = Counter(
            "penstock_gateway_streams_without_usage_total",
            "Streams that came to their end without telling their tokens",
            _SERVICE,
        )
        self.key_requests = Counter(
            "penstock_gateway_key_requests_total",
            "Requests by API key",
            ("tenant", "key"),
            max_rows=MAX_KEYS,
        )
        self.key_tokens = Counter(
            "penstock_gateway_key_tokens_total",
            "Tokens by API key, as the engine counts; input holds the cached ones too",
            ("tenant", "key", "type"),
            max_rows=3 * MAX_KEYS,
        )
        self._count_faults()
        self._count_routing()
        self._count_turns()
        self._count_gossip()
        generation = "latest" if latest_names else "stable"
        metrics = {p: m for p, m in names.METRICS.items() if m.generation in ("both", generation)}
        self.histograms = {p: _histogram(m) for p, m in metrics.items() if m.kind == "histogram"}
        self.counters = {
            p: Counter(m.prometheus, m.help, _labels(m)) for p, m in metrics.items() if m.kind == "counter"
        }

    def _count_faults(self) -> None:
        self.log_lines_dropped = Counter(
            "penstock_gateway_access_log_dropped_total",
            "Lines of the access log that were not written, by cause: buffer_full or write_failed",
            ("cause",),
        )
        self.spans_dropped = Counter(
            "penstock_gateway_spans_dropped_total",
            "Sampled spans that were not exported, by cause: buffer_full or export_failed",
            ("cause",),
        )
        self.openings = Counter(
            "penstock_gateway_circuit_openings_total",
            "Times that an endpoint's circuit was opened, after which it got no requests for a while",
            ("endpoint",),
        )
        self.limit_faults = Counter(
            "penstock_gateway_limit_faults_total",
            "What keeps limits from being exact, by cause: judged_alone (a request, while Redis was away), settlement_lost, "
            "worker_unheard or worker_malformed (what workers tell each other)",
            ("cause",),
        )

    def _count_routing(self) -> None:
        self.routed = Counter(
            "penstock_gateway_routed_total",
            "Requests by routing profile, class of prompt, and why they went where they went: again (it was sent elsewhere before), "
            "set_aside (the circuits of all endpoints were open), only (there was one endpoint), cold (none was taken to hold any of the "
            "prompt), cache (none held more of it), balance (one did, and had too much to do)",
            (*_ROUTED, "reason"),
        )
        self.routed_outcomes = Counter(
            "penstock_gateway_routed_outcomes_total",
            "Requests by routing profile, class of prompt, and how they ended: ok, error, cancelled or broken",
            (*_ROUTED, "outcome"),
        )
        self.routed_first_byte = Histogram(
            "penstock_gateway_routed_first_byte_seconds",
            "From request to the answer's first byte, of routed requests that went well",
            _ROUTED,
            names.FIRST_TOKEN_S,
        )
        self.routed_tokens = Counter(
            "penstock_gateway_routed_prompt_tokens_total",
            "Prompt tokens of answers that tell what was cached, by kind: prompt (all), predicted (in the index of the chosen endpoint), "
            "cached (as the engine says), agreed (of each request the lesser of the two), forgone (expected at another endpoint beyond what "
            "was expected at the chosen one: the price of balance)",
            (*_ROUTED, "kind"),
        )
        self.profiles_withdrawn = Counter(
            "penstock_gateway_profile_withdrawn_total",
            "Routing profiles that were tried and found to be worse, so that they get no more requests of this worker",
            ("namespace", "service", "profile"),
        )
        self.warmings = Counter(
            "penstock_gateway_warming_requests_total",
            "Requests by which new endpoints computed beginnings of prompts before they took others, by outcome",
            ("outcome",),
        )
        self.remote_prompts = Counter(
            "penstock_gateway_remote_prompts_total",
            "Prompts that were to be computed by another endpoint than the one that answers, by outcome: computed, or why not",
            ("outcome",),
        )
        self.kv_events = Counter(
            "penstock_gateway_kv_event_batches_total",
            "Batches of KV events that engines published, by what became of them",
            ("outcome",),
        )
        self.untokenized = Counter(
            "penstock_gateway_untokenized_total",
            "Prompts that went without being tokenized though their model's tokenizer is here, by reason (busy, late, refused), and tokenizers "
            "that were given up for a while, so that prompts are hashed as text (disagrees, hits_fail, slow, died, or the error of loading it)",
            ("reason",),
        )

    def _count_turns(self) -> None:
        self.turns = Counter(
            "penstock_gateway_turns_total",
            "Requests that found all endpoints full, by priority and what became of them: let_through, cancelled, priority_full, "
            "priority_bytes_full, queue_full, displaced, waited_too_long or deadline_passed",
            (*_PRIORITY, "outcome"),
        )
        self.turn_wait = Histogram(
            "penstock_gateway_turn_wait_seconds",
            "How long requests waited for an endpoint with room, whatever came of it",
            _PRIORITY,
            TURN_S,
        )

    def _count_gossip(self) -> None:
        self.gossip_messages = Counter(
            "penstock_gateway_gossip_messages_total",
            "Messages by which gateways and workers tell each other what they sent where, by direction: sent or heard",
            ("direction",),
        )
        self.gossip_bytes = Counter(
            "penstock_gateway_gossip_bytes_total",
            "Bytes of these messages, by direction: sent (once, however many hear it) or heard",
            ("direction",),
        )
        self.gossip_dropped = Counter(
            "penstock_gateway_gossip_dropped_total",
            "What was not told or not taken, by cause: pushed_out (chains that made room for newer ones before they were told), stale (messages "
            "that came late or twice), unknown (counts and chains of endpoints that are not known here), malformed (messages)",
            ("cause",),
        )

    @property
    def series(self) -> list[Counter | Histogram]:
        """Every counter and histogram."""
        own = [found for found in vars(self).values() if isinstance(found, Counter | Histogram)]
        return [*self.histograms.values(), *self.counters.values(), *own]

    def snapshot(self, readings: Readings) -> bytes:
        """All of it as MessagePack, for `total` in this worker or another."""
        further = {
            self.refused.name: readings.refused,
            self.log_lines_dropped.name: readings.log_lines_dropped,
            self.spans_dropped.name: readings.spans_dropped,
            self.openings.name: readings.openings,
            self.limit_faults.name: readings.limit_faults,
            self.gossip_messages.name: readings.gossip.messages,
            self.gossip_bytes.name: readings.gossip.bytes,
            self.gossip_dropped.name: readings.gossip.dropped,
            self.kv_events.name: readings.kv_events,
            self.warmings.name: readings.warmings,
            self.remote_prompts.name: readings.remote_prompts,
            self.untokenized.name: readings.untokenized,
        }
        families = []
        for found in self.series:
            if isinstance(found, Counter):
                families.append(found.family({(k,): v for k, v in further.get(found.name, {}).items()}))
            else:
                families.append(found.family())
        return msgspec.msgpack.encode([*families, *_gauges(readings)])


def total(own: bytes, others: Iterable[bytes] = (), *, openmetrics: bool = False) -> str:
    """The sum over workers in Prometheus' text format, or in OpenMetrics with exemplars.

    `others` are what `snapshot` gave in other workers. One of another layout cannot be added up: it is left out and told.
    """
    present = _DECODER.decode(own)
    layout, read, unread = _layout(present), [present], 0
    for other in others:
        try:
            families = _DECODER.decode(other)
        except msgspec.DecodeError:
            families = ()
        if _layout(families) == layout:
            read.append(families)
        else:
            unread += 1
    name = "penstock_gateway_workers_unread"
    return text([*merge(read), gauge(name, *GAUGES[name], [((), unread)])], openmetrics=openmetrics)


_DECODER = msgspec.msgpack.Decoder(tuple[Family, ...])


def _layout(families: Iterable[Family]) -> list[tuple[object, ...]]:
    return [(family.name, family.kind, family.labels, family.buckets) for family in families]


def _gauges(readings: Readings) -> list[Family]:
    values: dict[str, Iterable[tuple[Labels, float]]] = {
        "requests_in_flight": readings.in_flight.items(),
        "requests_waiting": readings.waiting.items(),
        "requests_queued": readings.queued.items(),
        "connections": [((), readings.connections)],
        "endpoint_state": readings.endpoint_states.items(),
        "workers": [((), 1)],
    }
    families = []
    for short, found in values.items():
        name = f"penstock_gateway_{short}"
        families.append(gauge(name, *GAUGES[name], found))
    families += _indexed(readings.indexed)
    heard: dict[str, list[tuple[Labels, float]]] = {
        "gateways": [((), readings.gossip.gateways)],
        "last_heard_timestamp_seconds": [((), readings.gossip.heard_at)] if readings.gossip.heard_at else [],
    }
    for short, found in heard.items():
        name = f"penstock_gateway_gossip_{short}"
        families.append(gauge(name, *GAUGES[name], found, kind="gauge_min"))
    name = "penstock_gateway_route_table_version"
    return [*families, gauge(name, *GAUGES[name], [((), readings.table_version)], kind="gauge_min")]


def _indexed(known: Mapping[tuple[str, str, str], Knowledge]) -> list[Family]:
    values: dict[str, tuple[Kind, list[tuple[Labels, float]]]] = {
        "confidence": ("gauge_min", [(key, one.trust.confidence) for key, one in known.items()]),
        "accuracy": ("gauge_min", [(key, one.trust.accuracy) for key, one in known.items()]),
        "precise": ("gauge_min", [(key, float(one.is_precise)) for key, one in known.items()]),
        "blocks": ("gauge", [(key, float(one.blocks)) for key, one in known.items()]),
    }
    families = []
    for short, (kind, found) in values.items():
        name = f"penstock_gateway_kv_index_{short}"
        families.append(gauge(name, *GAUGES[name], found, kind=kind))
    return families


def _histogram(metric: names.Metric) -> Histogram:
    return Histogram(metric.prometheus, metric.help, _labels(metric), metric.buckets)


def _labels(metric: names.Metric) -> Labels:
    return tuple(names.prometheus(label) for label in metric.labels)
