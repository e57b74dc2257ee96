"""The storage initializer with KServe's `storage`: credentials come as one JSON object; moto's server is the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.app.fetch import CACHE, main
from s3_server import SECRET as WORD
from s3_server import s3_server


@pytest.fixture
def endpoint() -> Iterator[str]:
    with s3_server("models") as there:
        there.client.put_object(Bucket="models", Key="bert/weights.bin", Body=b"weights")
        yield there.endpoint


def test_a_bucket_is_read_with_what_the_key_holds_and_none_of_it_is_shown(
    endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "type": "s3",
        "access_key_id": "me",
        "secret_access_key": WORD,
        "endpoint_url": "http://127.0.0.1:9",
    }
    environ = {
        CACHE: str(tmp_path / "cache"),
        "STORAGE_CONFIG": json.dumps(config),
        "STORAGE_OVERRIDE_CONFIG": json.dumps({"endpoint_url": endpoint, "bucket": "models"}),
    }
    assert main(["s3://models/bert", str(tmp_path / "pod")], environ) == 0
    assert (tmp_path / "pod" / "weights.bin").read_bytes() == b"weights"
    said = capsys.readouterr()
    assert WORD not in said.out + said.err


def test_a_configuration_that_is_none_is_said_without_its_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {CACHE: str(tmp_path / "cache"), "STORAGE_CONFIG": f'["{WORD}"]'}
    assert main(["s3://models/bert", str(tmp_path / "pod")], environ) != 0
    said = capsys.readouterr()
    assert "STORAGE_CONFIG is no JSON object" in said.err
    assert WORD not in said.out + said.err
