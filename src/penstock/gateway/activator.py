"""The waiting room of services without a ready endpoint: bounded, with a deadline that names its phase."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.contracts.exchange import ServiceRoute
from penstock.kit.errors import NotFound, Unavailable

Id = tuple[str, str]
MAX_WAITING = 1000
"""Requests that may wait for one service."""
RETRY_AFTER_S = 5.0


class Activator:
    """Requests wait here until the RouteTable says what becomes of their service."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when the first request begins to wait for a service."""
        self._wake = wake
        self._news = asyncio.Event()
        self.waiting: dict[Id, int] = {}

    def changed(self) -> None:
        """A new RouteTable is in force."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait(
        self, find: Callable[[], ServiceRoute], settled: Callable[[ServiceRoute], bool]
    ) -> ServiceRoute:
        """Until the service is `settled`: it has an endpoint, or cannot get one.

        `find` gives the service as the table in force has it, and raises NotFound if it is gone. Raises NotFound when it
        goes meanwhile, Unavailable when `hold_s` has passed.
        """
        service = find()
        key = (service.namespace, service.name)
        self.waiting[key] = self.waiting.get(key, 0) + 1
        if self.waiting[key] == 1:
            self._wake()
        try:
            async with asyncio.timeout(service.hold_s):
                while not settled(service):
                    await self._news.wait()
                    service = find()
        except NotFound:
            raise NotFound(
                f"{key[0]}/{key[1]} was deleted while the request waited for it to start",
                code="model_not_found",
                hint="see /v1/models for what is served",
            ) from None
        except TimeoutError:
            raise Unavailable(
                f"{key[0]}/{key[1]} did not become ready within {service.hold_s:g} s: {service.message or service.phase}",
                code="not_ready_in_time",
                hint="try again later",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        finally:
            self.waiting[key] -= 1
            if not self.waiting[key]:
                del self.waiting[key]
        return service
