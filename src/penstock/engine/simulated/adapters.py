"""Which LoRA adapters are in the slots of a simulated engine."""

from __future__ import annotations

from collections import OrderedDict


class AdapterSlots:
    """`slots` adapters at a time; what no running request uses makes way for others, the longest unused first."""

    __slots__ = ("_running", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._running: OrderedDict[str, int] = OrderedDict()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Those in a slot."""
        return tuple(self._running)

    def has_room(self, adapter: str) -> bool:
        """Whether a request with it may run now."""
        running = self._running
        return adapter in running or len(running) < self.slots or 0 in running.values()

    def take(self, adapter: str) -> bool:
        """A request with it runs, for which there is room; answers whether it had to be loaded."""
        running = self._running
        is_new = adapter not in running
        if is_new and len(running) >= self.slots:
            del running[next(name for name, requests in running.items() if not requests)]
        running[adapter] = running.get(adapter, 0) + 1
        running.move_to_end(adapter)
        return is_new

    def leave(self, adapter: str) -> None:
        """A request with it runs no more."""
        self._running[adapter] -= 1

    def unload(self, adapter: str) -> None:
        """It leaves its slot if nobody uses it."""
        if self._running.get(adapter) == 0:
            del self._running[adapter]
