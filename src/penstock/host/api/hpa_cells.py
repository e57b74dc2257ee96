"""An autoscaler's TARGETS, as kubectl shows them: each metric as last read, and what it is to be."""

from __future__ import annotations

from typing import Any

from penstock.host.metadata import Document

SHOWN = 2
UNKNOWN = "<unknown>"
DEFAULT = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


def hpa_targets(document: Document, now_s: float) -> str:
    """`cpu: 12%/80%`, of two metrics at most. Readings stand in the same places as their metrics."""
    metrics = (document.get("spec") or {}).get("metrics") or [DEFAULT]
    readings = (document.get("status") or {}).get("currentMetrics") or []
    cells = [
        _target(metric, readings[i] if i < len(readings) else {}) for i, metric in enumerate(metrics[:SHOWN])
    ]
    text = ", ".join(cells)
    return f"{text} + {len(metrics) - SHOWN} more..." if len(metrics) > SHOWN else text


def _target(metric: dict[str, Any], reading: dict[str, Any]) -> str:
    type_ = metric.get("type", "")
    field = type_[:1].lower() + type_[1:]
    source, seen = metric.get(field) or {}, (reading.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    if type_ in ("Resource", "ContainerResource"):
        if "averageUtilization" in target:
            use = seen.get("averageUtilization")
            now = UNKNOWN if use is None else f"{use}%"
            return f"{source.get('name')}: {now}/{target['averageUtilization']}%"
        return f"{source.get('name')}: {seen.get('averageValue', UNKNOWN)}/{target.get('averageValue')}"
    if "averageValue" in target:
        mean = "" if type_ == "Pods" else " (avg)"
        return f"{seen.get('averageValue', UNKNOWN)}/{target['averageValue']}{mean}"
    return f"{seen.get('value', UNKNOWN)}/{target.get('value')}"
