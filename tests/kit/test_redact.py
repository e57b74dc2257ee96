"""Secrets stay out of what is logged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.kit.redact import MASK, is_secret_name, redact, redact_text

SECRET = "Zq3" * 8


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}", f"authorization: basic {SECRET}", f"https://user:{SECRET}@host/x", f"s3://{SECRET[:5]}:{SECRET}@b/x",
        f"password={SECRET}", f"AWS_SECRET_ACCESS_KEY='{SECRET}'", f'{{"api_key": "{SECRET}"}}', f"/x?token={SECRET}&a=1", f"hf_{SECRET}",
        f"sk-{SECRET}", f"ghp_{SECRET}", "AKIAABCDEFGHIJKLMNOP", f"eyJhbGciOiJ.{SECRET}.{SECRET}", f"X-Amz-Signature={SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
    ],
)  # fmt: skip
def test_secrets_in_text_are_masked(text):
    redacted = redact_text(text)
    assert SECRET not in redacted
    assert MASK in redacted
    assert redact_text(redacted).count(MASK) >= redacted.count(MASK)


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=100 is fine?",
        "GET /v1/models 200",
        "the tokenizer loaded",
        "gs://bucket/model",
        "secretName missing",
        "127.0.0.1:8080",
        "task-runner",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True), ("AWS_SECRET_ACCESS_KEY", True), ("apiKey", True), ("x-api-key", True), ("Authorization", True), ("Cookie", True),
        ("password", True), ("DB_PASSWORD", True), ("privateKey", True), ("connectionString", True), ("hfToken", True),
        ("max_tokens", False), ("prompt_tokens", False), ("tokenizer", False), ("secretName", False), ("key", False), ("author", False), ("monkey", False),
    ],
)  # fmt: skip
def test_names_say_whether_they_hold_secrets(name, secret):
    assert is_secret_name(name) is secret


def test_a_manifest_can_be_logged():
    manifest = {
        "kind": "List",
        "items": [
            {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": SECRET}, "stringData": {"b": SECRET}},
            {"env": [{"name": "HF_TOKEN", "value": SECRET}, {"name": "HF_HOME", "value": "/tmp"}]},
            {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}]},
            {
                "headers": {"Authorization": f"Bearer {SECRET}", "n": 5, "ok": True},
                "args": ["--x", f"--token={SECRET}"],
            },
        ],
    }
    redacted = redact(manifest)
    assert SECRET not in repr(redacted)
    assert redacted["items"][0]["metadata"] == {"name": "s"}
    assert redacted["items"][0]["data"] == {"a": MASK}
    assert redacted["items"][1]["env"][1] == {"name": "HF_HOME", "value": "/tmp"}
    assert redacted["items"][2] == manifest["items"][2]
    assert redacted["items"][3]["headers"] == {"Authorization": MASK, "n": 5, "ok": True}
    assert SECRET in repr(manifest)


def test_what_is_too_deep_to_look_at_is_masked():
    nest: object = SECRET
    for _ in range(200):
        nest = [nest]
    assert SECRET not in repr(redact(nest))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_redacting_twice_is_redacting_once(value):
    assert redact(redact(value)) == redact(value)


def test_a_secret_behind_another_name_is_masked_and_padding_stays_part_of_it():
    assert redact_text("s3: password=hunter2") == f"s3: password={MASK}"
    assert redact_text("token=YWJjZA==") == f"token={MASK}"
    assert redact_text("a: b=c token: xyz") == f"a: b=c token: {MASK}"
