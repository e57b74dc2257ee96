"""Between simulated gateways: what one tells, the others hear at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MAX_PAYLOAD_BYTES = 1200
"""A datagram that no network cuts."""


class Wire:
    """Implements `gateway.peers.Channel` for one gateway. `others` are the wires of those that hear it."""

    max_payload_bytes = MAX_PAYLOAD_BYTES

    def __init__(self, name: str) -> None:
        self.name = name
        self.others: Sequence[Wire] = ()
        self._callbacks: dict[str, Callable[[str, bytes], object]] = {}

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        """See Channel."""
        self._callbacks[kind] = callback

    def broadcast(self, kind: str, payload: bytes) -> bool:
        """Nothing is lost."""
        for other in self.others:
            other.heard(self.name, kind, payload)
        return True

    def heard(self, sender: str, kind: str, payload: bytes) -> None:
        """Another one told this."""
        self._callbacks[kind](sender, payload)


class WorldClock:
    """Implements `kit.clock.Clock`; `at` is the simulated time, which its owner sets."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        """Seconds since the simulation's beginning."""
        return self.at

    def monotonic(self) -> float:
        """The same."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Nothing waits in a simulation: it must not be asked."""
        raise NotImplementedError
