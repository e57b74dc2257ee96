"""The line between the supervisor and a child: notices up, and the end of file that says the supervisor is gone.

One Unix socket pair per child. The child writes JSON lines; the supervisor writes nothing. When the supervisor dies,
however it dies, the child reads end of file and leaves without touching the pods, which the next start adopts.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Literal

import msgspec
from msgspec import Struct

from penstock.kit.errors import PlatformError

VARIABLE = "PENSTOCK_SUPERVISOR_FD"
LISTEN_VARIABLE = "PENSTOCK_LISTEN_FD"
"""Names the listening socket that a worker of the gateway is given."""
MAX_LINE_BYTES = 64 << 10


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a child tells: it is ready, it cannot run and why, or something a person at the terminal wants to read."""

    type: Literal["ready", "failed", "say"]
    message: str = ""
    hint: str = ""


def inherited(variable: str) -> int | None:
    """The descriptor that this variable names, which it no longer does afterwards: it is for this process alone."""
    number = os.environ.pop(variable, "")
    return int(number) if number else None


class Link:
    """The child's end. Without a supervisor (started by hand) notices go nowhere and `lost` never comes."""

    def __init__(self) -> None:
        """Takes the socket whose descriptor the supervisor named; no process of ours inherits it."""
        self.lost = asyncio.Event()
        number = inherited(VARIABLE)
        self._socket = socket.socket(fileno=number) if number is not None else None
        if self._socket:
            self._socket.set_inheritable(False)
            self._socket.setblocking(False)
            asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def ready(self) -> None:
        """The child serves."""
        self._send(Notice(type="ready"))

    def say(self, message: str) -> None:
        """For the person at the terminal."""
        self._send(Notice(type="say", message=message))

    def failed(self, error: PlatformError) -> None:
        """The child cannot run, and trying again will not help."""
        self._send(Notice(type="failed", message=error.message, hint=error.hint))

    def _send(self, notice: Notice) -> None:
        if not self._socket or self.lost.is_set():
            return
        try:
            self._socket.send(msgspec.json.encode(notice) + b"\n")
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return

    def _readable(self) -> None:
        assert self._socket
        try:
            received = self._socket.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._socket)
            self.lost.set()
