"""What the gateway workers of one machine tell each other, through Unix sockets in a folder of their own.

`broadcast` sends one datagram to each other worker: small, in order, never waited for. `gather` asks each of them over a stream,
which carries answers of any size. A worker is known by its socket file; one whose owner has died is removed by whoever meets it.
The folder is readable by its owner alone, so everything in it was written by this user.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.kit.errors import InvalidInput

MAX_PAYLOAD_BYTES = 32_768
MAX_ANSWER_BYTES = 16 << 20
MAX_PEERS = 256
"""Sockets in the folder beyond these, in order of their names, are not spoken to."""
MAX_AT_ONCE = 64
"""Datagrams that are taken in one turn of the event loop."""
ASK_S = 1.0
"""How long a worker that asks may take to say what."""
_MAX_DATAGRAM_BYTES = MAX_PAYLOAD_BYTES + 1024
_MAX_PATH_BYTES = 107
_TELL, _ASK = ".sock", ".ask"


class _Datagram(msgspec.Struct, frozen=True, array_like=True):
    sender: str
    kind: str
    payload: bytes


class Channel(Protocol):
    """What reaches other gateways."""

    max_payload_bytes: int

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        """`callback(sender, payload)` for what is heard. It raises msgspec.DecodeError for what it cannot read."""
        ...

    def broadcast(self, kind: str, payload: bytes) -> bool:
        """To all others, without waiting; whether all had room for it. `payload` is at most `max_payload_bytes`."""
        ...


class Peers:
    """One worker's ear and mouth. `malformed` counts datagrams that were thrown away, `unheard` those that a peer had no room for."""

    max_payload_bytes = MAX_PAYLOAD_BYTES

    def __init__(self, folder: Path, name: str) -> None:
        """`folder` is shared by the workers, `name` is this one's own there, such as its process id."""
        self._folder, self._name = folder, name
        self.id = f"{name}.{secrets.token_hex(4)}"
        self.malformed = 0
        self.unheard = 0
        self._subscribers: dict[str, Callable[[str, bytes], object]] = {}
        self._answers: dict[str, Callable[[str], bytes]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Datagram).decode
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def faults(self) -> dict[str, int]:
        """What was not heard, by cause."""
        return {"worker_unheard": self.unheard, "worker_malformed": self.malformed}

    async def open(self) -> None:
        """Be heard from now on. Raises InvalidInput if the folder's path is too long for a socket."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        tell, ask = self._path(_TELL), self._path(_ASK)
        if len(os.fsencode(ask)) > _MAX_PATH_BYTES:
            raise InvalidInput(
                f"{tell} is longer than the {_MAX_PATH_BYTES} bytes that a Unix socket's path may have",
                hint="set PENSTOCK_HOME to a shorter path",
            )
        self.close()
        self._server = await asyncio.start_unix_server(self._serve, ask)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(tell))
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def close(self) -> None:
        """Be heard no more, and leave no file behind."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._server is not None:
            self._server.close()
            self._server = None
        self._forget(self._name)

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        """`callback(sender, payload)` for each datagram of this kind. It raises msgspec.DecodeError for what it cannot read."""
        self._subscribers[kind] = callback

    def answer(self, kind: str, callback: Callable[[], bytes]) -> None:
        """What this worker says when another one gathers `kind`."""
        self._answers[kind] = lambda _: callback()

    def answer_about(self, kind: str, callback: Callable[[str], bytes]) -> None:
        """The same for a `kind` that is asked about something, which `callback` gets."""
        self._answers[kind] = callback

    def broadcast(self, kind: str, payload: bytes) -> bool:
        """To each other worker; whether all of them had room for it. `payload` is at most MAX_PAYLOAD_BYTES."""
        assert len(payload) <= MAX_PAYLOAD_BYTES
        if self._socket is None:
            return False
        datagram, all_heard = self._encode(_Datagram(self.id, kind, payload)), True
        for name in self._others(_TELL):
            try:
                self._socket.sendto(datagram, str(self._folder / (name + _TELL)))
            except (ConnectionRefusedError, FileNotFoundError):
                self._forget(name)
            except OSError:
                self.unheard += 1
                all_heard = False
        return all_heard

    async def gather(self, kind: str, timeout_s: float, about: str = "") -> list[bytes]:
        """What the other workers answer, in the order of their names, without those that do not within `timeout_s`.

        `about` is one line of text.
        """
        assert "\n" not in about
        question = f"{kind} {about}" if about else kind
        asked = (self._ask(name, question, timeout_s) for name in self._others(_ASK))
        return [answer for answer in await asyncio.gather(*asked) if answer is not None]

    async def _ask(self, name: str, question: str, timeout_s: float) -> bytes | None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self._folder / (name + _ASK))
                writer.write(question.encode() + b"\n")
                size = int.from_bytes(await reader.readexactly(4), "big")
                return await reader.readexactly(size) if size <= MAX_ANSWER_BYTES else None
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None
        finally:
            if writer is not None:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_S):
                question = (await reader.readline()).decode("utf-8", "replace").rstrip("\n")
                kind, _, about = question.partition(" ")
                callback = self._answers.get(kind)
                if callback is not None:
                    answer = callback(about)
                    writer.write(len(answer).to_bytes(4, "big") + answer)
                    await writer.drain()
        except (OSError, TimeoutError, ValueError):
            self.malformed += 1
        finally:
            writer.close()

    def _hear(self) -> None:
        for _ in range(MAX_AT_ONCE):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(_MAX_DATAGRAM_BYTES + 1)
            except (BlockingIOError, InterruptedError):
                return
            try:
                datagram = self._decode(data)
                callback = self._subscribers.get(datagram.kind)
                if callback is not None and datagram.sender != self.id:
                    callback(datagram.sender, datagram.payload)
            except msgspec.DecodeError:
                self.malformed += 1

    def _others(self, suffix: str) -> list[str]:
        names = sorted(path.name.removesuffix(suffix) for path in self._folder.glob("*" + suffix))
        return [name for name in names[:MAX_PEERS] if name != self._name]

    def _forget(self, name: str) -> None:
        for suffix in (_TELL, _ASK):
            (self._folder / (name + suffix)).unlink(missing_ok=True)

    def _path(self, suffix: str) -> Path:
        return self._folder / (self._name + suffix)
