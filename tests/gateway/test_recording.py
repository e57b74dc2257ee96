"""Recordings hold no words, can be matched with no other recording, end when nobody fetches them, and are bounded."""

from __future__ import annotations

import msgspec
import pytest
from routed_calls import answer, call, prompt, router, send

from penstock.gateway import recording
from penstock.gateway.call import Call
from penstock.gateway.explained import Explained
from penstock.gateway.recording import LEASE_S, MAX_RECORDINGS, RecordedRequest, Recordings, fetched
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Exhausted, InvalidInput

ONE, OTHER = "0" * 32, "1" * 32


class Clock(SystemClock):
    """Stands still until it is told."""

    at = 10.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> float:
        return 1_000.0 + self.at


def ended(number: int = 0, *, session: str = "") -> Call:
    """A call at 10 s, routed by a new router, that was answered."""
    by, one = router(), call()
    send(Explained(SystemClock()), by, one, prompt(number, session=session))
    answer(by, one, cached=16)
    return one


def take(recordings: Recordings, one: Call) -> None:
    assert one.trail is not None
    recordings.ended(one, one.trail, recordings._clock.monotonic())


def read(recordings: Recordings, about: str) -> list[RecordedRequest]:
    return [msgspec.json.decode(line, type=RecordedRequest) for line in recordings.fetch(about).lines]


def test_what_ended_since_the_last_fetch_is_fetched_once() -> None:
    recordings = Recordings(Clock())
    take(recordings, ended())
    assert read(recordings, ONE) == []
    take(recordings, ended(session="talk"))
    (got,) = read(recordings, ONE)
    assert (got.timestamp, got.ttft_ms) == (1_010_000.0, 500.0)
    assert (got.input_length, got.output_length, got.cached, got.predicted_cached) == (320, 5, 16, 0.0)
    assert (got.block_tokens, len(got.hash_ids), got.prompt_class) == (16, 20, "short")
    assert (got.model, got.profile, got.status) == ("default/m", "", 200)
    assert got.session
    assert read(recordings, ONE) == []


def test_equal_prompts_are_equal_in_one_recording_and_in_no_two() -> None:
    recordings = Recordings(Clock())
    read(recordings, ONE)
    read(recordings, OTHER)
    for number in (1, 1, 2):
        take(recordings, ended(number, session="talk"))
    one, other = read(recordings, ONE), read(recordings, OTHER)
    assert one[0].hash_ids == one[1].hash_ids
    assert not set(one[0].hash_ids) & set(one[2].hash_ids)
    assert not {n for got in one for n in got.hash_ids} & {n for got in other for n in got.hash_ids}
    assert one[0].session == one[1].session != other[0].session
    plain = {block for got in (prompt(1), prompt(2)) for block in got.hashes}
    assert not plain & {n for got in one for n in got.hash_ids}


def test_only_the_model_that_was_asked_for_is_recorded() -> None:
    recordings = Recordings(Clock())
    read(recordings, f"{ONE} default/other")
    read(recordings, f"{OTHER} default/m")
    take(recordings, ended())
    assert read(recordings, f"{ONE} default/other") == []
    assert len(read(recordings, f"{OTHER} default/m")) == 1


def test_what_came_before_the_recording_is_not_in_it() -> None:
    clock = Clock()
    recordings = Recordings(clock)
    clock.at = 10.5
    read(recordings, ONE)
    take(recordings, ended())
    assert read(recordings, ONE) == []


def test_a_recording_that_nobody_fetches_ends() -> None:
    clock = Clock()
    recordings = Recordings(clock)
    read(recordings, ONE)
    assert recordings.active
    clock.at += LEASE_S + 1
    take(recordings, ended())
    assert not recordings.active
    assert read(recordings, ONE) == []


def test_what_there_is_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 1500)
    recordings = Recordings(Clock())
    recordings.fetch(ONE)
    for _ in range(10):
        take(recordings, ended())
    got = recordings.fetch(ONE)
    assert len(got.lines) + got.dropped == 10
    assert 0 < len(got.lines) < 10
    assert recordings.fetch(ONE).dropped == 0


def test_there_are_no_more_recordings_than_allowed() -> None:
    recordings = Recordings(Clock())
    for number in range(MAX_RECORDINGS):
        recordings.fetch(f"{number:032x}")
    with pytest.raises(Exhausted, match="at once"):
        recordings.fetch("f" * 32)
    assert recordings.answer("f" * 32) == b""


@pytest.mark.parametrize("about", ["", "short", "G" * 32, "0" * 33])
def test_an_id_that_is_none_is_refused(about: str) -> None:
    with pytest.raises(InvalidInput, match="hexadecimal"):
        Recordings(Clock()).fetch(about)


def test_answers_that_cannot_be_read_are_left_out() -> None:
    recordings = Recordings(Clock())
    good = recordings.answer(ONE)
    assert len(fetched([b"", b"\x93x", good])) == 1
