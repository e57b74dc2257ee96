"""What the gateway measures. Counting is cheap enough for every request; text is made only when somebody asks for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
Labels = tuple[str, ...]


class Counter:
    """Counts by label values."""

    def __init__(self, name: str, help: str, labels: Labels) -> None:
        """`name` ends in `_total`."""
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        """One more, or `by` more."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def lines(self) -> Iterable[str]:
        """Prometheus' text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} counter"
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_braces(self.labels, labels)} {value:g}"


class Histogram:
    """Seconds by label values."""

    def __init__(self, name: str, help: str, labels: Labels) -> None:
        """`name` ends in `_seconds`."""
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, list[float]] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        """One measurement."""
        row = self.values.get(labels)
        if row is None:
            row = self.values[labels] = [0.0] * (len(BUCKETS_S) + 2)
        row[bisect_left(BUCKETS_S, seconds)] += 1
        row[-1] += seconds

    def lines(self) -> Iterable[str]:
        """Prometheus' text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        for labels, row in sorted(self.values.items()):
            total = 0.0
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), row[:-1], strict=True):
                total += count
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*labels, bound))} {total:g}"
            yield f"{self.name}_sum{_braces(self.labels, labels)} {row[-1]:.6f}"
            yield f"{self.name}_count{_braces(self.labels, labels)} {total:g}"


class Telemetry:
    """All series of one gateway."""

    def __init__(self) -> None:
        """Zero."""
        service = ("namespace", "service")
        self.requests = Counter(
            "penstock_gateway_requests_total", "Requests by service and status", (*service, "code")
        )
        self.refused = Counter("penstock_gateway_refused_total", "Requests refused, by reason", ("reason",))
        self.retries = Counter("penstock_gateway_retries_total", "Further attempts, by cause", ("cause",))
        self.bytes = Counter("penstock_gateway_response_bytes_total", "Body bytes passed on", service)
        self.cancelled = Counter(
            "penstock_gateway_cancelled_total", "Requests whose client went away", service
        )
        self.first_byte = Histogram(
            "penstock_gateway_time_to_first_byte_seconds", "From request to the answer's first byte", service
        )
        self.duration = Histogram("penstock_gateway_request_duration_seconds", "From request to end", service)

    def text(
        self,
        in_flight: Mapping[tuple[str, str], int],
        waiting: Mapping[tuple[str, str], int],
        connections: int,
        version: int,
        refused: Mapping[str, int],
    ) -> str:
        """Everything in Prometheus' text format; `refused` are those that the wire refused."""
        lines: list[str] = []
        for series in (
            self.requests,
            self.retries,
            self.bytes,
            self.cancelled,
            self.first_byte,
            self.duration,
        ):
            lines.extend(series.lines())
        lines.extend(self.refused.lines())
        lines.extend(f'{self.refused.name}{{reason="{k}"}} {v}' for k, v in sorted(refused.items()))
        for name, values in (("in_flight", in_flight), ("waiting", waiting)):
            lines.append(f"# TYPE penstock_gateway_requests_{name} gauge")
            for key, count in sorted(values.items()):
                lines.append(
                    f"penstock_gateway_requests_{name}{_braces(('namespace', 'service'), key)} {count}"
                )
        lines.append("# TYPE penstock_gateway_connections gauge")
        lines.append(f"penstock_gateway_connections {connections}")
        lines.append("# TYPE penstock_gateway_route_table_version gauge")
        lines.append(f"penstock_gateway_route_table_version {version}")
        return "\n".join(lines) + "\n"


def _braces(names: Labels, values: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
