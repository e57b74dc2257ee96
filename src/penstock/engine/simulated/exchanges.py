"""Exchanges that end otherwise than their engine means: cut short, or with something more in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock.engine.http import Exchange


class Around(Exchange):
    """The same request on the same connection."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(
            exchange._connection,
            exchange.method,
            exchange.path,
            exchange.body,
            exchange.request_id,
            exchange.keeps_alive,
        )


class CutShort(Around):
    """Its connection is cut after so many events, or in place of a whole answer."""

    def __init__(self, exchange: Exchange, events: int) -> None:
        super().__init__(exchange)
        self._left = events

    def send(self, *_: Any, **__: Any) -> None:
        """Nobody gets a whole answer."""
        self.abort()

    def event(self, payload: Any) -> None:
        """One less."""
        if self._left <= 0:
            self.abort()
            return
        self._left -= 1
        super().event(payload)


class WithFields(Around):
    """A whole answer has more fields, which follow from it."""

    def __init__(self, exchange: Exchange, fields: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        super().__init__(exchange)
        self._fields = fields
        self._inner = exchange

    def send(self, status: int, payload: Any, *rest: Any, **more: Any) -> None:
        """See Exchange."""
        self._inner.send(status, {**payload, **self._fields(payload)}, *rest, **more)
        self.started, self.ended = self._inner.started, self._inner.ended
