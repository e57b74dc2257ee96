"""`redis`: how many items wait in a list, or are in a set, sorted set or hash (KEDA's redis scaler)."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError

from penstock.contracts.trigger import Opening, Reading
from penstock.kit.ask import tls_context
from penstock.kit.errors import DeadlineExceeded, Forbidden, InvalidInput, Unauthorized, Unavailable

WHAT = "the Redis server"
COUNTS = {"list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN"}
"""By what `TYPE` says of a key: the command that counts its items."""


def open_trigger(opening: Opening) -> RedisTrigger:
    """See `contracts/trigger.py`."""
    return RedisTrigger(opening)


class RedisTrigger:
    """Keeps one connection; where it breaks, the read fails and the next one makes another."""

    def __init__(self, opening: Opening) -> None:
        self._key = opening.need("listName")
        self.metric = f"redis-{self._key}"
        self.target = opening.number("listLength")
        self._opening = opening
        host, port = _address(opening)
        settings: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": int(opening.get("databaseIndex")),
            "username": opening.get("username") or None,
            "password": opening.get("password") or None,
            "socket_timeout": opening.timeout_s,
            "socket_connect_timeout": opening.timeout_s,
            "decode_responses": True,
            "retry": Retry(NoBackoff(), 0),
        }
        if opening.flag("enableTLS"):
            settings |= {"connection_class": SSLConnection, **_tls(opening)}
        self._redis: Any = Redis.from_pool(ConnectionPool(**settings))

    async def read(self) -> Reading:
        """One count. A key that is not there has no items."""
        try:
            async with asyncio.timeout(self._opening.timeout_s):
                kind = await self._redis.type(self._key)
                if kind == "none":
                    return self._opening.reading(0.0, "activationListLength")
                if kind not in COUNTS:
                    raise InvalidInput(
                        f"redis: the key {self._key} holds a {kind}, expected {', '.join(COUNTS)}"
                    )
                count = await self._redis.execute_command(COUNTS[kind], self._key)
        except TimeoutError:
            raise DeadlineExceeded(f"{WHAT} did not answer within {self._opening.timeout_s:g} s") from None
        except AuthenticationError:
            raise Unauthorized(f"{WHAT} refuses the credentials") from None
        except (AuthorizationError, NoPermissionError):
            raise Forbidden(f"{WHAT} forbids these credentials to read the key {self._key}") from None
        except (RedisError, OSError) as error:
            raise Unavailable(f"{WHAT} cannot be asked: {_said(error)}") from None
        return self._opening.reading(float(count), "activationListLength")

    async def close(self) -> None:
        """Let go of the connection."""
        await self._redis.aclose(close_connection_pool=True)


def _address(opening: Opening) -> tuple[str, int]:
    address = opening.get("address")
    host, _, port = address.rpartition(":") if address else (opening.get("host"), "", opening.get("port"))
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidInput(
            "redis: found no address of the server, expected address: HOST:PORT, or host and port",
            hint="give them in the trigger's metadata or by its authentication",
        )
    return host, int(port)


def _tls(opening: Opening) -> dict[str, Any]:
    ca = opening.secrets.get("ca", "")
    tls_context(ca)  # says what is wrong with the certificates now rather than in every read
    if opening.flag("unsafeSsl"):
        return {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    return {"ssl_ca_data": ca or None, "ssl_check_hostname": True}


def _said(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
