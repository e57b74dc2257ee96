"""What every trigger keeps to."""

from __future__ import annotations

import inspect

import pytest

from penstock.app.registry import trigger_plugin, trigger_types
from penstock.contracts.trigger import Opening, Reading
from penstock.kit.errors import InvalidInput, NotFound, Unavailable
from penstock.resources.keda import RESOURCE_TRIGGERS
from penstock.resources.triggers import WORDS

GOOD = {
    "rabbitmq": {"host": "amqp://127.0.0.1/", "queueName": "jobs"},
    "redis": {"address": "127.0.0.1:6379", "listName": "jobs"},
    "prometheus": {"serverAddress": "http://127.0.0.1:9090", "query": "up", "threshold": "3"},
    "cron": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "2"},
    "penstock-demand": {"inferenceService": "llm", "threshold": "3"},
}


def opening(type_: str, metadata: dict[str, str], demand: object = None) -> Opening:
    return Opening(type=type_, namespace="default", metadata=metadata, now=lambda: 1e9, demand=demand)


def test_every_type_that_admission_knows_has_a_plugin_and_the_other_way_round() -> None:
    assert {*trigger_types()} == {*WORDS} - {*RESOURCE_TRIGGERS} == {*GOOD}


def test_a_type_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInput) as caught:
        trigger_plugin("rabitmq")
    assert caught.value.hint == "did you mean rabbitmq?"


@pytest.mark.parametrize("type_", sorted(GOOD))
async def test_a_trigger_opens_without_asking_anybody_and_closes_unread_and_twice(type_: str) -> None:
    trigger = trigger_plugin(type_).open_trigger(opening(type_, GOOD[type_]))
    assert trigger.metric.startswith(type_)
    assert trigger.target > 0
    assert inspect.iscoroutinefunction(trigger.read)
    await trigger.close()
    await trigger.close()


@pytest.mark.parametrize(
    ("type_", "word"), [(type_, word.name) for type_ in GOOD for word in WORDS[type_] if word.required]
)
def test_a_word_without_which_nothing_can_be_done_is_named(type_: str, word: str) -> None:
    metadata = {key: value for key, value in GOOD[type_].items() if key != word}
    with pytest.raises(InvalidInput, match=word):
        trigger_plugin(type_).open_trigger(opening(type_, metadata))


@pytest.mark.parametrize("metric", ["concurrency", "rps", "waiting"])
async def test_our_own_demand_is_asked_for_by_service_and_metric(metric: str) -> None:
    asked: list[tuple[str, str, str]] = []

    def demand(namespace: str, name: str, what: str) -> float:
        asked.append((namespace, name, what))
        return 4.0

    plugin = trigger_plugin("penstock-demand")
    metadata = GOOD["penstock-demand"] | {"metric": metric, "namespace": "team", "activationThreshold": "4"}
    assert await plugin.open_trigger(opening("penstock-demand", metadata, demand)).read() == Reading(
        value=4.0, active=False
    )
    assert asked == [("team", "llm", metric)]


@pytest.mark.parametrize("error", [NotFound("no such service"), Unavailable("no reports")])
async def test_demand_that_is_not_known_is_an_error(error: Exception) -> None:
    def demand(namespace: str, name: str, what: str) -> float:
        raise error

    plugin = trigger_plugin("penstock-demand")
    with pytest.raises(type(error)):
        await plugin.open_trigger(opening("penstock-demand", GOOD["penstock-demand"], demand)).read()
