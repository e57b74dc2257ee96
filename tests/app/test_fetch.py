"""The storage initializer as a program: exit codes, what it says, and what it leaves in the pod's folder."""

import errno
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_server import FileServer, file_server
from penstock.app import fetch as module
from penstock.app import part_streams
from penstock.app.fetch import CACHE, main
from penstock.contracts.model_bindings import SOURCES


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["/m/model.bin"] = b"weights"
        yield running


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_streams, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {CACHE: str(tmp_path / "cache")}


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A user's model on this machine."""
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"mine")
    (folder / "sub" / "x.bin").write_bytes(b"mine")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def archive_of(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"tree"))
    return gzip.compress(out.getvalue())


def test_it_runs_as_a_program_and_says_nothing_but_one_line_of_reason(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "penstock.app.fetch", "ftp://user:hunter2@h/x", str(tmp_path / "a")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "ftp://h/x: fetching\n"
    assert done.stderr.startswith("ftp://h/x: has no known scheme, expected one of file://")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["hf://o/m"], ["hf://o/m", "a", "hf://o/n"]])
def test_wrong_usage_is_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv, {}) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("nothing", 2),
        ("http://[::1/x.bin", 2),
        ("http://a..b/x.bin", 2),
        ("hf://-o/m--x", 2),
        ("hf://o", 2),
        ("s3:///x", 2),
        ("s3://bkt/../x", 2),
        ("file:///a%00b", 2),
        ("file:///no/such/folder", 3),
        ("http://user:hunter2@127.0.0.1:9/x.bin?sig=hunter2", 4),
    ],
)
def test_every_failure_is_one_line_that_names_the_uri_once_and_no_secret(
    uri: str, code: int, tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([uri, str(tmp_path / "a")], environ) == code
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.count(module.public(uri)) == 1
    assert "hunter2" not in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(("status", "code"), [(400, 2), (401, 5), (403, 5), (404, 3), (500, 4), (503, 4)])
def test_an_answer_of_the_server_is_an_exit_code(
    server: FileServer,
    status: int,
    code: int,
    tmp_path: Path,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.heads = status
    server.statuses = [status] * 9
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == code
    assert f"model.bin: the server answered {status}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code"),
    [(archive_of("a", "../b"), 2), (archive_of("a", "a/b"), 2), (archive_of("a")[:-30] + bytes(30), 7)],
    ids=["path traversal", "a file below a file", "damaged"],
)
def test_a_bad_archive_is_told_and_nothing_of_it_is_left(
    server: FileServer,
    content: bytes,
    code: int,
    tmp_path: Path,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.files["/m.tar.gz"] = content
    assert main([server.uri("/m.tar.gz"), str(tmp_path / "a")], environ) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert {path.name for path in tmp_path.rglob("*/models/*/*") if path.is_file()} == {
        "lock",
        "progress.json",
    }
    assert not list(tmp_path.rglob("blobs/*/*"))
    server.files["/m.tar.gz"] = archive_of("a", "b/c")
    assert main([server.uri("/m.tar.gz"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"a": b"tree", "b/c": b"tree"}


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 6, "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 6, "the disk is full"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x/y"), 2, "name is too long"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), 1, "/x/y: Read-only file system"),
        (ZeroDivisionError("a\nb"), 1, "ZeroDivisionError: a b"),
        (ZeroDivisionError("Bearer hunter2hunter2"), 1, "Bearer [redacted]"),
    ],
)
def test_what_nobody_expected_is_still_one_line_and_a_code(
    failure: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(module, "open_source", fail)
    assert main(["hf://o/m", "a"], {}) == code
    assert said in (err := capsys.readouterr().err)
    assert err.count("\n") == 1


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive(
    server: FileServer, tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.files["/m.tgz"] = archive_of("a")
    argv = [server.uri("/m.tgz"), str(tmp_path / "a")]
    with monkeypatch.context() as patch:
        patch.setattr("penstock.app.model_cache.unpack", fail)
        assert main(argv, environ) == 6
    served = server.served_bytes
    assert main(argv, environ) == 0
    assert server.served_bytes == served


def test_local_files_are_linked_not_copied(local: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    assert main([local.as_uri(), str(folder)], {}) == 0
    assert {path.name: path.readlink() for path in folder.iterdir()} == {
        "model.bin": local / "model.bin",
        "sub": local / "sub",
    }
    assert main([(local / "model.bin").as_uri(), str(tmp_path / "b")], {}) == 0
    assert contents(tmp_path / "b") == {"model.bin": b"mine"}
    assert main([local.as_uri(), str(folder)], {}) == 0


def test_a_real_folder_in_the_way_is_told_and_left(
    local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "a" / "sub" / "precious"
    precious.mkdir(parents=True)
    assert main([local.as_uri(), str(tmp_path / "a")], {}) == 2
    assert f"{tmp_path}/a/sub is a folder, expected nothing there (remove it" in capsys.readouterr().err
    assert precious.is_dir()


@pytest.mark.parametrize("inside", ["", "sub", "new"])
def test_a_folder_is_never_linked_into_itself(local: Path, inside: str) -> None:
    before = contents(local)
    assert main([local.as_uri(), str(local / inside)], {}) == 2
    assert contents(local) == before


def test_no_file_is_removed_through_a_link_of_an_earlier_try(
    server: FileServer, local: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    server.files["/m.tgz"] = archive_of("sub/x.bin", "model.bin")
    folder = str(tmp_path / "a")
    assert main([local.as_uri(), folder, server.uri("/m.tgz"), folder], environ) == 0
    assert contents(tmp_path / "a") == {"sub/x.bin": b"tree", "model.bin": b"tree"}
    assert contents(local) == {"sub/x.bin": b"mine", "model.bin": b"mine"}


def test_where_the_cache_is_on_another_disk_files_are_copied(
    server: FileServer, tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def other_disk(path: Path, target: Path) -> None:
        if (tmp_path / "a") in target.parents:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(path, target)

    monkeypatch.setattr(os, "link", other_disk)
    assert main([server.uri("/m/model.bin"), str(tmp_path / "a")], environ) == 0
    assert contents(tmp_path / "a") == {"model.bin": b"weights"}


def test_what_the_nodes_cache_keeps_is_read_there_and_no_source_is_asked(
    server: FileServer, environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/t/all.tgz"] = archive_of("a/x.bin", "a/b/y.bin", "z.bin")
    uri = server.uri("/t/all.tgz")
    assert main([uri, str(tmp_path / "first")], environ) == 0
    server.files.clear()
    kept = environ | {SOURCES: json.dumps([uri])}
    assert main([f"{uri}/a", str(tmp_path / "part")], kept) == 0
    assert contents(tmp_path / "part") == {"x.bin": b"tree", "b/y.bin": b"tree"}
    assert main([f"{uri}/a/b/y.bin", str(tmp_path / "file"), uri, str(tmp_path / "all")], kept) == 0
    assert contents(tmp_path / "file") == {"y.bin": b"tree"}
    assert len(contents(tmp_path / "all")) == 3


def test_what_the_nodes_cache_has_not_is_asked_of_the_source(
    server: FileServer, environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = server.uri("/m")
    kept = environ | {SOURCES: json.dumps([uri])}
    assert main([f"{uri}/model.bin", str(tmp_path / "first")], kept) == 0
    assert contents(tmp_path / "first") == {"model.bin": b"weights"}
    whole = f"{uri}/model.bin"
    assert (
        main([f"{whole}/../../secret", str(tmp_path / "out")], environ | {SOURCES: json.dumps([whole])}) != 0
    )
    assert "this node's cache has no '../../secret' of it" in capsys.readouterr().out
