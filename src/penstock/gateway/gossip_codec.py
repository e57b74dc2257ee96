"""How gateways write what they tell each other: messages that each stand by themselves, so that any may be lost, late or repeated.

A message is MessagePack, each part an array whose further fields a later version may add. Endpoints are told by a hash of their name, which
every gateway has from the same route table. Hashes of blocks are written as they are in memory of most machines: 8 bytes, little-endian.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

KIND = "gossip.1"
"""With the version: what speaks another one is not heard."""
HASH_BYTES = 8
MAX_CHAIN_BLOCKS = 16_384
"""Of a longer prompt the beginning is told; a million tokens in blocks of 64."""
MAX_PARTS = 4096
MAX_PLACE_BYTES = 64
MOST = (1 << 32) - 1
TALLY_BYTES = 1 + 9 + 4 * 5
"""At most, in MessagePack; so are the next."""
OPENING_BYTES = 1 + 9 + 2 * 5
SAMPLE_BYTES = 1 + 9 + 3 * 5
INSERT_BYTES = 1 + 9 + 9 + 3 + 5
"""Without its tail."""
HEAD_BYTES = 128

Id = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=0, le=MOST)]


class Tally(Struct, frozen=True, array_like=True, gc=False):
    """All that the sender has under way at one endpoint; see `Counts`."""

    endpoint: Id
    in_flight: Number
    prefilling: Number
    uncached_tokens: Number
    context_tokens: Number


class Insert(Struct, frozen=True, array_like=True, gc=False):
    """A chain of blocks was sent there: the first `position` of the chain that ends with `anchor`, then `tail`.

    `anchor` is the hash of the last block of a chain that was told before; `position` 0 for one that has nothing in common with any.
    """

    endpoint: Id
    anchor: Id
    position: Annotated[int, Meta(ge=0, le=MAX_CHAIN_BLOCKS)]
    tail: Annotated[bytes, Meta(max_length=MAX_CHAIN_BLOCKS * HASH_BYTES)]


class Opening(Struct, frozen=True, array_like=True, gc=False):
    """The sender leaves an endpoint alone for `left_ms` from now, for the `opening`th time."""

    endpoint: Id
    opening: Number
    left_ms: Number


class Sample(Struct, frozen=True, array_like=True, gc=False):
    """How soon an endpoint answered: with so many tokens to compute before it the first token came in `first_us`, the others `between_us` apart."""

    endpoint: Id
    uncached_tokens: Number
    first_us: Number
    between_us: Number


class Message(Struct, frozen=True, array_like=True):
    """From the gateway at `place`, which is there `since` (Unix ms, growing with each start); `serial` grows with each of its messages.

    `missing` are chains that it could not follow, by their last blocks.
    """

    place: Annotated[str, Meta(min_length=1, max_length=MAX_PLACE_BYTES)]
    since: Id
    serial: Id
    tallies: Annotated[list[Tally], Meta(max_length=MAX_PARTS)]
    inserts: Annotated[list[Insert], Meta(max_length=MAX_PARTS)]
    openings: Annotated[list[Opening], Meta(max_length=MAX_PARTS)]
    missing: Annotated[list[Id], Meta(max_length=MAX_PARTS)]
    samples: Annotated[list[Sample], Meta(max_length=MAX_PARTS)]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
"""Raises msgspec.DecodeError (ValidationError is one) for what is no message."""


def packed(hashes: Sequence[int]) -> bytes:
    """Hashes of blocks, each in [0, 2^64)."""
    return _ordered(array("Q", hashes)).tobytes()


def unpacked(data: bytes) -> array[int]:
    """Raises msgspec.ValidationError where `data` is no whole number of hashes."""
    if len(data) % HASH_BYTES:
        raise msgspec.ValidationError(f"{len(data)} bytes are no whole number of hashes")
    hashes = array("Q")
    hashes.frombytes(data)
    return _ordered(hashes)


def _ordered(hashes: array[int]) -> array[int]:
    if sys.byteorder == "big":
        hashes.byteswap()
    return hashes
