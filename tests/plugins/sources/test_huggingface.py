"""Models of a Hub; the one here is small, on loopback, and answers as the real one does where the source asks."""

import hashlib
from collections.abc import Iterator

import pytest

from hub_server import COMMIT, WEIGHTS, Hub, hub_server
from penstock.contracts.source import Changed, RemoteFile
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable
from penstock.plugins.sources.huggingface import open_source

TOKEN = "hf_" + "a1" * 17


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as running:
        yield running


def test_files_are_of_one_commit_with_sizes_and_digests_and_without_pickles(hub: Hub) -> None:
    files = hub.open("hf://owner/bert").snapshot().files
    assert {file.path for file in files} == {"config.json", "onnx/model.onnx", "model.safetensors"}
    assert {file.version for file in files} == {COMMIT}
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert (
        RemoteFile(path="model.safetensors", size_bytes=len(WEIGHTS), version=COMMIT, sha256=digest) in files
    )


def test_pickled_weights_are_kept_where_there_are_no_others(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    assert "pytorch_model.bin" in {file.path for file in hub.open("hf://owner/bert").snapshot().files}


@pytest.mark.parametrize("start", [0, 1, 299_999])
def test_a_file_is_read_from_any_byte_on_through_redirects(hub: Hub, start: int) -> None:
    source = hub.open("hf://owner/bert:v1")
    weights = next(file for file in source.snapshot().files if file.path == "model.safetensors")
    assert b"".join(map(bytes, source.read(weights, start))) == WEIGHTS[start:]


@pytest.mark.parametrize(
    ("uri", "path"),
    [("hf://owner/bert/onnx", "model.onnx"), ("hf://owner/bert/onnx/model.onnx", "model.onnx")],
)
def test_a_part_of_a_repository_is_a_folder_or_a_file_of_it(hub: Hub, uri: str, path: str) -> None:
    source = hub.open(uri)
    (file,) = source.snapshot().files
    assert file.path == path
    assert b"".join(map(bytes, source.read(file, 0))) == hub.files["onnx/model.onnx"]


def test_a_part_that_the_repository_has_not_is_named(hub: Hub) -> None:
    with pytest.raises(NotFound, match="has no 'onn'"):
        hub.open("hf://owner/bert/onn").snapshot()


def test_without_ranges_a_file_begins_anew(hub: Hub) -> None:
    hub.ranges = False
    source = hub.open("hf://owner/bert")
    weights = next(file for file in source.snapshot().files if file.path == "model.safetensors")
    with pytest.raises(Changed):
        list(source.read(weights, 1))
    assert b"".join(map(bytes, source.read(weights, 0))) == WEIGHTS


def test_the_token_goes_along_with_every_request(hub: Hub) -> None:
    source = hub.open("hf://owner/bert", TOKEN)
    config = next(file for file in source.snapshot().files if file.path == "config.json")
    list(source.read(config, 0))
    assert [authorization for _, authorization in hub.asked] == [f"Bearer {TOKEN}"] * 2


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (401, "", Unauthorized, "no such repository, or it is private"),
        (401, "RepoNotFound", Unauthorized, "no such repository, or it is private"),
        (403, "", Forbidden, "answered 403"),
        (403, "GatedRepo", Forbidden, "access is gated"),
        (404, "RepoNotFound", NotFound, "no such repository"),
        (404, "RevisionNotFound", NotFound, "no revision 'main'"),
        (404, "", NotFound, "answered 404"),
        (400, "", Unavailable, "answered 400"),
        (429, "", Unavailable, "answered 429"),
        (500, "", Unavailable, "answered 500"),
    ],
)
def test_a_refusal_of_the_listing_means_what_it_says(
    hub: Hub, status: int, code: str, kind: type[PlatformError], said: str
) -> None:
    hub.refusals = {"/api/": (status, code)}
    with pytest.raises(kind, match=said):
        hub.open("hf://owner/bert").snapshot()


def test_no_error_tells_the_token(hub: Hub) -> None:
    hub.refusals = {"/api/": (401, "")}
    with pytest.raises(Unauthorized) as caught:
        hub.open("hf://owner/bert", TOKEN).snapshot()
    assert TOKEN not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (404, NotFound), (429, Unavailable), (500, Unavailable)],
)
def test_a_refusal_of_a_file_means_what_it_says(hub: Hub, status: int, kind: type[PlatformError]) -> None:
    source = hub.open("hf://owner/bert")
    file = source.snapshot().files[0]
    hub.refusals = {"/owner/": (status, "")}
    with pytest.raises(kind, match=f"the Hub answered {status}"):
        list(source.read(file, 0))


def test_a_revision_or_a_repository_that_is_none_is_not_found(hub: Hub) -> None:
    with pytest.raises(NotFound, match="there is no revision 'v2'"):
        hub.open("hf://owner/bert:v2").snapshot()
    with pytest.raises(NotFound, match="there is no such repository"):
        hub.open("hf://owner/bart").snapshot()


def test_a_hub_that_is_not_there_can_be_tried_again() -> None:
    source = open_source("hf://owner/bert", {"HF_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable, match="the Hub cannot be reached"):
        source.snapshot()
    with pytest.raises(Unavailable, match="the connection failed"):
        list(source.read(RemoteFile(path="config.json", version="main"), 0))


def test_an_answer_that_is_no_listing_can_be_asked_for_again(hub: Hub) -> None:
    hub.refusals = {"/api/": (200, "")}
    with pytest.raises(Unavailable, match="is no listing"):
        hub.open("hf://owner/bert").snapshot()


@pytest.mark.parametrize(
    "uri",
    [
        "hf://",
        "hf://bert",
        "hf://owner/bert:",
        "hf://owner/bert/../x",
        "hf://owner/bert/a/..",
        "hf://owner/bert//a",
        "hf://owner/bert?a",
    ],
)
def test_what_is_no_owner_and_model_is_none(uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected hf://OWNER/MODEL"):
        open_source(uri, {})


@pytest.mark.parametrize("uri", ["hf://-o/m--x", "hf://owner/a..b", "hf://../.."])
def test_a_name_that_no_repository_can_have_is_invalid_input(hub: Hub, uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected hf://OWNER/MODEL"):
        hub.open(uri).snapshot()
    assert hub.asked == []
