"""Everything that one gateway worker counts, and the sum over workers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from penstock.gateway.telemetry import names
from penstock.gateway.telemetry.series import Counter, Family, Histogram, Labels, gauge, merge, text

MAX_KEYS = 1000
"""API keys of which each has series of its own in one worker; the tokens of further ones are counted under `other`."""

HOLD_HELP = "How long requests waited for a first endpoint, whatever came of it"
HOLD_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)

Id = tuple[str, str]
_SERVICE = ("namespace", "service")
_ENDPOINT = ("namespace", "service", "endpoint", "state")
GAUGES: dict[str, tuple[str, Labels]] = {
    "penstock_gateway_requests_in_flight": ("Requests under way", _SERVICE),
    "penstock_gateway_requests_waiting": ("Requests that wait for a first endpoint", _SERVICE),
    "penstock_gateway_connections": ("Clients that are connected", ()),
    "penstock_gateway_endpoint_state": ("1 for the state in which an endpoint is: closed, half_open, open or ejected, summed over workers", _ENDPOINT),
    "penstock_gateway_route_table_version": ("The oldest table that a worker serves from", ()),
    "penstock_gateway_workers": ("Workers that these numbers are the sum of", ()),
    "penstock_gateway_workers_unread": ("Workers that answered, but whose numbers have another layout, as there may be while a new release takes over", ()),
}  # fmt: skip


class Readings(Struct, frozen=True, kw_only=True):
    """What a worker does not count here but knows when it is asked.

    `refused` is what the wire refused, by reason. `endpoint_states` is 1 by namespace, service, endpoint and the state in which it is;
    `openings` are those of circuits, by endpoint. `limit_faults` are by cause.
    """

    in_flight: Mapping[Id, int] = {}
    waiting: Mapping[Id, int] = {}
    connections: int = 0
    table_version: int = 0
    refused: Mapping[str, int] = {}
    log_lines_dropped: Mapping[str, int] = {}
    spans_dropped: Mapping[str, int] = {}
    endpoint_states: Mapping[tuple[str, str, str, str], int] = {}
    openings: Mapping[str, int] = {}
    limit_faults: Mapping[str, int] = {}


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
        generation = "latest" if latest_names else "stable"
        metrics = {p: m for p, m in names.METRICS.items() if m.generation in ("both", generation)}
        self.histograms = {p: _histogram(m) for p, m in metrics.items() if m.kind == "histogram"}
        self.counters = {
            p: Counter(m.prometheus, m.help, _labels(m)) for p, m in metrics.items() if m.kind == "counter"
        }

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
        "connections": [((), readings.connections)],
        "endpoint_state": readings.endpoint_states.items(),
        "workers": [((), 1)],
    }
    families = []
    for short, found in values.items():
        name = f"penstock_gateway_{short}"
        families.append(gauge(name, *GAUGES[name], found))
    name = "penstock_gateway_route_table_version"
    return [*families, gauge(name, *GAUGES[name], [((), readings.table_version)], kind="gauge_min")]


def _histogram(metric: names.Metric) -> Histogram:
    return Histogram(metric.prometheus, metric.help, _labels(metric), metric.buckets)


def _labels(metric: names.Metric) -> Labels:
    return tuple(names.prometheus(label) for label in metric.labels)
