"""Whose requests make up what is under way at each endpoint: this gateway's own, and those that other gateways told of.

A load's counts are sums over all gateways. Own requests come and go one by one; of another gateway only totals are known, and each new
total replaces the one before, so that whatever was lost in between makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from penstock.contracts.scheduling import Load


class Counts(NamedTuple):
    """Requests and tokens under way at one endpoint, as `Load` has them."""

    in_flight: int = 0
    prefilling: int = 0
    uncached_tokens: int = 0
    context_tokens: int = 0


NONE = Counts()


class Shares:
    """The parts of other gateways in `loads`, which belongs to the caller. `changed` are endpoints whose own part may have changed."""

    def __init__(self, loads: Mapping[str, Load]) -> None:
        """Nothing was told yet."""
        self._loads = loads
        self._told: dict[str, dict[str, Counts]] = {}
        self._sums: dict[str, Counts] = {}
        self.changed: set[str] = set()

    def told(self, name: str, gateway: str, counts: Counts) -> None:
        """So much of `name` is `gateway`'s now. Nothing for an endpoint that is unknown."""
        load = self._loads.get(name)
        if load is None:
            return
        parts = self._told.setdefault(name, {})
        before = parts.get(gateway, NONE)
        if counts == before:
            return
        if counts == NONE:
            del parts[gateway]
        else:
            parts[gateway] = counts
        in_flight = counts.in_flight - before.in_flight
        prefilling = counts.prefilling - before.prefilling
        uncached = counts.uncached_tokens - before.uncached_tokens
        context = counts.context_tokens - before.context_tokens
        load.in_flight += in_flight
        load.prefilling += prefilling
        load.uncached_tokens = max(0.0, load.uncached_tokens + uncached)
        load.context_tokens = max(0.0, load.context_tokens + context)
        if parts:
            total = self._sums.get(name, NONE)
            self._sums[name] = Counts(
                total.in_flight + in_flight,
                total.prefilling + prefilling,
                total.uncached_tokens + uncached,
                total.context_tokens + context,
            )
        else:
            del self._told[name]
            self._sums.pop(name, None)

    def others(self, name: str) -> Counts:
        """What all others have under way there."""
        return self._sums.get(name, NONE)

    def own(self, name: str) -> Counts:
        """What this gateway has under way there; nothing for an endpoint that is unknown. Tokens are rounded."""
        load = self._loads.get(name)
        if load is None:
            return NONE
        others = self._sums.get(name, NONE)
        return Counts(
            max(0, load.in_flight - others.in_flight),
            max(0, load.prefilling - others.prefilling),
            max(0, round(load.uncached_tokens) - others.uncached_tokens),
            max(0, round(load.context_tokens) - others.context_tokens),
        )

    def forget(self, name: str) -> None:
        """It is gone, and its load with it."""
        self._told.pop(name, None)
        self._sums.pop(name, None)
        self.changed.discard(name)
