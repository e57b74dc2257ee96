import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.host.api.protobuf import MAGIC, decode
from penstock.kit.errors import InvalidInput, PlatformError, UnsupportedMedia


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = field(1, api_version) + field(2, kind)
    return MAGIC + field(1, type_meta) + field(2, raw) + field(3, "") + field(4, "")


def test_maps_lists_and_bytes_become_json() -> None:
    meta = field(1, "s") + field(3, "default") + field(11, field(1, "k") + field(2, "v")) + field(8, b"")
    raw = (
        field(1, meta)
        + field(2, field(1, "token") + field(2, b"\xff\x00"))
        + field(3, "Opaque")
        + field(5, 1)
    )
    assert decode(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default", "labels": {"k": "v"}},
        "data": {"token": "/wA="},
        "type": "Opaque",
        "immutable": True,
    }


def test_a_zero_that_was_given_is_kept_and_one_that_was_not_is_left_out() -> None:
    given_zero = decode(envelope("apps/v1", "Deployment", field(2, field(1, 0) + field(5, 0))))
    assert given_zero["spec"] == {"replicas": 0}
    negative = decode(envelope("v1", "DeleteOptions", field(1, -1)))
    assert negative["gracePeriodSeconds"] == -1


def test_a_quantity_is_a_text() -> None:
    limits = field(1, field(1, "cpu") + field(2, field(1, "500m")))
    container = field(1, "main") + field(8, limits)
    raw = field(2, field(3, field(2, field(2, container))))
    pods = decode(envelope("apps/v1", "Deployment", raw))["spec"]["template"]["spec"]
    assert pods["containers"] == [{"name": "main", "resources": {"limits": {"cpu": "500m"}}}]


def test_what_is_not_understood_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(UnsupportedMedia, match="CronTab"):
        decode(envelope("v1", "CronTab", b""))
    volume = field(2, field(3, field(2, field(1, b"something"))))
    with pytest.raises(UnsupportedMedia, match="field 1 of PodSpec") as caught:
        decode(envelope("apps/v1", "Deployment", volume))
    assert "kubectl apply" in caught.value.hint
    with pytest.raises(InvalidInput):
        decode(b"{}")


@given(st.binary(max_size=200), st.sampled_from(["", "Deployment", "Secret"]))
def test_whatever_arrives_is_an_object_or_an_error_of_ours(noise: bytes, kind: str) -> None:
    with contextlib.suppress(PlatformError):
        assert isinstance(decode(envelope("v1", kind, noise) if kind else MAGIC + noise), dict)
