"""Models in an S3-compatible store; moto's server is one."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from penstock.contracts.source import Changed, Snapshot
from penstock.kit.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from penstock.plugins.sources import s3 as module
from penstock.plugins.sources.s3 import S3Source, open_source
from s3_server import s3_server

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hunter2"}
WEIGHTS = os.urandom(300_000)
OBJECTS = {
    "one/model.bin": WEIGHTS,
    "one/model.bin.sig": b"signature",
    "models/bert/": b"",
    "models/bert/bert": b"the file that is named like its folder",
    "models/bert/sub/": b"",
    "models/bert/sub/weights.bin": WEIGHTS,
    "models/bert/empty": b"",
    "models/bertha/other.bin": b"not of bert",
}


class Store(NamedTuple):
    """The server, as its owner sees it."""

    endpoint: str
    client: Any = None

    def open(self, uri: str) -> S3Source:
        return open_source(uri, {**KEYS, "AWS_ENDPOINT_URL": self.endpoint})


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server("bkt", "empty") as there:
        for key, content in OBJECTS.items():
            there.client.put_object(Bucket="bkt", Key=key, Body=content)
        yield Store(*there)


def contents(source: S3Source, snapshot: Snapshot) -> dict[str, bytes]:
    return {file.path: b"".join(map(bytes, source.read(file, 0))) for file in snapshot.files}


@pytest.mark.parametrize("uri", ["s3://bkt/models/bert", "s3://bkt/models/bert/"])
def test_a_prefix_is_all_objects_below_it_and_no_folder_markers(store: Store, uri: str) -> None:
    source = store.open(uri)
    assert contents(source, source.snapshot()) == {
        "bert": OBJECTS["models/bert/bert"],
        "sub/weights.bin": WEIGHTS,
        "empty": b"",
    }


def test_a_bucket_is_all_its_objects(store: Store) -> None:
    source = store.open("s3://bkt")
    assert contents(source, source.snapshot()) == {
        key: content for key, content in OBJECTS.items() if not key.endswith("/")
    }


def test_a_single_object_is_one_file(store: Store) -> None:
    source = store.open("s3://bkt/one/model.bin")
    assert contents(source, source.snapshot()) == {"model.bin": WEIGHTS}


def test_sizes_and_versions_are_known_before_anything_is_read(store: Store) -> None:
    for uri in ("s3://bkt/one/model.bin", "s3://bkt/models/bert/sub"):
        (file,) = store.open(uri).snapshot().files
        assert (file.size_bytes, bool(file.version)) == (len(WEIGHTS), True)


@pytest.mark.parametrize("start", [1, 299_999])
def test_it_is_read_from_any_byte_on(store: Store, start: int) -> None:
    source = store.open("s3://bkt/one/model.bin")
    (file,) = source.snapshot().files
    assert b"".join(map(bytes, source.read(file, start))) == WEIGHTS[start:]


def test_an_object_that_changed_is_never_continued(store: Store) -> None:
    store.client.put_object(Bucket="bkt", Key="changing", Body=b"first")
    source = store.open("s3://bkt/changing")
    (file,) = source.snapshot().files
    store.client.put_object(Bucket="bkt", Key="changing", Body=b"other")
    with pytest.raises(Changed):
        list(source.read(file, 2))
    store.client.delete_object(Bucket="bkt", Key="changing")


def test_an_object_that_went_away_is_not_found(store: Store) -> None:
    store.client.put_object(Bucket="bkt", Key="going", Body=b"first")
    source = store.open("s3://bkt/going")
    (file,) = source.snapshot().files
    store.client.delete_object(Bucket="bkt", Key="going")
    with pytest.raises((NotFound, Changed)):
        list(source.read(file, 0))


@pytest.mark.parametrize("uri", ["s3://bkt/nothing", "s3://bkt/models/ber", "s3://empty", "s3://nobucket/x"])
def test_nothing_there_is_not_found(store: Store, uri: str) -> None:
    with pytest.raises(NotFound, match=r"there (are no objects|is no such bucket)"):
        store.open(uri).snapshot()


class Refusal(BaseHTTPRequestHandler):
    """A store that answers nothing else; `moto` refuses reads, but never listings."""

    status, body = 500, b""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (301, "PermanentRedirect", InvalidInput, "in another region"),
        (400, "ExpiredToken", Unauthorized, "credentials are missing or wrong"),
        (401, "", Unauthorized, "credentials are missing or wrong"),
        (403, "InvalidAccessKeyId", Forbidden, "may not be read with these credentials"),
        (404, "NoSuchBucket", NotFound, "there is no such bucket"),
        (400, "Strange", Unavailable, r"does not answer as it should: Strange \(400\)"),
        (400, "", Unavailable, r"does not answer as it should: GenericError \(400\)"),
    ],
)
def test_a_refused_listing_means_what_it_says(
    status: int, code: str, kind: type[PlatformError], said: str
) -> None:
    handler = type(
        "Refusing", (Refusal,), {"status": status, "body": f"<Error><Code>{code}</Code></Error>".encode()}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with pytest.raises(kind, match=said) as caught:
        Store(f"http://127.0.0.1:{server.server_address[1]}").open("s3://bkt/models").snapshot()
    assert "hunter2" not in caught.value.message + caught.value.hint
    server.shutdown()
    server.server_close()
    thread.join(30)


def test_a_refused_read_is_forbidden(store: Store) -> None:
    policy = '{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::*"}]}'
    store.client.create_bucket(Bucket="closed")
    store.client.put_object(Bucket="closed", Key="model.bin", Body=b"x")
    source = store.open("s3://closed/model.bin")
    (file,) = source.snapshot().files
    store.client.put_bucket_policy(Bucket="closed", Policy=policy)
    with pytest.raises(Forbidden, match="may not be read") as caught:
        list(source.read(file, 0))
    assert "Secret of the service account" in caught.value.hint


@pytest.mark.parametrize(("builtin", "kind"), [(FileNotFoundError, NotFound), (PermissionError, Forbidden)])
def test_errors_that_the_library_takes_from_python_mean_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, builtin: type[OSError], kind: type[PlatformError]
) -> None:
    source = store.open("s3://bkt/one/model.bin")

    def fail() -> None:
        raise builtin

    monkeypatch.setattr(source, "_store", fail)
    with pytest.raises(kind):
        source.snapshot()


def test_more_objects_than_a_model_has_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    with pytest.raises(TooLarge, match="more than 3 objects"):
        store.open("s3://bkt").snapshot()


def test_a_store_that_is_not_there_can_be_tried_again_and_keeps_its_secrets() -> None:
    source = open_source("s3://bkt/x", {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable, match="the store cannot be reached") as caught:
        source.snapshot()
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("uri", ["s3://", "s3:///x"])
def test_a_uri_without_a_bucket_is_none(uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected s3://BUCKET/PREFIX"):
        open_source(uri, {})


@pytest.mark.parametrize("uri", ["s3://bkt/a//b", "s3://bkt/../x", "s3://bkt/a/./b"])
def test_a_prefix_that_no_key_can_have_is_told_when_it_is_asked(store: Store, uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected s3://BUCKET/PREFIX"):
        store.open(uri).snapshot()
