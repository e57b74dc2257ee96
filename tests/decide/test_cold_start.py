"""How long does a start take, and in which phase is a pod?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.cold_start import KEPT, after_start, phase_of
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import ColdStart

PROBE = {"httpGet": {"path": "/ready", "port": 8080}}
TRUE, FALSE = "True", "False"


def pod(
    *, node: str = "n", probe: bool = False, started: bool = False, phase: str = "Pending", **conditions: str
) -> Pod:
    container: dict[str, Any] = {"name": "c", "image": "i"} | ({"startupProbe": PROBE} if probe else {})
    state = {"name": "c", "image": "i", "ready": False, "restartCount": 0, "started": started}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": node, "containers": [container]},
        "status": {
            "phase": phase,
            "conditions": [{"type": kind, "status": status} for kind, status in conditions.items()],
            "containerStatuses": [state],
        },
    }
    return msgspec.convert(document, Pod)


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        (pod(node=""), "placing"),
        (pod(Initialized=FALSE), "downloading"),
        (pod(Initialized=TRUE, probe=True), "loading"),
        (pod(Initialized=TRUE, probe=True, started=True, Ready=FALSE), "warming"),
        (pod(Initialized=TRUE, started=True, Ready=FALSE), "loading"),
        (pod(Initialized=TRUE, started=True, Ready=TRUE), None),
        (pod(Initialized=TRUE, phase="Failed"), None),
    ],
)
def test_the_phase_follows_from_the_status_alone(seen: Pod, phase: str | None) -> None:
    assert phase_of(seen) == phase


def test_the_first_start_is_what_is_expected_next() -> None:
    known = after_start(None, "p-1", {"placing": 0.1, "downloading": 2.0, "loading": 5.25})
    assert (known.total_s, known.expected_s, known.warming_s, known.last_pod) == (7.35, 7.35, 0.0, "p-1")


def test_one_slow_start_of_sixteen_is_not_what_is_expected() -> None:
    known: ColdStart | None = None
    for index in range(KEPT):
        known = after_start(known, f"p-{index}", {"loading": 60.0 if index == 3 else 5.0})
    assert known is not None
    assert known.expected_s == 5.0


def test_a_download_that_was_needed_once_is_not_expected_again() -> None:
    first = after_start(None, "p-1", {"downloading": 90.0, "loading": 5.0})
    second = after_start(first, "p-2", {"downloading": 0.2, "loading": 4.0})
    assert (first.expected_s, second.expected_s) == (95.0, 5.2)


@given(st.lists(st.floats(0, 1e4).map(lambda value: round(value, 3)), min_size=1, max_size=40))
def test_the_expectation_is_one_of_the_last_starts_and_their_number_is_bounded(seconds: list[float]) -> None:
    known: ColdStart | None = None
    for value in seconds:
        known = after_start(known, "p", {"loading": value})
    assert known is not None
    assert known.expected_s in known.totals_s
    assert len(known.totals_s) == min(len(seconds), KEPT)
    assert sum(value > known.expected_s for value in known.totals_s) <= len(known.totals_s) * 0.1
