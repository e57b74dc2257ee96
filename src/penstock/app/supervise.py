"""`penstock up`: starts the control plane and the gateway's workers, keeps them alive, and stops everything it started.

Ctrl-C: the gateway drains, the control plane stops all pods, then this process ends; a second Ctrl-C forces. If this process
is killed, its children leave by themselves and the pods stay for the next start (see `app/link.py`). SIGUSR2: every worker of the
gateway is replaced by a new one, and no connection is refused (see `app/workers.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from penstock.app.child import Child
from penstock.app.home import Home, acquire
from penstock.app.link import LISTEN_VARIABLE
from penstock.app.listen import check_port, listeners
from penstock.app.settings import Settings
from penstock.app.workers import Workers
from penstock.host.kubelet.orphans import kill_all
from penstock.kit.errors import PlatformError

STOP_MARGIN_S = 15.0
"""What the control plane gets beyond the pods' grace to end them by force and to close its files."""
ORPHAN_GRACE_S = 5.0
FORCED = 130


@dataclass(frozen=True, slots=True)
class Terminal:
    """How to talk to whoever started this: `say` for one line of progress, `serving` once both planes answer."""

    say: Callable[[str], None]
    serving: Callable[[float], None]


class Supervisor:
    """One run of the platform."""

    def __init__(self, settings: Settings, terminal: Terminal, environment: dict[str, str]) -> None:
        """`environment` is what the children start with; it must lead them to the same settings."""
        self._settings = settings
        self._terminal = terminal
        self._environment = environment
        self._home = Home(settings.home)
        self._interrupts = 0
        self._interrupted = asyncio.Event()
        self._forced = asyncio.Event()

    async def run(self) -> int:
        """Until interrupted; the exit code. Raises PlatformError when it cannot start, and has then stopped everything."""
        started_at = time.monotonic()
        if not self._home.lock.exists():
            self._check_ports()  # a first start that cannot listen makes no folder
        self._home.prepare()
        lock = acquire(self._home)
        check_port("API", self._settings.api)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt)
        try:
            return await self._supervise(lock, started_at)
        finally:
            os.close(lock)

    def _check_ports(self) -> None:
        check_port("GATEWAY", self._settings.gateway)
        check_port("API", self._settings.api)
        if self._settings.grpc is not None:
            check_port("GRPC", self._settings.grpc)

    def _interrupt(self) -> None:
        self._interrupts += 1
        (self._interrupted if self._interrupts == 1 else self._forced).set()

    async def _supervise(self, lock: int, started_at: float) -> int:
        control, gateway = self._control_plane(lock), self._gateway(lock)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, gateway.restart)
        keepers = [asyncio.create_task(child.run()) for child in (control, gateway)]
        announced = asyncio.create_task(self._announce(control, gateway, started_at))
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait([*keepers, interrupted], return_when=asyncio.FIRST_COMPLETED)
            failure = next((keeper.exception() for keeper in keepers if keeper.done()), None)
            if isinstance(failure, PlatformError):
                self._terminal.say("It could not start. Stopping what had started …")
            elif failure is None:
                self._terminal.say(
                    "Stopping: the gateway finishes running requests, then every pod ends. Ctrl-C again forces."
                )
        finally:
            for task in (*keepers, announced, interrupted):
                task.cancel()
            await asyncio.gather(*keepers, announced, interrupted, return_exceptions=True)
        code = await self._stop(control, gateway)
        if failure is not None:
            raise failure
        return code

    def _control_plane(self, lock: int) -> Child:
        return Child(
            "control plane",
            module="penstock.app.control_plane",
            environment=self._environment,
            log=self._home.log("control-plane"),
            keep=(lock,),
            said=self._said,
        )

    def _gateway(self, lock: int) -> Workers:
        def worker(name: str, descriptor: int) -> Child:
            return Child(
                name,
                module="penstock.app.gateway",
                environment={**self._environment, LISTEN_VARIABLE: str(descriptor)},
                log=self._home.log(name),
                keep=(lock, descriptor),
                said=self._said,
            )

        if self._settings.grpc is not None:
            check_port("GRPC", self._settings.grpc)  # the workers share it among themselves
        sockets = listeners("GATEWAY", self._settings.gateway, self._settings.workers)
        return Workers(sockets, worker, self._said, stop_limit_s=self._settings.drain_s + STOP_MARGIN_S)

    def _said(self, name: str, message: str) -> None:
        self._terminal.say(f"{name}: {message}")

    async def _announce(self, control: Child, gateway: Workers, started_at: float) -> None:
        await asyncio.gather(control.wait_ready(), gateway.wait_ready())
        self._terminal.serving(time.monotonic() - started_at)

    async def _stop(self, control: Child, gateway: Workers) -> int:
        orderly = asyncio.create_task(self._stop_orderly(control, gateway))
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait([orderly, forced], return_when=asyncio.FIRST_COMPLETED)
        if orderly.done():
            forced.cancel()
            orderly.result()
            return 0
        orderly.cancel()
        await asyncio.gather(orderly, return_exceptions=True)
        await asyncio.gather(control.kill(), gateway.kill())
        killed = await asyncio.to_thread(kill_all, self._home.path)
        self._terminal.say(f"Forced: {killed} containers killed.")
        return FORCED

    async def _stop_orderly(self, control: Child, gateway: Workers) -> None:
        await gateway.stop()
        if await control.stop(self._settings.stop_grace_s + STOP_MARGIN_S):
            return
        killed = await asyncio.to_thread(kill_all, self._home.path, ORPHAN_GRACE_S)
        if killed:
            self._terminal.say(f"The control plane was gone; {killed} containers ended without it.")
