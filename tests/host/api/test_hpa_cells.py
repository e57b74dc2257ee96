"""An autoscaler's targets in a cell, as kubectl's users know them."""

from typing import Any

import pytest

from penstock.host.api.hpa_cells import hpa_targets

CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}
MEMORY = {
    "type": "ContainerResource",
    "containerResource": {
        "name": "memory",
        "container": "main",
        "target": {"type": "AverageValue", "averageValue": "1Gi"},
    },
}


def outside(**target: Any) -> dict[str, Any]:
    return {"type": "External", "external": {"metric": {"name": "q"}, "target": target}}


PODS = {
    "type": "Pods",
    "pods": {"metric": {"name": "r"}, "target": {"type": "AverageValue", "averageValue": "5"}},
}


def read(kind: str, **current: Any) -> dict[str, Any]:
    return {"type": kind[:1].upper() + kind[1:], kind: {"current": current}}


@pytest.mark.parametrize(
    ("metrics", "readings", "text"),
    [
        ([CPU], [], "cpu: <unknown>/60%"),
        ([CPU], [read("resource", averageUtilization=0)], "cpu: 0%/60%"),
        ([MEMORY], [read("containerResource", averageValue="200Mi")], "memory: 200Mi/1Gi"),
        ([outside(value="10")], [read("external", value="7")], "7/10"),
        ([outside(averageValue="10")], [read("external", averageValue="7500m")], "7500m/10 (avg)"),
        ([PODS], [read("pods", averageValue="4")], "4/5"),
        (
            [outside(value="10"), CPU],
            [{"type": ""}, read("resource", averageUtilization=9)],
            "<unknown>/10, cpu: 9%/60%",
        ),
        ([CPU, PODS, PODS, PODS], [], "cpu: <unknown>/60%, <unknown>/5 + 2 more..."),
        ([], [], "cpu: <unknown>/80%"),
    ],
)
def test_targets(metrics: list[Any], readings: list[Any], text: str) -> None:
    document = {"spec": {"metrics": metrics}, "status": {"currentMetrics": readings}}
    assert hpa_targets(document, 0.0) == text
