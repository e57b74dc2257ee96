"""Rows of fields are read and written as Protocol Buffers' own library does."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.errors import InvalidInput
from penstock.kit.protobuf import bytes_field, double, fields, number_field, text_field


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_written_and_read_as_the_library_does(value: int) -> None:
    theirs = wrappers_pb2.UInt64Value(value=value).SerializeToString()
    assert number_field(1, value) == theirs
    assert list(fields(theirs)) == ([(1, value)] if value else [])


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_a_text_is_written_and_read_as_the_library_does(text: str) -> None:
    theirs = wrappers_pb2.StringValue(value=text).SerializeToString()
    assert list(fields(text_field(1, text))) == [(1, text.encode())]
    assert theirs in (text_field(1, text), b"")


@given(st.floats(allow_nan=False))
def test_a_double_is_read(value: float) -> None:
    for number, data in fields(wrappers_pb2.DoubleValue(value=value).SerializeToString()):
        assert number == 1
        assert isinstance(data, bytes)
        assert double(data) == value


def test_fields_of_messages_within_messages_come_as_bytes() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="a", message_type=[{"name": "b"}])  # type: ignore[list-item]
    (name, inner) = fields(file.SerializeToString())
    assert name == (1, b"a")
    assert inner == (4, text_field(1, "b"))


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\x05ab", b"\x0b", b"\x02a", b"\x80" * 11, b"\x09\x00", b"\x08"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="no Protocol Buffers message"):
        list(fields(data))


@given(st.binary(max_size=200), st.integers(1, 2**20))
def test_bytes_come_back_under_their_number(data: bytes, number: int) -> None:
    assert list(fields(bytes_field(number, data))) == [(number, data)]
