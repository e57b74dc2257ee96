"""Model caches of two hosts, each with a data folder and a process of its own: one gives, the other takes, and strangers get nothing."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from free_ports import free_port
from penstock.app import peer_source
from penstock.app.model_cache import cached
from penstock.app.peer_settings import ModelPeers
from penstock.app.settings import load
from penstock.contracts.source import RemoteFile, Snapshot
from penstock.host.api.certificate import ensure_certificate
from penstock.host.kubelet.layout import Layout
from penstock.host.peer_server import PeerServer
from penstock.kit.errors import InvalidInput, Unavailable

URI = "https://host/model"
CONTENT = {"weights.bin": os.urandom(20_500), "sub/config.json": b"{}"}
GIVER = """
import sys, time, msgspec
from pathlib import Path
from penstock.app.peer_settings import ModelPeers
from penstock.host.kubelet.layout import Layout
from penstock.host.peer_server import PeerServer

told = msgspec.json.decode(sys.argv[2], type=ModelPeers, dec_hook=lambda kind, text: kind(text))
PeerServer(Layout(Path(sys.argv[1])), ("far",), opening=told.opening()).start()
print("serves", flush=True)
sys.stdin.read()
"""


class Source:
    """The model's source, that counts what it is asked for; with `promised` it says digests."""

    def __init__(self, *, promised: bool = False, content: dict[str, bytes] = CONTENT) -> None:
        self.asked: list[str] = []
        self._content, self._promised = content, promised

    def snapshot(self) -> Snapshot:
        return Snapshot(files=tuple(self._file(name, body) for name, body in self._content.items()))

    def _file(self, name: str, body: bytes) -> RemoteFile:
        digest = hashlib.sha256(body).hexdigest() if self._promised else ""
        return RemoteFile(path=name, size_bytes=len(body), version="v1", sha256=digest)

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        self.asked.append(file.path)
        yield self._content[file.path][start:stop]


def brought(cache: Path, source: Source | None = None) -> list[str]:
    """What the source was asked for."""
    source = source or Source()
    folder = cached(cache, URI, source, source.snapshot().files)
    assert {n: (folder / n).read_bytes() for n in CONTENT} == CONTENT
    return source.asked


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_source, "QUIET_S", 30.0)


def secret_in(path: Path, text: str = "0123456789abcdef0123") -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


