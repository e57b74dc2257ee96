"""What is in memory of a file can be told, and changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.kit.page_cache import bring, let_go, resident_share


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(1 << 20) * 32)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    let_go(fd)
    if resident_share(fd) != 0.0:
        os.close(fd)
        pytest.skip("this disk keeps its files in memory, or does not tell")
    yield fd
    os.close(fd)


def test_a_file_that_was_let_go_is_not_in_memory_and_one_that_was_brought_is(file: int) -> None:
    assert resident_share(file) == 0.0
    bring(file)
    deadline = time.monotonic() + 30
    while resident_share(file) != 1.0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert resident_share(file) == 1.0


def test_looking_reads_nothing_into_memory(file: int) -> None:
    for _ in range(3):
        assert resident_share(file) == 0.0


def test_a_part_of_a_file_is_a_part(file: int) -> None:
    os.pread(file, 8 << 20, 0)
    share = resident_share(file)
    assert share is not None
    assert 0.25 <= share <= 0.75


def test_an_empty_file_is_in_memory(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    fd = os.open(tmp_path / "empty", os.O_RDONLY)
    assert resident_share(fd) == 1.0
    os.close(fd)
