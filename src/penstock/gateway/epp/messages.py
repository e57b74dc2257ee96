"""Envoy's external processing messages (envoy.service.ext_proc.v3): what is read of a ProcessingRequest, and our ProcessingResponses.

Field numbers are those of external_processor.proto and base.proto; whatever else a message has is left unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from penstock.gateway.epp.structs import map_entry, read_struct, struct
from penstock.gateway.wire.message import Headers
from penstock.kit.protobuf import bytes_field, fields, number_field, text_field

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHUNK_BYTES = 60_000
"""Of a body that is sent back in pieces: Envoy recommends at most 64 KiB for each."""
_OVERWRITE = 2
"""HeaderValueOption.append_action: what the caller sent under that name is not heard."""

Kind = Literal[
    "request_headers",
    "response_headers",
    "request_body",
    "response_body",
    "request_trailers",
    "response_trailers",
]
Side = Literal["request", "response"]
Sets = Sequence[tuple[bytes, bytes]]
"""Headers that are set, names in lower case."""
_KINDS: dict[int, Kind] = {
    2: "request_headers",
    3: "response_headers",
    4: "request_body",
    5: "response_body",
    6: "request_trailers",
    7: "response_trailers",
}
_METADATA, _PROTOCOL = 8, 11
_HEADERS_ANSWER: dict[Side, int] = {"request": 1, "response": 2}
_BODY_ANSWER: dict[Side, int] = {"request": 3, "response": 4}
_TRAILERS_ANSWER: dict[Side, int] = {"request": 5, "response": 6}
_IMMEDIATE, _DYNAMIC_METADATA = 7, 8


class Mode(IntEnum):
    """ProcessingMode.BodySendMode: how bodies are shown to us."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4


class Modes(NamedTuple):
    """Of both bodies. The default is what the Gateway API Inference Extension asks for, and what an Envoy has that does not say."""

    request: int = Mode.FULL_DUPLEX_STREAMED
    response: int = Mode.FULL_DUPLEX_STREAMED


class Shown(NamedTuple):
    """One ProcessingRequest. `ends`: nothing of the request, or answer, comes after it. `metadata` is by namespace; `modes` stand in the first only."""

    kind: Kind | None
    headers: Headers
    body: bytes
    ends: bool
    metadata: Mapping[str, Mapping[str, Any]]
    modes: Modes | None


def read(message: bytes) -> Shown:
    """Raises InvalidInput for what is no message. What is of no kind that is known has None."""
    kind: Kind | None = None
    part, metadata, modes = b"", {}, None
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if number in _KINDS:
            kind, part = _KINDS[number], value
        elif number == _METADATA:
            metadata = _metadata(value)
        elif number == _PROTOCOL:
            modes = _modes(value)
    headers: Headers = []
    body, ends = b"", False
    is_body = kind is not None and kind.endswith("body")
    for number, value in fields(part):
        if number == 1 and isinstance(value, bytes):
            if is_body:
                body = value
            else:
                headers = _headers(value)
        elif number == (2 if is_body else 3):
            ends = bool(value)
    return Shown(kind, headers, body, ends, metadata, modes)


def headers_answer(
    side: Side, set_headers: Sets = (), metadata: Mapping[str, Mapping[str, str]] | None = None
) -> bytes:
    """Go on, with these headers in place of any of their names, and this dynamic metadata for the filters that follow."""
    return _answer(_HEADERS_ANSWER[side], _mutation(set_headers), metadata)


def body_answer(
    side: Side,
    set_headers: Sets = (),
    body: bytes | None = None,
    metadata: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """Go on with the piece as it was, or with `body` in its place. Headers can be set only where the whole body was waited for."""
    replaced = b"" if body is None else bytes_field(3, bytes_field(1, body))
    return _answer(_BODY_ANSWER[side], _mutation(set_headers) + replaced, metadata)


def streamed(side: Side, body: bytes, *, ends: bool) -> Iterable[bytes]:
    """A body that goes on as pieces of at most CHUNK_BYTES, which is how it must go where both sides stream."""
    starts = range(0, len(body), CHUNK_BYTES) or (0,)
    for start in starts:
        chunk = body[start : start + CHUNK_BYTES]
        is_last = ends and start + CHUNK_BYTES >= len(body)
        piece = (bytes_field(1, chunk) if chunk else b"") + number_field(2, is_last)
        yield _answer(_BODY_ANSWER[side], bytes_field(3, bytes_field(3, piece)))


def trailers_answer(side: Side) -> bytes:
    """Go on with the trailers as they were."""
    return bytes_field(_TRAILERS_ANSWER[side], b"")


def immediate(status: int, set_headers: Sets, body: bytes, details: str) -> bytes:
    """Answer the caller with this, and ask no endpoint. `details` is for Envoy's own log."""
    answer = (
        bytes_field(1, number_field(1, status))
        + bytes_field(2, _set(set_headers))
        + bytes_field(3, body)
        + text_field(5, details)
    )
    return bytes_field(_IMMEDIATE, answer)


def _answer(number: int, common: bytes, metadata: Mapping[str, Mapping[str, str]] | None = None) -> bytes:
    told = bytes_field(_DYNAMIC_METADATA, struct(metadata)) if metadata else b""
    return bytes_field(number, bytes_field(1, common)) + told


def _mutation(set_headers: Sets) -> bytes:
    return bytes_field(2, _set(set_headers)) if set_headers else b""


def _set(set_headers: Sets) -> bytes:
    return b"".join(
        bytes_field(
            1, bytes_field(1, bytes_field(1, name) + bytes_field(3, value)) + number_field(3, _OVERWRITE)
        )
        for name, value in set_headers
    )


def _headers(message: bytes) -> Headers:
    """A HeaderMap's; Envoy writes values as bytes, older ones as texts."""
    found: Headers = []
    for number, one in fields(message):
        if number != 1 or not isinstance(one, bytes):
            continue
        name, value = b"", b""
        for part, text in fields(one):
            if isinstance(text, bytes):
                if part == 1:
                    name = text
                elif text:
                    value = text
        found.append((name.lower(), value))
    return found


def _metadata(message: bytes) -> dict[str, Mapping[str, Any]]:
    entries = (map_entry(one) for number, one in fields(message) if number == 1 and isinstance(one, bytes))
    return {namespace: read_struct(value) for namespace, value in entries}


def _modes(message: bytes) -> Modes:
    found = {number: value for number, value in fields(message) if isinstance(value, int)}
    return Modes(found.get(1, 0), found.get(2, 0))