class Hosts:
    """The one that has the model gives it at `url`; `taker` is the cache of a node of the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = secret_in(folder / "secret")
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        (folder / "giver").mkdir()
        made = ensure_certificate(folder / "giver", now_s=time.time())
        self.authorities = made.certificate
        self.told = ModelPeers(
            listen=f"127.0.0.1:{self.port}",
            secret_file=self.secret,
            tls_certificate=made.certificate,
            tls_key=made.key,
        )
        brought(Layout(folder / "giver").cache("far"))

    def give(self, told: ModelPeers) -> subprocess.Popen[bytes]:
        said = msgspec.json.encode(told, enc_hook=str)
        argv = [sys.executable, "-c", GIVER, str(self.folder / "giver"), said.decode()]
        giver = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert giver.stdout
        assert giver.stdout.readline() == b"serves\n"
        return giver

    def taker(self, **other: object) -> Path:
        told = ModelPeers(hosts=(self.url,), secret_file=self.secret, tls_authorities=self.authorities)
        told = msgspec.structs.replace(told, **other)
        layout = Layout(self.folder / "taker")
        server = PeerServer(layout, ("near",), others=told.peers())
        server.start()
        server.close()
        return layout.cache("near")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    with made.give(made.told) as giver:
        yield made
        giver.communicate()


def test_a_model_comes_from_the_other_host_over_tls(hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    assert brought(hosts.taker()) == []
    assert "another node has this model" in capsys.readouterr().out


def test_a_connection_that_says_nothing_keeps_nobody_waiting(hosts: Hosts) -> None:
    with socket.create_connection(("127.0.0.1", hosts.port)):
        assert brought(hosts.taker()) == []


def test_without_the_common_secret_the_source_is_asked(hosts: Hosts) -> None:
    other = secret_in(hosts.folder / "other", "another secret of its own")
    assert set(brought(hosts.taker(secret_file=other))) == set(CONTENT)


def test_a_host_whose_certificate_nobody_vouches_for_is_not_told_the_token(hosts: Hosts) -> None:
    strangers = ensure_certificate(hosts.folder, now_s=time.time()).certificate
    assert set(brought(hosts.taker(tls_authorities=strangers))) == set(CONTENT)


def test_what_the_source_promises_goes_before_what_the_other_host_has(hosts: Hosts) -> None:
    assert set(brought(hosts.taker(), Source(promised=True))) == set(CONTENT)


@pytest.mark.parametrize("path", ["/records/" + "0" * 32 + "/" + "0" * 32, "/../secret", "/far/../../secret"])
def test_nothing_but_models_is_given(hosts: Hosts, path: str) -> None:
    opening = hosts.told.opening()
    assert opening
    for token, status in ((opening.token, 404), ("wrong", 401)):
        request = urllib.request.Request(hosts.url + path, headers={"authorization": f"Bearer {token}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, context=ssl.create_default_context(cafile=hosts.authorities))
        with refused.value as answer:
            assert answer.code == status


def test_it_gives_no_faster_than_it_was_told(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    with hosts.give(msgspec.structs.replace(hosts.told, bytes_per_s=40_000.0)) as giver:
        began = time.monotonic()
        assert brought(hosts.taker()) == []
        assert time.monotonic() - began > len(CONTENT["weights.bin"]) / 40_000
        giver.communicate()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = ModelPeers(listen=f"127.0.0.1:{port}", secret_file=secret_in(tmp_path / "secret"))
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} cannot be used"):
            PeerServer(Layout(tmp_path), ("a",), opening=told.opening()).start()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    secret = secret_in(tmp_path / "secret")
    told = ModelPeers(
        listen="0.0.0.0:7000", secret_file=secret, tls_certificate=tmp_path / "none", tls_key=secret
    )
    with pytest.raises(
        InvalidInput, match=r"tlsCertificate: .*none and its key cannot be used: No such file"
    ):
        PeerServer(Layout(tmp_path), ("a",), opening=told.opening()).start()


def _open_to_all(folder: Path) -> dict[str, object]:
    return {"listen": "127.0.0.1:7000", "secretFile": str(secret_in(folder / "open"))}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            lambda f: {"listen": "0.0.0.0:7000", "secretFile": str(secret_in(f / "s"))},
            "tlsCertificate is not set",
        ),
        (lambda f: {"listen": "127.0.0.1:7000"}, "secretFile: found nothing"),
        (lambda f: {"hosts": ["https://10.0.0.2:7000"]}, "secretFile: found nothing"),
        (
            lambda f: {"listen": "127.0.0.1:7000", "secretFile": str(secret_in(f / "s", "short"))},
            "at least 16",
        ),
        (lambda f: {"listen": "127.0.0.1:7000", "secretFile": str(f / "none")}, "cannot be read"),
        (
            lambda f: {"hosts": ["http://10.0.0.2:7000"], "secretFile": str(secret_in(f / "s"))},
            "is another machine, expected https",
        ),
        (
            lambda f: {"hosts": ["https://10.0.0.2/x"], "secretFile": str(secret_in(f / "s"))},
            "expected https://HOST:PORT",
        ),
        (lambda f: _open_to_all(f) | {"tlsKey": "/k"}, "found one of tlsCertificate and tlsKey"),
        (lambda f: {"listens": "127.0.0.1:7000"}, "listens"),
    ],
)
def test_settings_that_would_open_it_to_strangers_are_refused(
    tmp_path: Path, told: Callable[[Path], dict[str, object]], expected: str
) -> None:
    (tmp_path / "config.yaml").write_text(msgspec.json.encode({"modelPeers": told(tmp_path)}).decode())
    with pytest.raises(InvalidInput, match=expected):
        load({"PENSTOCK_HOME": str(tmp_path)})


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    told = _open_to_all(tmp_path)
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "config.yaml").write_text(msgspec.json.encode({"modelPeers": told}).decode())
    with pytest.raises(InvalidInput, match="may be read by other users"):
        load({"PENSTOCK_HOME": str(tmp_path)})
