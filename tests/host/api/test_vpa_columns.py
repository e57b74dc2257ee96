"""The columns of a vertical autoscaler, as kubectl's users know them."""

from typing import Any

import pytest

from penstock.host.api.columns import columns_of
from penstock.resources.scheme import kind_of
from penstock.resources.vpa import VerticalPodAutoscaler

RECOMMENDED = {
    "conditions": [{"type": "RecommendationProvided", "status": "True"}],
    "recommendation": {
        "containerRecommendations": [
            {"containerName": "main", "target": {"cpu": "250m", "memory": "262144k"}},
            {"containerName": "side", "target": {"cpu": "1"}},
        ]
    },
}


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({}, {}, ("Auto", "", "", "")),
        ({"updatePolicy": {"updateMode": "Off"}}, RECOMMENDED, ("Off", "250m", "262144k", "True")),
    ],
)
def test_mode_and_what_the_first_container_should_request_are_shown(
    spec: dict[str, Any], status: dict[str, Any], cells: tuple[str, ...]
) -> None:
    document = {"metadata": {"name": "web"}, "spec": spec, "status": status}
    shown = {column.name: column.cell(document, 0.0) for column in columns_of(kind_of(VerticalPodAutoscaler))}
    assert tuple(shown[name] for name in ("Mode", "CPU", "Mem", "Provided")) == cells
