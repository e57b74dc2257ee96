"""Which loopback address does a pod get?

Where all of 127/8 is local (Linux), each pod has its own 127.B.y.z, with B from the data folder's path, so that two instances on one machine stay
apart. Where only 127.0.0.1 exists (macOS), all pods share it, and two that want the same port cannot run together.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

import xxhash

from penstock.kit.errors import Unavailable

SHARED = "127.0.0.1"
PER_BLOCK = 250 * 250
TRIES = 256


class Addresses:
    """Gives out addresses of this data folder's block; remembers which are taken."""

    def __init__(self, home: Path) -> None:
        self._block = 2 + xxhash.xxh64_intdigest(str(home.resolve()).encode()) % 250
        self._taken: dict[str, str] = {}
        self._own = _is_local(f"127.{self._block}.0.1")

    def reserve(self, uid: str, address: str) -> None:
        """This pod had the address when it was last seen; nobody else gets it."""
        self._taken[address] = uid

    def take(self, uid: str, ports: Iterable[int], wish: str = "", *, in_use: bool = False) -> str:
        """An address on which all of `ports` are free; `wish` if that will do, unchecked if the pod itself is `in_use` of it.

        Unavailable after a bounded search.
        """
        wanted = tuple(ports)
        if wish and (in_use or (self._taken.get(wish, uid) == uid and _are_free(wish, wanted))):
            self._taken[wish] = uid
            return wish
        if not self._own:
            if _are_free(SHARED, wanted):
                return SHARED
            raise Unavailable(
                f"one of the ports {list(wanted)} is in use on {SHARED}, the only loopback address of this system",
                hint="give the pods different containerPorts, or run on Linux, where each pod has its own address",
            )
        first = xxhash.xxh64_intdigest(uid.encode())
        for step in range(TRIES):
            number = (first + step) % PER_BLOCK
            address = f"127.{self._block}.{number // 250}.{1 + number % 250}"
            if address not in self._taken and _are_free(address, wanted):
                self._taken[address] = uid
                return address
        raise Unavailable(
            f"no address of 127.{self._block}.0.0/16 has the ports {list(wanted)} free",
            hint="another program listens on them on every address (0.0.0.0); stop it or choose other containerPorts",
        )

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._taken = {address: owner for address, owner in self._taken.items() if owner != uid}


def _are_free(address: str, ports: tuple[int, ...]) -> bool:
    return all(_can_bind(address, port) for port in ports)


def _can_bind(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return (
                error.errno == errno.EACCES
            )  # a port below 1024: whether it is free, only its owner may learn
    return True


def _is_local(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
