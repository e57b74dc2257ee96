"""Objectives are told with the service that they are for."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.objectives import objectives_of, with_objectives
from penstock.resources.objective import InferenceObjective


def objective(name: str, pool: str, namespace: str = "team", **metadata: Any) -> InferenceObjective:
    document = {
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"poolRef": {"name": pool}, "priority": 4},
    }
    return msgspec.convert(document, InferenceObjective)


def told(*objectives: InferenceObjective, name: str = "chat") -> tuple[tuple[str, int], ...]:
    route = ServiceRoute(namespace="team", name=name, uid="u", engine_model="m")
    return with_objectives(route, objectives_of(objectives)).objectives


def test_a_service_is_told_of_those_that_refer_to_it_or_to_its_pool() -> None:
    found = told(objective("b", "chat"), objective("a", "chat-inference-pool"), objective("c", "other"))
    assert found == (("a", 4), ("b", 4))


def test_neither_those_of_other_namespaces_count_nor_those_that_go() -> None:
    gone = objective("b", "chat", deletionTimestamp="2026-01-01T00:00:00Z")
    assert told(objective("a", "chat", "elsewhere"), gone) == ()


def test_without_a_priority_it_is_zero() -> None:
    document = {"metadata": {"name": "a", "namespace": "team"}, "spec": {"poolRef": {"name": "chat"}}}
    assert told(msgspec.convert(document, InferenceObjective)) == (("a", 0),)
