"""`python -m penstock.engine.tokenizing`: tokenizes for a gateway, on a socket that is its standard input; see `contracts/tokenizing.py`.

A process of its own, since templates are programs that others wrote, tokenizers take a second to load, and a gateway has no time to lose.
It ends when the gateway does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

from penstock.contracts.tokenizing import ASK, LENGTH_BYTES, Ask, Told, framed

Answer = Callable[[Ask], Told]


def serve(stream: IO[bytes], answer: Answer) -> None:
    """Until the other side ends."""
    while True:
        head = stream.read(LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return
        (length,) = struct.unpack(">I", head)
        data = stream.read(length)
        if len(data) < length:
            return
        stream.write(framed(answer(ASK.decode(data))))
        stream.flush()


def main() -> None:
    """The exit code is 0: whoever asks has ended."""
    with (
        suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt),  # closing sends what is left, too
        socket.socket(fileno=0) as connection,
        connection.makefile("rwb") as stream,
    ):
        serve(cast("IO[bytes]", stream), _answer())


def _answer() -> Answer:
    """Gateways are installed without what engines need, too."""
    try:
        from penstock.engine.tokenizing.folders import Tokenizers  # noqa: PLC0415  see above
    except ModuleNotFoundError:
        return lambda _: Told(broken="not_installed")
    return Tokenizers().answer


if __name__ == "__main__":
    main()
