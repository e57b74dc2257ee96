"""The rabbitmq trigger before a real RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from event_sources import Rabbit
from free_ports import free_port
from penstock.contracts.trigger import Opening, Reading
from penstock.kit.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    PlatformError,
    Unauthorized,
    Unavailable,
)
from penstock.plugins.triggers.rabbitmq import Queue, RabbitTrigger, _measured, open_trigger

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(rabbitmq: Rabbit) -> Rabbit:
    rabbitmq.declare("orders.new")
    rabbitmq.publish("orders.new", 7)
    rabbitmq.declare("orders.old")
    rabbitmq.publish("orders.old", 2)
    rabbitmq.declare("empty")
    until_counted(rabbitmq)
    return rabbitmq


def until_counted(running: Rabbit) -> None:
    """The management API learns of a queue some seconds late."""
    deadline = time.monotonic() + 60
    counts: dict[str, object] = {}
    while time.monotonic() < deadline:
        counts = {queue["name"]: queue.get("messages") for queue in running.call("GET", "queues").json()}
        if counts.items() >= {"orders.new": 7, "orders.old": 2, "empty": 0}.items():
            return
        time.sleep(0.2)
    pytest.fail(f"the management API says {counts}")


def opening(metadata: dict[str, str], **fields: object) -> Opening:
    given = {"timeout_s": 30.0, **fields}
    return Opening(
        type="rabbitmq", namespace="default", metadata=metadata, now=time.time, demand=None, **given
    )


async def read(**metadata: str) -> Reading:
    trigger = open_trigger(opening(metadata))
    try:
        return await trigger.read()
    finally:
        await trigger.close()


@pytest.fixture(params=["amqp", "http"])
async def trigger(request: pytest.FixtureRequest, server: Rabbit) -> AsyncIterator[RabbitTrigger]:
    host = server.amqp_url if request.param == "amqp" else server.http_url
    opened = open_trigger(
        opening({"host": host, "queueName": "orders.new", "value": "3", "activationValue": "6"})
    )
    yield opened
    await opened.close()


async def test_messages_that_wait_are_the_metric_over_both_protocols(trigger: RabbitTrigger) -> None:
    assert trigger.metric == "rabbitmq-orders.new"
    assert trigger.target == 3.0
    for _ in range(3):
        assert await trigger.read() == Reading(value=7.0, active=True)


@pytest.mark.parametrize("queue", ["empty", "orders.old"])
async def test_a_queue_is_active_only_above_its_threshold(server: Rabbit, queue: str) -> None:
    for host in (server.amqp_url, server.http_url):
        assert not (await read(host=host, queueName=queue, activationValue="2")).active


async def test_a_queue_that_is_not_there_is_an_error_not_zero(server: Rabbit) -> None:
    for host in (server.amqp_url, server.http_url):
        with pytest.raises(NotFound, match="no queue missing"):
            await read(host=host, queueName="missing")


async def test_wrong_credentials_are_told_without_showing_them(server: Rabbit) -> None:
    for url in (server.amqp_url, server.http_url):
        with pytest.raises(Unauthorized) as caught:
            await read(host=url.replace("guest:guest", "guest:hunter2"), queueName="empty")
        assert "hunter2" not in str(caught.value)


async def test_credentials_of_the_authentication_come_before_those_of_the_host(server: Rabbit) -> None:
    for url in (server.amqp_url, server.http_url):
        metadata = {"queueName": "empty"}
        secrets = {"host": url.replace("guest:guest", "no:body"), "username": "guest", "password": "guest"}
        trigger = open_trigger(opening(metadata, secrets=secrets))
        assert (await trigger.read()).value == 0.0
        await trigger.close()


async def test_the_host_may_come_from_a_variable_of_the_container(server: Rabbit) -> None:
    metadata = {"hostFromEnv": "RABBIT", "queueName": "orders.new"}
    trigger = open_trigger(opening(metadata, environment={"RABBIT": server.amqp_url}))
    assert (await trigger.read()).value == 7.0
    await trigger.close()


@pytest.mark.parametrize(("operation", "value"), [("sum", 9.0), ("max", 7.0), ("avg", 4.5)])
async def test_a_pattern_makes_one_number_of_several_queues(
    server: Rabbit, operation: str, value: float
) -> None:
    found = await read(host=server.http_url, queueName="^orders", useRegex="true", operation=operation)
    assert found == Reading(value=value, active=True)


async def test_a_pattern_that_matches_more_than_a_page_is_an_error(server: Rabbit) -> None:
    with pytest.raises(InvalidInput, match="more queues than pageSize"):
        await read(host=server.http_url, queueName="orders", useRegex="true", pageSize="1")


async def test_a_virtual_host_that_is_not_there_is_an_error(server: Rabbit) -> None:
    for host in (server.amqp_url, server.http_url):
        with pytest.raises(PlatformError):
            await read(host=f"{host}nowhere", queueName="empty")


async def test_a_server_that_is_down_cannot_be_asked() -> None:
    port = free_port()
    for scheme in ("amqp", "http"):
        with pytest.raises(Unavailable, match="cannot be asked") as caught:
            await read(host=f"{scheme}://guest:hunter2@127.0.0.1:{port}/", queueName="empty")
        assert "hunter2" not in str(caught.value)


async def test_a_server_that_speaks_something_else_is_given_up_in_time(server: Rabbit) -> None:
    metadata = {"host": f"amqp://guest:guest@127.0.0.1:{server.management}/", "queueName": "empty"}
    trigger = open_trigger(opening(metadata, timeout_s=1.0))
    started = time.monotonic()
    with pytest.raises((DeadlineExceeded, Unavailable)):
        await trigger.read()
    assert time.monotonic() - started < 20
    await trigger.close()


async def test_tls_is_spoken_and_the_server_s_certificate_verified(server: Rabbit) -> None:
    metadata = {"host": server.amqps_url, "queueName": "orders.new"}
    trusting = open_trigger(opening(metadata, secrets={"ca": server.ca}))
    assert (await trusting.read()).value == 7.0
    await trusting.close()
    careless = open_trigger(opening(metadata | {"unsafeSsl": "true"}))
    assert (await careless.read()).value == 7.0
    await careless.close()
    with pytest.raises(Unavailable, match="cannot be asked"):
        await read(**metadata)


async def test_a_broken_connection_is_made_anew(server: Rabbit) -> None:
    trigger = open_trigger(opening({"host": server.amqp_url, "queueName": "orders.new"}))
    assert (await trigger.read()).value == 7.0
    connection = trigger._way._connection  # type: ignore[attr-defined]
    await connection.close()
    assert (await trigger.read()).value == 7.0
    await trigger.close()


def test_metadata_that_cannot_work_is_refused() -> None:
    good = {"host": "amqp://127.0.0.1/", "queueName": "q"}
    for wrong, said in [
        ({"host": "ftp://127.0.0.1/"}, "no address"),
        ({"host": "amqp://hunter2@:x/"}, "no address"),
        ({"mode": "MessageRate"}, "needs the management API"),
        ({"useRegex": "true"}, "needs the management API"),
        ({"excludeUnacknowledged": "true"}, "needs the management API"),
        ({"protocol": "http"}, "does not fit"),
        ({"queueLength": "5", "value": "5"}, "deprecated"),
    ]:
        with pytest.raises(InvalidInput, match=said) as caught:
            open_trigger(opening(good | wrong))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidInput, match="given together"):
        open_trigger(opening(good, secrets={"username": "a"}))
    assert open_trigger(opening(good | {"queueLength": "5"})).target == 5.0


@pytest.mark.parametrize(
    ("mode", "queue", "value", "called"),
    [
        ("QueueLength", Queue(7, 1, 1), 7, False),
        ("MessageRate", Queue(7, 3, 1), 3, True),
        ("MessageRate", Queue(0, 3, 1), 3, False),
        ("DeliverGetRate", Queue(7, 3, 2), 2, False),
        ("PublishedToDeliveredRatio", Queue(7, 3, 2), 1.5, False),
        ("PublishedToDeliveredRatio", Queue(7, 3, 0), 1, True),
        ("PublishedToDeliveredRatio", Queue(7, 0, 2), 0, False),
        ("ExpectedQueueConsumptionTime", Queue(20, 5, 10), 1.5, False),
        ("ExpectedQueueConsumptionTime", Queue(20, 5, 0), 1, True),
        ("ExpectedQueueConsumptionTime", Queue(0, 0, 0), 0, False),
    ],
)
def test_what_a_mode_makes_of_a_queue(mode: str, queue: Queue, value: float, called: bool) -> None:
    assert _measured(queue, mode, 1.0) == (value, called)


async def test_reads_at_the_same_time_share_one_connection(server: Rabbit) -> None:
    trigger = open_trigger(opening({"host": server.amqp_url, "queueName": "orders.new"}))
    found = await asyncio.gather(*(trigger.read() for _ in range(8)))
    assert {reading.value for reading in found} == {7.0}
    await trigger.close()  # a connection that was forgotten would warn here
