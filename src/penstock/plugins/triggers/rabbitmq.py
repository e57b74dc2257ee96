"""`rabbitmq`: what waits in a queue, or how fast it moves, over AMQP or the management API (KEDA's rabbitmq scaler)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, quote_plus, unquote, urlsplit

import httpx
from aiormq import Connection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ConnectionNotAllowed,
    ProbableAuthenticationError,
)
from msgspec import Struct
from yarl import URL

from penstock.contracts.trigger import Opening, Reading
from penstock.kit.ask import ask_json, tls_context
from penstock.kit.errors import DeadlineExceeded, Forbidden, InvalidInput, NotFound, Unauthorized, Unavailable

WHAT = "the RabbitMQ server"
LENGTH, PUBLISHED, DELIVERED = "QueueLength", "MessageRate", "DeliverGetRate"
RATIO, TIME = "PublishedToDeliveredRatio", "ExpectedQueueConsumptionTime"
PORTS = {"amqp": 5672, "amqps": 5671}
_OPERATIONS: Mapping[str, Callable[[list[float]], float]] = {"sum": sum, "avg": fmean, "max": max}


class Queue(Struct, frozen=True):
    """One queue, or several as one. Rates are per second."""

    messages: float
    publish_rate: float = 0.0
    deliver_rate: float = 0.0


class Way(Protocol):
    """How the queue is looked at."""

    async def look(self) -> Queue:
        """The queue now."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def open_trigger(opening: Opening) -> RabbitTrigger:
    """See `contracts/trigger.py`."""
    return RabbitTrigger(opening)


