"""Frames arrive whole and in order however the stream is cut, and a broken stream is noticed."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.frames import (
    MAX_FRAME_BYTES,
    Add,
    Cancel,
    Downward,
    Failed,
    Loaded,
    Sampling,
    Step,
    Unframer,
    Update,
    Upward,
    encode,
)

samplings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 10_000),
    temperature=st.floats(0, 2),
    seed=st.none() | st.integers(0, 2**63 - 1),
    json_schema=st.none() | st.text(max_size=20),
)
downward = st.lists(
    st.builds(Add, id=st.integers(1, 2**40), tokens=st.lists(st.integers(0, 300_000)), sampling=samplings)
    | st.builds(Cancel, id=st.integers(1, 2**40)),
    max_size=5,
)
updates = st.builds(
    Update,
    id=st.integers(1, 2**40),
    tokens=st.lists(st.integers(0, 300_000), max_size=5),
    logprobs=st.lists(st.floats(-100, 0), max_size=5),
    finish=st.sampled_from(["", "stop", "length"]),
)
upward = st.lists(
    st.builds(
        Step, updates=st.lists(updates, max_size=4), running=st.integers(0, 99), kv_usage=st.floats(0, 1)
    )
    | st.builds(Loaded, blocks=st.integers(1, 9999), tokenizer=st.text(max_size=20))
    | st.builds(Failed, message=st.text(max_size=30)),
    max_size=5,
)


@given(downward, upward, st.integers(1, 40))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(
    down: list[Add | Cancel], up: list[Step | Loaded | Failed], size: int
) -> None:
    for kind, messages in ((Downward, down), (Upward, up)):
        stream = b"".join(map(encode, messages))
        unframer, found = Unframer(kind), []
        for at in range(0, len(stream), size):
            found += unframer.feed(stream[at : at + size])
        assert found == messages


def test_a_frame_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        Unframer(Upward).feed(struct.pack("<I", MAX_FRAME_BYTES + 1))


def test_a_message_of_the_other_direction_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Unframer(Upward).feed(encode(Cancel(1)))
