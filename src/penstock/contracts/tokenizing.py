"""What a gateway and the process that tokenizes for it tell each other: MessagePack, each after its length in 4 bytes, big-endian.

The gateway asks, and may ask for more before it is answered; answers come in the order of the questions. The end of the stream ends both.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

LENGTH_BYTES = 4
BYTES_TOKENIZER = "bytes"
"""In place of a folder: the simulated engine's own, which needs no files."""


class Ask(Struct, frozen=True, gc=False, omit_defaults=True):
    """The blocks of one prompt, by the tokenizer and template of the model in `folder`, or BYTES_TOKENIZER.

    `body` is an OpenAI request; an empty one asks for nothing but that the tokenizer be loaded. Blocks have `block_tokens`, the first is
    chained on `seed`; of no more than `max_tokens`.
    """

    folder: str
    body: bytes = b""
    block_tokens: int = 0
    seed: int = 0
    max_tokens: int = 0


class Told(Struct, frozen=True, gc=False, omit_defaults=True):
    """`tokens` of the prompt and the `hashes` of its whole blocks, 8 bytes each and little-endian; it took `took_s` to tokenize `fresh` of them.

    `error` is the code of what is wrong with the request, `broken` of what is wrong with the tokenizer.
    """

    tokens: int = 0
    hashes: bytes = b""
    fresh: int = 0
    took_s: float = 0.0
    error: str = ""
    broken: str = ""


ASK = msgspec.msgpack.Decoder(Ask)
TOLD = msgspec.msgpack.Decoder(Told)
_ENCODER = msgspec.msgpack.Encoder()


def framed(message: Ask | Told) -> bytes:
    """As it goes over the stream."""
    data = _ENCODER.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data
