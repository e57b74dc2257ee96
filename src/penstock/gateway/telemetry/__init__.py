"""What the gateway measures: series, traces and the access log."""

from penstock.gateway.telemetry.metrics import Telemetry

__all__ = ["Telemetry"]
