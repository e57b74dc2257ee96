"""Bringing files of any source into a folder, whatever happens on the way."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.app import download as module
from penstock.app import part_streams
from penstock.app.download import download, listed
from penstock.contracts.source import Changed, Corrupt, RemoteFile, Snapshot
from penstock.host.model_store import ModelStore
from penstock.kit.errors import Exhausted, InvalidInput, NotFound, TooLarge, Unavailable

CONTENT = bytes(range(256)) * 40


class Source:
    """Serves `contents`; each read takes the first of `faults`: bytes until the connection ends, or what is raised."""

    def __init__(self, contents: dict[str, bytes], faults: list[int | Exception] | None = None) -> None:
        self.contents = contents
        self.faults = faults or []
        self.starts: list[int] = []

    def snapshot(self) -> Snapshot:
        if self.faults and isinstance(fault := self.faults.pop(0), Exception):
            raise fault
        return Snapshot(files=files_of(self.contents))

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        self.starts.append(start)
        fault = self.faults.pop(0) if self.faults else 1 << 40
        if isinstance(fault, Exception):
            raise fault
        content = self.contents[file.path][start : start + fault]
        for place in range(0, len(content), 1000):
            yield content[place : place + 1000]


def files_of(contents: dict[str, bytes]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )


def downloaded(source: Source, folder: Path, files: tuple[RemoteFile, ...] | None = None) -> dict[str, bytes]:
    wished = files_of(source.contents) if files is None else files
    download(source, wished, folder / "files", ModelStore(folder))
    found = folder / "files"
    return {str(p.relative_to(found)): p.read_bytes() for p in found.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_streams, "FIRST_WAIT_S", 0.0)


def test_files_arrive_below_the_folder_and_leave_no_parts(tmp_path: Path) -> None:
    source = Source(
        {"a": CONTENT, "b/c": b"", "b/d.part": b"x", ".penstock.json": b"{}", "record.json": b"1"}
    )
    assert downloaded(source, tmp_path) == source.contents
    assert not list((tmp_path / "parts").iterdir())


def test_names_that_look_like_ours_are_only_names(tmp_path: Path) -> None:
    contents = {"X": CONTENT, "X.part": b"other", "parts/X": b"third"}
    assert downloaded(Source(contents), tmp_path) == contents


def test_a_cut_connection_is_continued_at_the_last_byte(tmp_path: Path) -> None:
    source = Source({"a": CONTENT}, [3000, Unavailable("gone"), 2000])
    assert downloaded(source, tmp_path) == source.contents
    assert source.starts == [0, 3000, 3000, 5000]


def test_tries_that_bring_something_are_not_counted(tmp_path: Path) -> None:
    source = Source({"a": CONTENT}, [1000] * 9)
    assert downloaded(source, tmp_path) == source.contents


def test_tries_that_bring_nothing_end(tmp_path: Path) -> None:
    source = Source({"a": CONTENT}, [Unavailable("gone")] * 99)
    with pytest.raises(Unavailable, match="gone"):
        downloaded(source, tmp_path)
    assert len(source.starts) == module.MAX_FRUITLESS_TRIES


def test_a_listing_is_asked_for_again_as_often(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(Source({"a": b""}, [Unavailable("gone")] * 4)).files[0].path == "a"
    assert capsys.readouterr().out.count("gone; trying again in") == 4
    with pytest.raises(Unavailable, match="gone"):
        listed(Source({"a": b""}, [Unavailable("gone")] * 5))
    with pytest.raises(NotFound):
        listed(Source({"a": b""}, [NotFound("no"), Unavailable("never asked")]))


def test_more_files_than_a_model_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    with pytest.raises(TooLarge, match="found 3 files"):
        listed(Source(dict.fromkeys("abc", b"")))


def test_a_wrong_digest_is_fetched_anew_once_then_told(tmp_path: Path) -> None:
    files = files_of({"a": CONTENT})
    bad = Source({"a": CONTENT[::-1]})
    with pytest.raises(Corrupt, match="a: found SHA-256"):
        downloaded(bad, tmp_path, files)
    assert bad.starts == [0, 0]
    assert not list((tmp_path / "parts").iterdir())
    assert not list((tmp_path / "files").rglob("*"))


def test_a_damaged_part_is_fetched_anew(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        downloaded(Source({"a": CONTENT}, [3000, NotFound("x")]), tmp_path)
    (part,) = (tmp_path / "parts").iterdir()
    part.write_bytes(b"?" * 3000)
    source = Source({"a": CONTENT})
    assert downloaded(source, tmp_path) == source.contents
    assert source.starts == [3000, 0]


@pytest.mark.parametrize(("version", "start"), [("", 0), ("v1", 3000)])
def test_bytes_of_an_earlier_try_are_used_only_if_their_version_is_known(
    tmp_path: Path, version: str, start: int
) -> None:
    files = (RemoteFile(path="a", size_bytes=len(CONTENT), version=version),)
    with pytest.raises(NotFound):
        downloaded(Source({"a": CONTENT}, [3000, NotFound("x")]), tmp_path, files)
    source = Source({"a": CONTENT})
    assert downloaded(source, tmp_path, files) == source.contents
    assert source.starts == [start]


def test_a_source_that_does_not_end_is_stopped_at_the_size_it_said(tmp_path: Path) -> None:
    files = (RemoteFile(path="a", size_bytes=2500),)
    with pytest.raises(Corrupt, match="a: found more than 2500 bytes"):
        downloaded(Source({"a": CONTENT}), tmp_path, files)
    assert not list((tmp_path / "parts").iterdir())


def test_a_change_begins_the_file_anew_and_then_ends_the_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source({"a": CONTENT}, [3000, Changed()])
    assert downloaded(source, tmp_path) == source.contents
    assert source.starts == [0, 3000, 0]
    assert "a: cannot be continued; fetching it anew" in capsys.readouterr().out
    with pytest.raises(Changed):
        downloaded(Source({"b": CONTENT[1:]}, [Changed(), Changed()]), tmp_path)


def test_a_failure_of_one_file_keeps_what_has_arrived_of_the_others(tmp_path: Path) -> None:
    begun, failed = threading.Event(), threading.Event()

    class Two(Source):
        def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
            if file.path == "bad":
                begun.wait(30)
                failed.set()
                raise NotFound("bad: gone")
            yield CONTENT[start : start + 4000]
            begun.set()
            failed.wait(30)
            threading.Event().wait(0.05)
            yield CONTENT[4000:5000]

    with pytest.raises(NotFound, match="bad: gone"):
        downloaded(Two({"good": CONTENT, "bad": b"x"}), tmp_path)
    assert max(path.stat().st_size for path in (tmp_path / "parts").iterdir()) >= 4000


@pytest.mark.parametrize("names", [("a", "a/b"), ("a", "./a"), ("a/b/c", "a")])
def test_files_that_cannot_be_there_together_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = Source(dict.fromkeys(names, b"x"))
    with pytest.raises(InvalidInput):
        downloaded(source, tmp_path)
    assert source.starts == []


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "a\\b", "a\0b"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="expected a path below"):
        downloaded(Source({name: b"x"}), tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_without_room_nothing_is_begun(tmp_path: Path) -> None:
    source = Source({})
    with pytest.raises(Exhausted, match="MiB of free space, expected") as caught:
        downloaded(source, tmp_path, (RemoteFile(path="a", size_bytes=1 << 60),))
    assert caught.value.code == "disk_full"
    assert source.starts == []
