"""What may come out of an archive that came from outside."""

import gzip
import io
import os
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from penstock.app import unpack as module
from penstock.app.unpack import is_archive, safe_path, unpack
from penstock.contracts.source import Corrupt
from penstock.kit.errors import InvalidInput, PlatformError, TooLarge

FILES = {"config.json": b"{}", "weights/model.bin": os.urandom(200_000)}


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return out.getvalue()


def zip_of(*files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w", method) as file:
        for name, content in files:
            file.writestr(name, content)
    return bytearray(out.getvalue())


def unpacked(folder: Path, name: str, content: bytes) -> dict[str, bytes]:
    archive = folder / name
    archive.write_bytes(content)
    out = folder / "in" / "out"
    out.mkdir(parents=True)
    unpack(archive, out)
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.zip", bytes(zip_of(*FILES.items()))),
        ("m.tar", tar_of(FILES)),
        ("m.tar.gz", gzip.compress(tar_of(FILES))),
        ("m.tgz", gzip.compress(tar_of(FILES))),
        ("plain.tgz", tar_of(FILES)),
    ],
)
def test_every_kind_of_archive_gives_its_files(tmp_path: Path, name: str, content: bytes) -> None:
    assert is_archive(name)
    assert unpacked(tmp_path, name, content) == FILES


def test_bytes_overwritten_in_the_middle_of_a_tar_gz_are_noticed(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tar_of({"model.bin": os.urandom(400_000)}), 0))
    content[len(content) // 2 : len(content) // 2 + 40] = b"\xaa" * 40
    with pytest.raises(Corrupt, match=r"m\.tar\.gz: is no readable archive"):
        unpacked(tmp_path, "m.tar.gz", content)


def test_a_wrong_checksum_after_the_end_of_the_tar_is_noticed(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tar_of(FILES)))
    content[-6] ^= 1
    with pytest.raises(Corrupt, match="CRC"):
        unpacked(tmp_path, "m.tgz", content)


@pytest.mark.parametrize("kept", [0, 1, 10, 1000, -1, -9])
@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_a_truncated_archive_is_noticed(tmp_path: Path, name: str, kept: int) -> None:
    whole = bytes(zip_of(*FILES.items())) if name == "m.zip" else gzip.compress(tar_of(FILES))
    with pytest.raises(Corrupt):
        unpacked(tmp_path, name, whole[:kept])


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../../out.txt", "..", "a\\..\\b"])
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    for archive, content in (("m.tar", tar_of({name: b"x"})), ("m.zip", bytes(zip_of((name, b"x"))))):
        folder = tmp_path / archive.replace(".", "-")
        folder.mkdir()
        with pytest.raises(InvalidInput, match="expected a path below"):
            unpacked(folder, archive, content)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"m.tar", "m.zip"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("innocent")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(InvalidInput, match="'innocent' is a link or a device"):
        unpacked(tmp_path, "m.tar", tar_of({}, info))


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("innocent")
    info.external_attr = 0o120777 << 16
    with pytest.raises(InvalidInput, match="'innocent' is a link"):
        unpacked(tmp_path, "m.zip", zip_of((info, b"/etc/passwd")))


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("x" * 300,)])
def test_files_that_a_disk_cannot_have_together_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="no folder can hold"):
        unpacked(tmp_path, "m.zip", zip_of(*((name, b"x") for name in names)))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = zip_of(("model.bin", b"secret"))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Corrupt, match="encrypted"):
        unpacked(tmp_path, "m.zip", content)


def test_a_member_packed_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    content = zip_of(("model.bin", b"x" * 100))
    content[8] = 97
    content[content.index(b"PK\x01\x02") + 10] = 97
    with pytest.raises(Corrupt, match="compression"):
        unpacked(tmp_path, "m.zip", content)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_member_never_ends_in_anything_but_a_sentence(tmp_path: Path, method: int) -> None:
    whole = zip_of(("model.bin", FILES["weights/model.bin"]), method=method)
    for number, place in enumerate(range(45, len(whole) - 200, len(whole) // 7)):
        content = bytearray(whole)
        content[place : place + 40] = b"\xaa" * 40
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(PlatformError, match=r"m\.zip: "):
            unpacked(folder, "m.zip", content)


def test_an_archive_that_unpacks_to_too_much_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_LIMIT_BYTES", 1 << 20)
    zeros = bytes(64 << 20)
    for name, content in (
        ("m.tgz", gzip.compress(tar_of({"z": zeros}))),
        ("m.zip", bytes(zip_of(("z", zeros)))),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(TooLarge, match="unpacks to more than"):
            unpacked(folder, name, content)
        assert sum(path.stat().st_size for path in folder.rglob("z")) < 32 << 20


def test_an_archive_of_too_many_files_or_folders_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    folders = [tarfile.TarInfo(f"d{number}") for number in range(4)]
    for info in folders:
        info.type = tarfile.DIRTYPE
    with pytest.raises(TooLarge, match="more than 3 files"):
        unpacked(tmp_path, "m.tar", tar_of({}, *folders))


def test_a_safe_path_is_left_as_it_is() -> None:
    assert safe_path("a/./b//c..d") == Path("a/b/c..d")
