"""A disk's rate is measured past the page cache, or it is not known."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.kit import page_cache
from penstock.kit.disk_rate import LEAST_BYTES, read_rate


def test_a_large_file_tells_a_rate_where_the_disk_can_be_read_directly(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(1 << 16) * (2 * LEAST_BYTES >> 16))
    rate = read_rate(path)
    assert rate is None or rate > 0


def test_what_was_in_memory_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(2 * LEAST_BYTES))
    read_rate(path)
    with path.open("rb") as file:
        assert page_cache.resident_share(file.fileno()) in (1.0, None)


def test_a_small_or_missing_file_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    assert read_rate(tmp_path / "small") is None
    assert read_rate(tmp_path / "none") is None
