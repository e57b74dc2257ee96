"""The gateway's listening sockets, which the supervisor holds so that no worker's end ever refuses a connection.

One socket per worker on the same address (SO_REUSEPORT: the kernel deals connections out among them). A worker gets its socket's
descriptor; while no worker accepts from it, connections wait in the kernel's queue, up to BACKLOG.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from penstock.app.addresses import Address
from penstock.kit.errors import Unavailable

BACKLOG = 2048


def check_port(name: str, address: Address) -> None:
    """Raises Unavailable, which names the port and how to choose another, unless a server can listen there.

    `name` is that of the setting: GATEWAY or API. Nobody else may share the port, whatever they allow.
    """
    with contextlib.closing(_bound(name, address, shared=False)):
        pass


def listeners(name: str, address: Address, count: int) -> tuple[socket.socket, ...]:
    """`count` sockets that listen at the address; close them to refuse connections. Raises Unavailable."""
    check_port(name, address)
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(_bound(name, address, shared=count > 1))
            made[-1].listen(BACKLOG)
            made[-1].setblocking(False)
    except BaseException:
        for listener in made:
            listener.close()
        raise
    return tuple(made)


def suggest_port(address: Address) -> int:
    """A port near the wanted one that is free right now."""
    for port in range(address.port + 10, min(address.port + 1000, 65536), 10):
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    return 0


def _bound(name: str, address: Address, *, shared: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        taken = error.errno == errno.EADDRINUSE
        raise Unavailable(
            f"{address}: {'port ' + str(address.port) + ' is taken by another program' if taken else error.strerror or error}",
            code="port_taken" if taken else "cannot_listen",
            hint=f"choose another: PENSTOCK_{name}_ADDR={address.host}:{suggest_port(address)}",
        ) from None
    return bound
