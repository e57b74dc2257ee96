"""Files behind web servers, good ones and bad ones."""

import os
from collections.abc import Iterator

import pytest

from file_server import FileServer, etag, file_server
from penstock.contracts.source import Changed, ModelSource, RemoteFile, Unranged
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, PlatformError, Unauthorized, Unavailable
from penstock.plugins.sources.http import open_source

CONTENT = os.urandom(300_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["/m/model.bin"] = CONTENT
        yield running


def opened(server: FileServer, query: str = "") -> tuple[ModelSource, RemoteFile]:
    source = open_source(server.uri("/m/model.bin") + query, {})
    return source, source.snapshot().files[0]


def test_a_file_has_name_size_and_version(server: FileServer) -> None:
    _, file = opened(server, "?sig=1")
    assert file == RemoteFile(path="model.bin", size_bytes=len(CONTENT), version=etag(CONTENT))


@pytest.mark.parametrize("start", [0, 1, 299_999])
@pytest.mark.parametrize("ranges", [True, False])
def test_it_is_read_from_any_byte_on_with_and_without_ranges(
    server: FileServer, start: int, ranges: bool
) -> None:
    server.ranges = ranges
    source, file = opened(server)
    assert b"".join(map(bytes, source.read(file, start))) == CONTENT[start:]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (100, 299_999), (299_999, 300_000)])
def test_a_part_of_it_is_read_alone(server: FileServer, start: int, stop: int) -> None:
    source, file = opened(server)
    assert b"".join(map(bytes, source.read(file, start, stop))) == CONTENT[start:stop]
    assert server.ranges_asked == [f"bytes={start}-{stop - 1}"]


def test_a_server_without_ranges_gives_no_parts(server: FileServer) -> None:
    server.ranges = False
    source, file = opened(server)
    with pytest.raises(Unranged):
        next(iter(source.read(file, 0, 1000)))


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_where_head_is_refused_a_get_tells_the_size(server: FileServer, status: int) -> None:
    server.heads = status
    _, file = opened(server)
    assert file.size_bytes == len(CONTENT)
    assert server.answered == [f"HEAD {status}", "GET 200"]


def test_a_server_that_says_no_size_leaves_it_open(server: FileServer) -> None:
    server.sizes = False
    source, file = opened(server)
    assert file.size_bytes is None
    assert b"".join(map(bytes, source.read(file, 0))) == CONTENT


def test_a_server_that_names_no_version_leaves_it_open(server: FileServer) -> None:
    server.versions = False
    source, file = opened(server)
    assert file.version == ""
    assert b"".join(map(bytes, source.read(file, 1000))) == CONTENT[1000:]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("start", [0, 1000])
def test_another_version_is_never_continued(server: FileServer, start: int, ranges: bool) -> None:
    server.ranges = ranges
    source, file = opened(server)
    server.files["/m/model.bin"] = CONTENT[::-1]
    with pytest.raises(Changed):
        b"".join(map(bytes, source.read(file, start)))


def test_nothing_is_left_after_the_last_byte_of_a_file_of_unknown_size(server: FileServer) -> None:
    server.sizes = False
    source, file = opened(server)
    assert list(source.read(file, len(CONTENT))) == []
    assert server.answered[-1] == "GET 416"


def test_more_than_the_whole_file_cannot_be_continued(server: FileServer) -> None:
    source, file = opened(server)
    with pytest.raises(Changed):
        list(source.read(file, len(CONTENT) + 1))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInput),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (410, NotFound),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_an_answer_means_what_its_status_says(
    server: FileServer, status: int, kind: type[PlatformError]
) -> None:
    source, file = opened(server)
    server.statuses = [status]
    with pytest.raises(kind, match=f"the server answered {status}"):
        list(source.read(file, 0))


def test_a_connection_that_is_cut_can_be_tried_again(server: FileServer) -> None:
    source, file = opened(server)
    server.cuts = [100_000]
    with pytest.raises(Unavailable):
        list(source.read(file, 0))


def test_nobody_there_is_told_without_the_address() -> None:
    source = open_source("http://user:hunter2@127.0.0.1:9/x.bin?sig=hunter2", {})
    with pytest.raises(Unavailable) as caught:
        source.snapshot()
    assert "hunter2" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize(
    "uri",
    [
        "http://",
        "http://h",
        "http://h/",
        "http://[::1/x.bin",
        "http://h:99999/x",
        "http://h:p/x",
        "https:///x",
    ],
)
def test_an_address_without_host_or_file_is_none(uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected https://HOST"):
        open_source(uri, {})


@pytest.mark.parametrize("uri", ["http://a..b/x.bin", "http://xn--/x.bin", "http://127.0.0.1/\x7f"])
def test_a_host_that_can_be_none_is_told_when_it_is_asked(uri: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        open_source(uri, {}).snapshot()
