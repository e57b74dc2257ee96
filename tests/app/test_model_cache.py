"""One folder per URI and content, whole or not there."""

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.app.model_cache import cached
from penstock.contracts.source import Changed, Corrupt, RemoteFile, Snapshot
from penstock.host.model_store import ModelStore, wrong_file
from penstock.kit.errors import Exhausted, NotFound

URI = "https://host/model"
CONTENT = os.urandom(50_000)


class Source:
    """Serves `contents` and counts reads."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.reads = 0

    def snapshot(self) -> Snapshot:
        return Snapshot(files=tuple(RemoteFile(path=n, size_bytes=len(c)) for n, c in self.contents.items()))

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        self.reads += 1
        yield self.contents[file.path][start:]

    def cached(self, cache: Path, uri: str = URI) -> Path:
        return cached(cache, uri, self, self.snapshot().files)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def source() -> Source:
    return Source(
        {"model.bin": CONTENT, "sub/empty": b"", "record.json": b"mine", "sub/.penstock.json": b"mine"}
    )


def test_the_second_time_nothing_is_read(tmp_path: Path, source: Source) -> None:
    first = source.cached(tmp_path)
    assert contents(first) == source.contents
    assert (source.cached(tmp_path), source.reads) == (first, 4)
    assert {path.name for path in first.parent.iterdir()} == {"files", "record.json"}


def test_another_content_or_query_is_another_folder(tmp_path: Path, source: Source) -> None:
    folders = {
        source.cached(tmp_path),
        source.cached(tmp_path, f"{URI}?id=1"),
        source.cached(tmp_path, f"{URI}?id=2"),
    }
    source.contents["model.bin"] = CONTENT[1:]
    folders.add(source.cached(tmp_path))
    assert len(folders) == 4


def test_no_secret_of_the_uri_reaches_the_disk(tmp_path: Path, source: Source) -> None:
    folder = source.cached(tmp_path, "https://user:hunter2@host/model?sig=hunter2")
    assert b"hunter2" not in (folder.parent / "record.json").read_bytes()
    assert folder == source.cached(tmp_path, "https://host/model?sig=hunter2")


def damage_content(folder: Path) -> None:
    (folder / "files" / "model.bin").write_bytes(CONTENT[::-1])


def damage_size(folder: Path) -> None:
    (folder / "files" / "model.bin").write_bytes(CONTENT[:-1])


def damage_by_removal(folder: Path) -> None:
    (folder / "files" / "sub" / "empty").unlink()


def damage_by_addition(folder: Path) -> None:
    (folder / "files" / "stranger.bin").touch()


def damage_record(folder: Path) -> None:
    (folder / "record.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (damage_content, "model.bin"),
        (damage_size, "model.bin"),
        (damage_by_removal, "sub/empty"),
        (damage_by_addition, "stranger.bin"),
        (damage_record, "record.json"),
    ],
)
def test_damage_is_noticed_and_the_model_fetched_anew(
    tmp_path: Path, source: Source, damage: object, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.cached(tmp_path).parent
    assert callable(damage)
    damage(folder)
    assert wrong_file(folder) == name
    assert contents(source.cached(tmp_path)) == source.contents
    assert f"{name} in this node's cache is damaged" in capsys.readouterr().out
    assert wrong_file(folder) == ""


def test_a_file_that_was_only_touched_is_whole(tmp_path: Path, source: Source) -> None:
    folder = source.cached(tmp_path).parent
    (folder / "files" / "model.bin").touch()
    assert wrong_file(folder) == ""


def archive_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue())


def test_a_single_archive_is_unpacked_in_its_place(tmp_path: Path) -> None:
    inner = {"m.tar.gz": b"named as its archive", "sub/model.bin": CONTENT}
    source = Source({"m.tar.gz": archive_of(inner)})
    folder = source.cached(tmp_path)
    assert contents(folder) == inner
    assert {path.name for path in folder.parent.iterdir()} == {"files", "record.json"}


def test_an_archive_beside_other_files_stays_one(tmp_path: Path) -> None:
    source = Source({"m.tar.gz": archive_of({"a": b"x"}), "b": b""})
    assert contents(source.cached(tmp_path)) == source.contents


def test_a_corrupt_archive_is_not_kept(tmp_path: Path) -> None:
    whole = archive_of({"model.bin": CONTENT})
    source = Source({"m.tar.gz": whole[:-20] + bytes(20)})
    with pytest.raises(Corrupt):
        source.cached(tmp_path)
    source.contents = {"m.tar.gz": whole}
    assert contents(source.cached(tmp_path)) == {"model.bin": CONTENT}


def test_an_unpacking_that_was_cut_short_leaves_nothing_behind(tmp_path: Path) -> None:
    source = Source({"m.tar.gz": archive_of({"model.bin": CONTENT})})
    folder = source.cached(tmp_path).parent
    partial = folder.with_suffix(".partial")
    folder.rename(partial)
    (partial / "record.json").unlink()
    (partial / "files" / "half.bin").touch()
    assert contents(source.cached(tmp_path)) == {"model.bin": CONTENT}


@pytest.mark.parametrize(("failure", "kept"), [(NotFound("gone"), True), (Changed(), False)])
def test_what_has_arrived_is_kept_unless_the_snapshot_is_over(
    tmp_path: Path, failure: Exception, kept: bool
) -> None:
    class Failing(Source):
        def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
            yield CONTENT[start : start + 1000]
            raise failure

    source = Source({"model.bin": CONTENT})
    with pytest.raises(type(failure)):
        Failing(source.contents).cached(tmp_path)
    assert [part.stat().st_size for part in tmp_path.rglob("parts/*")] == [1000] * kept
    assert contents(source.cached(tmp_path)) == source.contents


def test_a_model_larger_than_its_room_is_refused_before_its_first_byte(
    tmp_path: Path, source: Source
) -> None:
    with pytest.raises(Exhausted, match="found 50008 bytes, expected at most 50000"):
        cached(tmp_path, URI, source, source.snapshot().files, limit_bytes=50_000)
    assert source.reads == 0


def test_how_it_goes_is_told_beside_it(tmp_path: Path, source: Source) -> None:
    store = ModelStore(tmp_path)
    assert store.progress(URI).state == "absent"
    source.cached(tmp_path)
    told = store.progress(URI)
    assert (told.state, told.bytes_done, told.bytes_total) == ("ready", 50_008, 50_008)
