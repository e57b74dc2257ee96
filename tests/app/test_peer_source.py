"""A model from another node's cache: over HTTP, with the token only, checked, and from its source where that fails."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.app import download as module
from penstock.app import part_file, peer_source
from penstock.app.model_cache import cached
from penstock.contracts.peers import PEERS, Peer, Peers
from penstock.contracts.source import RemoteFile, Snapshot
from penstock.host.kubelet.layout import Layout
from penstock.host.model_store import RECORD, ModelStore, Record, read, seal
from penstock.host.peer_server import PeerServer

URI = "https://host/model"
CONTENT = {"weights.bin": os.urandom(20_500), "sub/config.json": b"{}", "empty": b""}


class Source:
    """The model's source, that counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def snapshot(self) -> Snapshot:
        return Snapshot(
            files=tuple(RemoteFile(path=n, size_bytes=len(c), version="v1") for n, c in CONTENT.items())
        )

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        self.asked.append(file.path)
        yield CONTENT[file.path][start:stop]


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    served = Layout(tmp_path)
    server = PeerServer(served, ("a", "b"))
    server.start()
    yield served
    server.close()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "PART_BYTES", 1000)
    monkeypatch.setattr(module, "PARTED_BYTES", 2000)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_source, "QUIET_S", 30.0)


def brought(layout: Layout, node: str) -> list[str]:
    """What the source was asked for."""
    source = Source()
    folder = cached(layout.cache(node), URI, source, source.snapshot().files)
    assert {n: (folder / n).read_bytes() for n in CONTENT} == CONTENT
    return source.asked


def test_the_second_node_takes_it_from_the_first(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(brought(layout, "a")) == set(CONTENT)
    assert brought(layout, "b") == []
    assert "another node has this model" in capsys.readouterr().out
    blobs = [path.name for path in layout.cache("a").glob("blobs/*/*")]
    assert sorted(blobs) == sorted(path.name for path in layout.cache("b").glob("blobs/*/*"))
    records = [read(path, Record) for n in "ab" for path in layout.cache(n).glob(f"models/*/*/{RECORD}")]
    assert [one.is_from_peer for one in records if one] == [False, True]
    (one,) = [path for path in layout.cache("a").glob("blobs/*/*") if path.stat().st_size > 20_000]
    assert not one.samefile(layout.cache("b") / one.relative_to(layout.cache("a")))


def test_content_that_another_node_has_spoiled_comes_from_the_source(layout: Layout) -> None:
    brought(layout, "a")
    (blob,) = [path for path in layout.cache("a").glob("blobs/*/*") if path.stat().st_size > 20_000]
    blob.chmod(0o600)
    blob.write_bytes(bytes(20_500))
    seal(blob, blob.name)
    assert "weights.bin" in brought(layout, "b")


def test_a_content_that_is_gone_there_comes_from_the_source(layout: Layout) -> None:
    brought(layout, "a")
    for blob in layout.cache("a").glob("blobs/*/*"):
        blob.unlink()
    assert set(brought(layout, "b")) == set(CONTENT)


def test_a_server_that_is_gone_costs_nothing_but_a_request(layout: Layout, tmp_path: Path) -> None:
    brought(layout, "a")
    peers = Peers(peers=(Peer(url="http://127.0.0.1:9/a", token="t"),))
    (layout.cache("b") / PEERS).write_bytes(peers.encoded())
    assert set(brought(layout, "b")) == set(CONTENT)


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/a/records/x/y", "", 401),
        ("/a/records/x/y", "wrong", 401),
        ("/a/records/../../config", None, 404),
        ("/zz/blobs/blake3/" + "0" * 64, None, 404),
        ("/a/blobs/blake3/" + "0" * 64, None, 404),
        ("/a/../token", None, 404),
    ],
)
def test_nothing_is_given_without_the_token_and_nothing_but_models(
    layout: Layout, path: str, token: str | None, status: int
) -> None:
    known = msgspec.json.decode((layout.cache("b") / PEERS).read_bytes(), type=Peers)
    base = known.peers[0].url.rsplit("/", 1)[0]
    given = known.peers[0].token if token is None else token
    request = urllib.request.Request(base + path, headers={"authorization": f"Bearer {given}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert answer.code == status
    assert (layout.cache("b") / PEERS).stat().st_mode & 0o077 == 0


def test_the_peers_file_is_no_model(layout: Layout) -> None:
    assert ModelStore(layout.cache("a")).model_keys() == ()
