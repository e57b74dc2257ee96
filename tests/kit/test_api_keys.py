from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.kit.api_keys import ensure_pepper, id_of, keyed_hash, new_id, new_key
from penstock.kit.errors import Unavailable
from penstock.kit.redact import redact_text


def test_a_key_has_a_public_part_and_256_random_bits() -> None:
    id = new_id()
    key = new_key(id)
    assert re.fullmatch(rf"psk-{id}-[A-Za-z0-9_-]{{43}}", key)
    assert id_of(key.encode()) == id
    assert len({new_key(id) for _ in range(100)}) == 100


def test_what_is_no_key_has_a_public_part_that_names_nothing() -> None:
    for text in (b"", b"psk-", b"psk--x", b"p", b"sk-abc"):
        assert not re.fullmatch("[0-9a-f]{12}", id_of(text))


def test_a_hash_says_nothing_without_the_pepper() -> None:
    key = new_key(new_id()).encode()
    assert keyed_hash(b"a" * 32, key) == keyed_hash(b"a" * 32, key)
    assert keyed_hash(b"a" * 32, key) != keyed_hash(b"b" * 32, key)
    assert key[4:] not in keyed_hash(b"a" * 32, key)


def test_logs_do_not_show_keys() -> None:
    key = new_key(new_id())
    assert key[10:] not in redact_text(f"found {key} in a header")


def test_the_pepper_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "pepper"
    with ThreadPoolExecutor(8) as several:
        made = set(several.map(lambda _: ensure_pepper(path), range(16)))
    assert len(made) == 1
    assert len(made.pop()) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["pepper"]


def test_a_damaged_pepper_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(b"short")
    with pytest.raises(Unavailable, match="found 5 bytes, expected 32"):
        ensure_pepper(path)
    assert path.read_bytes() == b"short"


def test_a_pepper_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pepper").mkdir()
    with pytest.raises(Unavailable, match="pepper"):
        ensure_pepper(tmp_path / "pepper")
