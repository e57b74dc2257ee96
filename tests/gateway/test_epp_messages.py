"""What Envoy writes is read, and what we write Envoy reads, as Google's library sees both."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from ext_proc_messages import Struct, header_map, headers_of, kind, request, response
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.epp import messages
from penstock.gateway.epp.messages import CHUNK_BYTES, Mode, Modes
from penstock.gateway.epp.structs import MAX_DEPTH, read_struct, struct
from penstock.kit.errors import InvalidInput

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_metadata_is_read_as_it_was_written(members: dict[str, Any]) -> None:
    written = Struct()
    written.update(members)
    assert read_struct(written.SerializeToString()) == members


@given(st.dictionaries(TEXTS, TEXTS | st.dictionaries(TEXTS, TEXTS, max_size=3), max_size=4))
def test_metadata_is_written_so_that_others_read_it(members: dict[str, Any]) -> None:
    read = Struct.FromString(struct(members))
    told = {
        key: dict(value) if isinstance(members[key], dict) else value
        for key, value in ((key, read[key]) for key in read)
    }
    assert told == members


def test_metadata_that_is_nested_without_end_is_refused() -> None:
    members: dict[str, Any] = {"leaf": "x"}
    for _ in range(MAX_DEPTH + 2):
        members = {"inner": members}
    written = Struct()
    written.update(members)
    with pytest.raises(InvalidInput, match="deeper"):
        read_struct(written.SerializeToString())


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused_or_read_but_never_break_anything(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        messages.read(data)


def test_a_head_is_read_with_its_metadata_and_the_modes() -> None:
    shown = messages.read(
        request(
            request_headers={
                "headers": header_map({":path": "/v1/completions", "X-Tenant": "é"}),
                "end_of_stream": True,
            },
            metadata={"envoy.lb.subset_hint": {"some": ["a", "b"]}},
            modes=(Mode.BUFFERED, Mode.NONE),
            observability_mode=True,
        )
    )
    assert shown.kind == "request_headers"
    assert shown.headers == [(b":path", b"/v1/completions"), (b"x-tenant", "é".encode())]
    assert shown.ends
    assert shown.metadata == {"envoy.lb.subset_hint": {"some": ["a", "b"]}}
    assert shown.modes == Modes(Mode.BUFFERED, Mode.NONE)


def test_a_header_from_an_envoy_that_writes_texts_is_read_too() -> None:
    shown = messages.read(
        request(response_headers={"headers": {"headers": [{"key": ":status", "value": "200"}]}})
    )
    assert shown.kind == "response_headers"
    assert shown.headers == [(b":status", b"200")]
    assert shown.modes is None


@pytest.mark.parametrize("name", ["request_body", "response_body"])
def test_a_piece_of_a_body_is_read(name: str) -> None:
    shown = messages.read(request(**{name: {"body": b"abc", "end_of_stream": True}}))
    assert (shown.kind, shown.body, shown.ends) == (name, b"abc", True)


def test_the_head_goes_on_with_headers_and_metadata() -> None:
    read = response(messages.headers_answer("request", [(b"x-a", b"1")], {"envoy.lb": {"x-a": "1"}}))
    assert kind(read) == "request_headers"
    assert headers_of(read.request_headers.response.header_mutation) == {"x-a": "1"}
    assert read.dynamic_metadata["envoy.lb"]["x-a"] == "1"


@given(st.integers(0, 3 * CHUNK_BYTES), st.booleans())
def test_a_body_goes_on_in_pieces_that_envoy_takes_and_only_the_last_ends_it(size: int, ends: bool) -> None:
    body = bytes(size)
    read = [response(one) for one in messages.streamed("response", body, ends=ends)]
    pieces = [one.response_body.response.body_mutation.streamed_response for one in read]
    assert b"".join(piece.body for piece in pieces) == body
    assert all(len(piece.body) <= CHUNK_BYTES for piece in pieces)
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [ends]


def test_a_whole_body_is_replaced_or_left_as_it_was() -> None:
    replaced = response(messages.body_answer("request", (), b"other")).request_body.response
    assert replaced.body_mutation.body == b"other"
    assert not response(messages.body_answer("request")).request_body.response.HasField("body_mutation")


def test_trailers_go_on() -> None:
    assert kind(response(messages.trailers_answer("request"))) == "request_trailers"
    assert kind(response(messages.trailers_answer("response"))) == "response_trailers"


def test_an_immediate_answer_has_status_headers_and_body() -> None:
    read = response(messages.immediate(429, [(b"retry-after", b"1")], b"{}", "why")).immediate_response
    assert (read.status.code, read.body, read.details) == (429, b"{}", "why")
    assert headers_of(read.headers) == {"retry-after": "1"}