class RabbitTrigger:
    """Looks at a queue, and says what it means by the mode."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        queue = opening.need("queueName")
        self.metric = f"rabbitmq-{quote_plus(queue)}"
        old = opening.metadata.get("queueLength", "")
        if old and (opening.metadata.get("mode") or opening.metadata.get("value")):
            raise InvalidInput("rabbitmq: queueLength is deprecated; use mode and value")
        self.target = opening.number("queueLength" if old else "value")
        self._mode = opening.get("mode")
        host = _host(opening)
        protocol = opening.get("protocol")
        if protocol == "auto":
            protocol = host.scheme.removesuffix("s")
        if protocol != host.scheme.removesuffix("s"):
            raise InvalidInput(f"rabbitmq: protocol {protocol} does not fit the host's scheme {host.scheme}")
        only_http = [name for name in ("useRegex", "excludeUnacknowledged") if opening.flag(name)]
        only_http += [f"mode {self._mode}"] if self._mode != LENGTH else []
        if only_http and protocol != "http":
            raise InvalidInput(
                f"rabbitmq: {only_http[0]} needs the management API",
                hint="use a host http://HOST:15672/VHOST",
            )
        self._way: Way = _Management(opening, host) if protocol == "http" else _Amqp(opening, host)

    async def read(self) -> Reading:
        """One look."""
        queue = await self._way.look()
        value, called = _measured(queue, self._mode, self._opening.number("activationValue"))
        reading = self._opening.reading(value, "activationValue")
        return Reading(value=reading.value, active=reading.active or called)

    async def close(self) -> None:
        """Let go of connections."""
        await self._way.close()


def _measured(queue: Queue, mode: str, activation: float) -> tuple[float, bool]:
    """The value, and whether the queue calls for somebody although it is not above the threshold.

    Where nobody takes anything, ratio and time have no value; then it is the threshold, and what waits calls.
    """
    messages, published, delivered = queue.messages, queue.publish_rate, queue.deliver_rate
    match mode:
        case "MessageRate":
            return published, messages > activation
        case "DeliverGetRate":
            return delivered, False
        case "PublishedToDeliveredRatio":
            if published > 0 and delivered == 0:
                return activation, True
            return (published / delivered if published > 0 else 0.0), False
        case "ExpectedQueueConsumptionTime":
            if messages == 0:
                return 0.0, False
            if delivered == 0:
                return activation, True
            return max(0.0, (published - delivered + messages) / delivered), False
    return messages, False


class _Management:
    """The management API. Its rates are averages over some seconds, and it may lag behind the queue by as much."""

    def __init__(self, opening: Opening, host: SplitResult) -> None:
        path, _, last = host.path.rpartition("/")
        vhost = opening.get("vhostName") or unquote(last) or "/"
        base = f"{host.scheme}://{host.netloc.rpartition('@')[2]}{path}/api/queues/{quote(vhost, safe='')}"
        name = opening.need("queueName")
        self._opening = opening
        self._several = opening.flag("useRegex")
        self._url = base if self._several else f"{base}/{quote(name, safe='')}"
        self._params = {
            "page": "1", "use_regex": "true", "pagination": "false",
            "name": name, "page_size": opening.get("pageSize"),
        } if self._several else None  # fmt: skip
        self._auth = _credentials(opening, host)
        self._count = "messages_ready" if opening.flag("excludeUnacknowledged") else "messages"
        self._timeout_s = opening.number("timeout") / 1000 or opening.timeout_s
        verify = tls_context(opening.secrets.get("ca", ""), verify=not opening.flag("unsafeSsl"))
        self._client = httpx.AsyncClient(verify=verify, timeout=self._timeout_s)

    async def look(self) -> Queue:
        try:
            document = await ask_json(
                self._client,
                self._url,
                params=self._params,
                auth=self._auth,
                what=WHAT,
                now=self._opening.now(),
                timeout_s=self._timeout_s,
            )
        except NotFound:
            raise _no_queue(self._opening) from None
        try:
            if not self._several:
                return _queue(document, self._count)
            if document["page_count"] > 1:
                raise InvalidInput("rabbitmq: the pattern matches more queues than pageSize")
            queues = [_queue(item, self._count) for item in document["items"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unavailable(f"{WHAT} answered with something that describes no queue") from None
        return _together(queues, _OPERATIONS[self._opening.get("operation")])

    async def close(self) -> None:
        await self._client.aclose()


class _Amqp:
    """A passive declaration tells the number of ready messages. The connection is kept, and made anew where it broke."""

    def __init__(self, opening: Opening, host: SplitResult) -> None:
        user, password = _credentials(opening, host) or ("guest", "guest")
        vhost = opening.get("vhostName") or unquote(host.path.removeprefix("/")) or "/"
        self._opening = opening
        self._url = URL.build(
            scheme=host.scheme,
            user=user,
            password=password,
            host=host.hostname or "",
            port=host.port or PORTS[host.scheme],
            path=f"/{vhost}",
        )
        secure = host.scheme == "amqps"
        verify = not opening.flag("unsafeSsl")
        self._context = tls_context(opening.secrets.get("ca", ""), verify=verify) if secure else None
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def look(self) -> Queue:
        name = self._opening.need("queueName")
        try:
            async with asyncio.timeout(self._opening.timeout_s):
                channel = await self._channel()
                try:
                    declared = await channel.queue_declare(name, passive=True)
                finally:
                    await channel.close()
        except TimeoutError:
            await self.close()
            raise DeadlineExceeded(f"{WHAT} did not answer within {self._opening.timeout_s:g} s") from None
        except ChannelNotFoundEntity:
            raise _no_queue(self._opening) from None
        except (AuthenticationError, ProbableAuthenticationError):
            raise Unauthorized(f"{WHAT} refuses the credentials") from None
        except (ChannelAccessRefused, ConnectionNotAllowed):
            raise Forbidden(f"{WHAT} forbids these credentials to see the queue {name}") from None
        except (AMQPError, OSError, ConnectionError, RuntimeError) as error:
            await self.close()
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise Unavailable(f"{WHAT} cannot be asked: {why}") from None
        return Queue(float(declared.message_count or 0))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            await connection.close()

    async def _channel(self) -> AbstractChannel:
        async with self._connecting:
            if self._connection is None or self._connection.is_closed:
                connection = Connection(self._url, context=self._context)
                await connection.connect(client_properties={"connection_name": "penstock"})
                self._connection = connection
            return await self._connection.channel()


def _host(opening: Opening) -> SplitResult:
    """The server's address. What it holds may be a secret: no message shows it."""
    try:
        host = urlsplit(opening.need("host"))
        valid = host.scheme in ("amqp", "amqps", "http", "https") and bool(host.hostname) and host.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInput(
            "rabbitmq: host is no address, expected amqp[s]://HOST:PORT/VHOST or http[s]://HOST:PORT/VHOST"
        )
    return host


def _credentials(opening: Opening, host: SplitResult) -> tuple[str, str] | None:
    user, password = opening.get("username"), opening.get("password")
    if bool(user) != bool(password):
        raise InvalidInput("rabbitmq: username and password must be given together")
    if user:
        return user, password
    return (unquote(host.username), unquote(host.password or "")) if host.username else None


def _queue(document: Any, count: str) -> Queue:
    """A queue as the management API describes it; one that nothing moved through has no `message_stats`."""
    rates = document.get("message_stats") or {}
    published, delivered = (rates.get(f"{name}_details") or {} for name in ("publish", "deliver_get"))
    return Queue(float(document[count]), float(published.get("rate", 0)), float(delivered.get("rate", 0)))


def _together(queues: list[Queue], operation: Callable[[list[float]], float]) -> Queue:
    if not queues:
        return Queue(0.0)
    fields = ([getattr(queue, field) for queue in queues] for field in Queue.__struct_fields__)
    return Queue(*map(operation, fields))


def _no_queue(opening: Opening) -> NotFound:
    return NotFound(f"{WHAT} has no queue {opening.need('queueName')} in that virtual host")
