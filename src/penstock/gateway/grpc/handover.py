"""How a gRPC port changes hands without a call being lost.

grpcio's own stop cancels every call that it has not begun, and every one that arrives before the client has heard of the stop: it ends
CANCELLED, which no client tries again (grpc/grpc#41785). So a worker lets go of the port first and goes on answering. Each connection is
told to take no more calls when it has lived AGE_S (gRFC A9), as HTTP/2 has it: calls that are on their way still count. When all have
been told, nothing can arrive that a stop would cancel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from pathlib import Path

AGE_S = 5.0
SPREAD = 0.1
"""grpcio lets connections grow older or less old than they should by this share, so that they do not all come again at once."""
TELLING_S = 0.5
"""Between the end of a connection's life and the moment from which its client asks elsewhere."""
LOOK_AGAIN_S = 0.05


def age_option() -> tuple[str, int]:
    """For a server that is to hand over its port some day."""
    return ("grpc.max_connection_age_ms", int(AGE_S * 1000))


class Port:
    """The sockets of one of grpcio's servers at a port, which it does not give out."""

    def __init__(self, number: int) -> None:
        """Before the server listens there."""
        self._number = number
        self._others = self._descriptors(listen=True)
        self._own: frozenset[int] = frozenset()

    def taken(self) -> None:
        """The server listens."""
        self._own = self._descriptors(listen=True) - self._others

    async def hand_over(self, within_s: float) -> None:
        """Until no client will ask this process again: at most AGE_S and a little, and at most `within_s`.

        New connections are left to who else listens there. Old ones that are there afterwards carry calls that began before.
        """
        for descriptor in self._own:
            with socket.socket(fileno=os.dup(descriptor)) as listening:
                listening.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + min(within_s, AGE_S * (1.0 + SPREAD) + TELLING_S)
        while time.monotonic() < until and self._descriptors(listen=False):  # noqa: ASYNC110 - grpcio does not say when a connection ends
            await asyncio.sleep(LOOK_AGAIN_S)

    def _descriptors(self, *, listen: bool) -> frozenset[int]:
        """Of this process's sockets at the port: those that listen, or those that are connected."""
        here = (int(each.name) for each in Path("/dev/fd").iterdir())
        return frozenset(each for each in here if _is_at(each, self._number, listens=listen))


def _is_at(descriptor: int, port: int, *, listens: bool) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        found = socket.socket(fileno=os.dup(descriptor))
    except OSError:  # closed since it was listed
        return False
    with found:
        if found.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        try:
            if found.getsockname()[1] != port:
                return False
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return listens
            found.getpeername()
        except OSError:  # neither, or not any more
            return False
        return not listens
