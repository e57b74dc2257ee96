"""Ports that a test may listen at, and that no other program is given meanwhile."""

from __future__ import annotations

import socket
from collections import deque

KEPT = 128
"""As many sockets are held; who takes more at once may lose the first of them to others."""

_held: deque[socket.socket] = deque()


def free_port() -> int:
    """Of 127.0.0.1, and TCP's. It stays this process's: connections to it are refused until a program listens there with SO_REUSEADDR.

    A socket is bound there and does not listen: the kernel gives the port to nobody who asks for any, and lets it be listened at by whoever
    names it. So a server may stop and another one start at the same port.
    """
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    _held.append(one)
    if len(_held) > KEPT:
        _held.popleft().close()
    return int(one.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Several, each another one."""
    return [free_port() for _ in range(count)]
