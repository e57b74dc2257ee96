"""Large files in parts: several streams, a journal that outlives a killed process, and one content for every model that has it."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.app import download as module
from penstock.app import part_file, part_streams
from penstock.app.download import download
from penstock.contracts.source import Changed, Corrupt, RemoteFile, Snapshot, Unranged
from penstock.host.model_store import ModelStore, seal
from penstock.kit.errors import NotFound, Unavailable

PART = 1000
CONTENT = os.urandom(25_500)


class Ranged:
    """Serves parts of one content; a part whose number is in `faults` raises, once, after half of it."""

    def __init__(self, content: bytes = CONTENT, faults: dict[int, Exception] | None = None) -> None:
        self.content = content
        self.faults = faults or {}
        self.asked: list[tuple[int, int | None]] = []
        self.lock = threading.Lock()

    def snapshot(self) -> Snapshot:
        return Snapshot()

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        with self.lock:
            self.asked.append((start, stop))
            fault = self.faults.pop(start // PART, None)
        body = self.content[start:stop]
        yield body[: len(body) // 2]
        if fault is not None:
            raise fault
        yield body[len(body) // 2 :]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "PART_BYTES", PART)
    monkeypatch.setattr(part_file, "RUN_PARTS", 1)
    monkeypatch.setattr(module, "PARTED_BYTES", 2 * PART)
    monkeypatch.setattr(part_streams, "FIRST_WAIT_S", 0.0)


def file_of(content: bytes = CONTENT, path: str = "w.bin", *, hashed: bool = True) -> RemoteFile:
    digest = hashlib.sha256(content).hexdigest() if hashed else ""
    return RemoteFile(path=path, size_bytes=len(content), version="v1", sha256=digest)


def brought(source: Ranged, cache: Path, file: RemoteFile | None = None, tree: str = "tree") -> bytes:
    wished = file or file_of()
    download(source, (wished,), cache / tree, ModelStore(cache), about="m")
    return (cache / tree / wished.path).read_bytes()


@pytest.mark.parametrize("hashed", [True, False])
def test_all_parts_arrive_each_asked_for_once(tmp_path: Path, hashed: bool) -> None:
    source = Ranged()
    assert brought(source, tmp_path, file_of(hashed=hashed)) == CONTENT
    bounds = [(start, min(start + PART, len(CONTENT))) for start in range(0, len(CONTENT), PART)]
    assert sorted(source.asked) == bounds
    assert not list((tmp_path / "parts").iterdir())
    (blob,) = tmp_path.glob("blobs/*/*")
    assert blob.stat().st_nlink == 2
    assert blob.stat().st_mode & 0o222 == 0


def test_a_process_that_ends_leaves_its_parts_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        brought(Ranged(faults={20: NotFound("gone")}), tmp_path)
    source = Ranged()
    assert brought(source, tmp_path) == CONTENT
    again = sum((stop or 0) - start for start, stop in source.asked)
    assert 0 < again <= len(CONTENT) - 20 * PART + part_streams.STREAMS * PART


def test_a_part_that_the_disk_lost_is_fetched_again(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        brought(Ranged(faults={20: NotFound("gone")}), tmp_path)
    (part,) = (path for path in (tmp_path / "parts").iterdir() if not path.suffix)
    lost, kept, *_ = (int(line.split()[0]) for line in part.with_suffix(".journal").read_text().splitlines())
    with part.open("r+b") as file:
        file.seek(lost * PART)
        file.write(bytes(PART))
    source = Ranged()
    assert brought(source, tmp_path) == CONTENT
    assert (lost * PART, (lost + 1) * PART) in source.asked
    assert (kept * PART, (kept + 1) * PART) not in source.asked


def test_a_cut_part_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    source = Ranged(faults={7: Unavailable("cut")})
    assert brought(source, tmp_path) == CONTENT
    assert (7 * PART + PART // 2, 8 * PART) in source.asked


def test_a_source_without_parts_is_read_in_one_piece(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Whole(Ranged):
        def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
            if stop is not None:
                raise Unranged
            return super().read(file, start)

    assert brought(Whole(), tmp_path) == CONTENT
    assert "gives whole files only" in capsys.readouterr().out


def test_content_other_than_promised_is_refused_with_both_digests(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match=r"found SHA-256 \w{12}…, expected \w{12}…"):
        brought(Ranged(CONTENT[::-1]), tmp_path)
    assert not list(tmp_path.glob("blobs/*/*"))


def test_a_change_on_the_way_is_told_with_what_differs(tmp_path: Path) -> None:
    class Changing(Ranged):
        def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
            raise Changed("w.bin: found version v2, expected v1")

    with pytest.raises(Changed, match="found version v2, expected v1"):
        brought(Changing(), tmp_path)


def test_two_models_with_the_same_file_share_its_bytes(tmp_path: Path) -> None:
    first, second = Ranged(), Ranged()
    brought(first, tmp_path, tree="a")
    assert brought(second, tmp_path, tree="b") == CONTENT
    assert second.asked == []
    assert (tmp_path / "a" / "w.bin").samefile(tmp_path / "b" / "w.bin")


def test_equal_content_without_a_promised_digest_is_kept_once(tmp_path: Path) -> None:
    brought(Ranged(), tmp_path, file_of(path="one", hashed=False), tree="a")
    brought(Ranged(), tmp_path, file_of(path="two", hashed=False), tree="b")
    assert len(list(tmp_path.glob("blobs/*/*"))) == 1
    assert (tmp_path / "a" / "one").samefile(tmp_path / "b" / "two")


def test_two_that_ask_at_once_bring_it_once(tmp_path: Path) -> None:
    source = Ranged()
    threads = [
        threading.Thread(target=brought, args=(source, tmp_path, None, name)) for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert len(source.asked) == 26
    assert {(tmp_path / name / "w.bin").read_bytes() for name in "abc"} == {CONTENT}


def test_what_another_brings_at_the_very_moment_of_a_look_is_not_taken_for_spoiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(Ranged(), tmp_path)
    store, digest = ModelStore(tmp_path), file_of().sha256
    aside = store.blob("sha256", digest).rename(tmp_path / "aside")

    class Late(type(tmp_path)):  # type: ignore[misc]
        """Is there right after somebody saw that it was not."""

        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            try:
                return super().stat(follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]
            finally:
                if aside.exists():
                    aside.rename(self)

    blob = store.blob
    monkeypatch.setattr(ModelStore, "blob", lambda _, *names: Late(blob(*names)))
    monkeypatch.setattr(module._Download, "missing_bytes", lambda _: 0)
    source = Ranged()
    assert brought(source, tmp_path, tree="again") == CONTENT
    assert source.asked == []


def test_after_a_crash_of_the_machine_contents_that_were_not_on_the_disk_are_read_again(
    tmp_path: Path,
) -> None:
    brought(Ranged(), tmp_path)
    store, digest = ModelStore(tmp_path), file_of().sha256
    blob = store.blob("sha256", digest)
    blob.chmod(0o600)
    blob.write_bytes(bytes(len(CONTENT)))
    seal(blob, digest)
    (tmp_path / "unsynced" / digest).write_text("another boot")
    source = Ranged()
    assert brought(source, tmp_path, tree="again") == CONTENT
    assert source.asked


def test_what_was_synced_is_not_suspected(tmp_path: Path) -> None:
    brought(Ranged(), tmp_path)
    assert [path.name for path in (tmp_path / "unsynced").iterdir()] == [file_of().sha256]
    ModelStore(tmp_path).sync()
    assert not list((tmp_path / "unsynced").iterdir())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "RUN_PARTS", 8)


@pytest.mark.usefixtures("runs")
def test_a_large_file_is_asked_for_in_runs_of_parts_that_become_shorter(tmp_path: Path) -> None:
    content = os.urandom(100 * PART + 1)
    source = Ranged(content)
    assert brought(source, tmp_path, file_of(content)) == content
    asked = sorted((start, stop or 0) for start, stop in source.asked)
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]
    assert asked[-1][1] == len(content)
    lengths = [stop - start for start, stop in asked]
    assert lengths[0] == 8 * PART
    assert lengths[-2:] == [PART, 1]
    assert len(asked) < 50


@pytest.mark.usefixtures("runs")
def test_of_a_run_that_is_broken_off_only_the_part_it_was_at_is_asked_for_again(tmp_path: Path) -> None:
    content = os.urandom(100 * PART)
    with pytest.raises(NotFound):
        brought(Ranged(content, faults={8: NotFound("gone")}), tmp_path, file_of(content))
    (journal,) = (tmp_path / "parts").glob("*.journal")
    kept = {int(line.split()[0]) for line in journal.read_text().splitlines()}
    assert {8, 9, 10} <= kept
    assert 15 not in kept
    source = Ranged(content)
    assert brought(source, tmp_path, file_of(content)) == content
    again = {n for start, stop in source.asked for n in range(start // PART, (stop or 0) // PART)}
    assert again == set(range(100)) - kept


@pytest.mark.usefixtures("runs")
def test_a_run_whose_connection_ends_goes_on_at_that_byte(tmp_path: Path) -> None:
    content = os.urandom(64 * PART)
    source = Ranged(content, faults={0: Unavailable("cut")})
    assert brought(source, tmp_path, file_of(content)) == content
    assert (4 * PART, 8 * PART) in source.asked
