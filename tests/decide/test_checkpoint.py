"""A checkpoint counts when it is whole, and not before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.checkpoint import Checkpoint, Found, judge, last_verified, read_manifest
from penstock.resources.checkpoint import SAVED, Manifest
from penstock.testing.factories import pod

DIGEST = "ab" * 32


def manifest(**fields: object) -> Manifest:
    given = {"path": "step-7.npz", "step": 7, "bytes": 100, "sha256": DIGEST, **fields}
    read = read_manifest(json.dumps(given).encode())
    assert isinstance(read, Manifest), read
    return read


def test_a_file_with_the_bytes_and_digest_of_its_manifest_is_whole() -> None:
    found = judge(manifest(save_s=2.5, restore_s=4), Found(bytes=100, digest=DIGEST, written_at=50.0))
    assert found == Checkpoint(
        path="step-7.npz",
        step=7,
        bytes=100,
        digest=f"sha256:{DIGEST}",
        saved_at=50.0,
        save_s=2.5,
        restore_s=4.0,
    )
    assert found.age_s(80.0) == 30.0


def test_a_file_dated_in_the_future_is_new_and_not_younger_than_that() -> None:
    found = judge(manifest(), Found(bytes=100, digest=DIGEST, written_at=50.0))
    assert isinstance(found, Checkpoint)
    assert found.age_s(10.0) == 0.0


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "absent"),
        (Found(bytes=99, digest=DIGEST, written_at=1.0), "99 bytes"),
        (Found(bytes=100, digest="cd" * 32, written_at=1.0), "another sha256"),
    ],
)
def test_what_differs_from_its_manifest_is_none(found: Found | None, why: str) -> None:
    said = judge(manifest(), found)
    assert isinstance(said, str)
    assert why in said


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"path": "/etc/passwd"}, "relative"),
        ({"path": "../other/step"}, "relative"),
        ({"path": "a//b"}, "relative"),
        ({"path": ""}, "relative"),
        ({"step": -1}, "negative"),
        ({"bytes": -1}, "negative"),
        ({"sha256": "ab"}, "sha256 and blake3"),
        ({"sha256": "zz" * 32}, "sha256 and blake3"),
        ({"blake3": DIGEST}, "sha256 and blake3"),
        ({"step": "seven"}, "cannot be read"),
    ],
)
def test_a_manifest_that_leads_elsewhere_or_says_too_little_is_refused(
    fields: dict[str, object], why: str
) -> None:
    text = {"path": "step-7.npz", "step": 7, "bytes": 100, "sha256": DIGEST, **fields}
    said = read_manifest(json.dumps(text).encode())
    assert isinstance(said, str)
    assert why in said


@given(st.binary(max_size=200))
def test_whatever_lies_there_is_read_or_refused(text: bytes) -> None:
    assert isinstance(read_manifest(text), Manifest | str)


def test_spans_that_mean_nothing_count_as_none() -> None:
    found = judge(manifest(save_s=-5, restore_s=-1), Found(bytes=100, digest=DIGEST, written_at=1.0))
    assert isinstance(found, Checkpoint)
    assert (found.save_s, found.restore_s) == (0.0, 0.0)


def test_what_was_verified_is_read_from_the_pod() -> None:
    assert last_verified(pod("a")) is None
    assert last_verified(pod("a", annotations={SAVED: "{"})) is None
    text = json.dumps({"path": "x", "step": 3, "bytes": 1, "digest": "sha256:00", "saved_at": 9.0})
    kept = last_verified(pod("a", annotations={SAVED: text}))
    assert kept is not None
    assert (kept.step, kept.saved_at) == (3, 9.0)
