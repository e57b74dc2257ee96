"""The workers of the gateway: one per listening socket, kept alive, and replaced without refusing a connection.

A hot restart starts a new worker on the same socket, waits until it serves, and only then tells the old one to stop: both accept for
a moment, then the old one finishes what it has begun. One worker after the other, so that a machine never runs twice as many.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from penstock.app.child import Child

READY_WITHIN_S = 30.0
"""A new worker that does not serve by then is given up, and the old one stays."""
Make = Callable[[str, int], Child]


class Workers:
    """`make(name, descriptor)` makes a worker that is to accept from that socket; `said(name, message)` tells the person at the terminal."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        make: Make,
        said: Callable[[str, str], None],
        *,
        stop_limit_s: float,
    ) -> None:
        """`stop_limit_s` is how long a worker may take to stop, draining included. The sockets become this object's own."""
        self._listeners = tuple(listeners)
        self._make = make
        self._said = said
        self._stop_limit_s = stop_limit_s
        names = [f"gateway-{number}" for number in range(1, len(self._listeners) + 1)]
        self._children = [
            make(name, each.fileno()) for name, each in zip(names, self._listeners, strict=True)
        ]
        self._keepers: list[asyncio.Task[None]] = []
        self._leaving: dict[asyncio.Task[None], Child] = {}
        self._broken: asyncio.Future[None] | None = None
        self._restarting: asyncio.Task[None] | None = None

    @property
    def pids(self) -> list[int | None]:
        """The processes that serve, by slot."""
        return [child.pid for child in self._children]

    async def run(self) -> None:
        """Keep every worker running until cancelled. Raises Unavailable when one cannot run at all."""
        self._broken = asyncio.get_running_loop().create_future()
        self._keepers = [self._watched(asyncio.create_task(child.run())) for child in self._children]
        try:
            await self._broken
        finally:
            self._broken.cancel()
            tasks = [*self._keepers, *([self._restarting] if self._restarting else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_ready(self) -> None:
        """Until every worker serves."""
        await asyncio.gather(*(child.wait_ready() for child in self._children))

    def restart(self) -> None:
        """Replace every worker by a new one while connections go on being accepted; returns at once."""
        serves = self._broken is not None and not self._broken.done()
        if not serves or not all(child.is_ready for child in self._children):
            self._said("gateway", "no restart: it is being started or stopped")
        elif self._restarting and not self._restarting.done():
            self._said("gateway", "no second restart: one is under way")
        else:
            self._restarting = asyncio.create_task(self._restart())

    async def stop(self) -> None:
        """Refuse connections, let the workers finish what they have begun, and end them. Cancel `run` first."""
        self._close()
        ending = (child.stop(self._stop_limit_s) for child in self._children)
        await asyncio.gather(*ending, *self._leaving)

    async def kill(self) -> None:
        """End them now."""
        self._close()
        await asyncio.gather(*(child.kill() for child in (*self._children, *self._leaving.values())))

    async def _restart(self) -> None:
        replaced = 0
        for slot in range(len(self._children)):
            replaced += await self._replace(slot)
        self._said("gateway", f"{replaced} of {len(self._children)} workers replaced")

    async def _replace(self, slot: int) -> bool:
        """Whether the new worker serves; if not, the old one goes on."""
        old, fresh = (
            self._children[slot],
            self._make(self._children[slot].name, self._listeners[slot].fileno()),
        )
        keeper = asyncio.create_task(fresh.run())
        if not await self._serves(fresh, keeper):
            return False
        before, self._keepers[slot], self._children[slot] = self._keepers[slot], self._watched(keeper), fresh
        self._said(old.name, f"process {fresh.pid} serves; process {old.pid} finishes its requests and ends")
        leaving = asyncio.create_task(self._leave(old, before))
        self._leaving[leaving] = old
        leaving.add_done_callback(lambda task: self._leaving.pop(task, None))
        return True

    async def _leave(self, old: Child, keeper: asyncio.Task[None]) -> None:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await old.stop(self._stop_limit_s)

    async def _serves(self, fresh: Child, keeper: asyncio.Task[None]) -> bool:
        """Wait for a new worker; one that does not serve in time, or while it was waited for, is ended."""
        ready = asyncio.create_task(fresh.wait_ready())
        try:
            await asyncio.wait([ready, keeper], timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            serves = ready.done() and not keeper.done()
        except asyncio.CancelledError:
            await self._give_up(fresh, keeper, ready)
            raise
        if not serves:
            reason = keeper.exception() if keeper.done() else f"it did not serve within {READY_WITHIN_S:g} s"
            await self._give_up(fresh, keeper, ready)
            self._said(fresh.name, f"was not replaced: {reason}")
        return serves

    async def _give_up(self, fresh: Child, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fresh.kill()

    def _watched(self, keeper: asyncio.Task[None]) -> asyncio.Task[None]:
        keeper.add_done_callback(self._ended)
        return keeper

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        if keeper.cancelled() or self._broken is None or self._broken.done():
            return
        failure = keeper.exception()
        assert failure is not None, "a keeper goes on until it is cancelled or fails"
        self._broken.set_exception(failure)

    def _close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.close()
