"""Models that are on this machine already."""

import os
from pathlib import Path

import pytest

from penstock.contracts.source import Snapshot
from penstock.kit.errors import Forbidden, InvalidInput, NotFound
from penstock.plugins.sources.file import open_source


def test_a_folder_and_a_file_are_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    (tmp_path / "my model" / "a.bin").touch()
    for path in (tmp_path / "my model", tmp_path / "my model" / "a.bin"):
        assert open_source(path.as_uri(), {}).snapshot() == Snapshot(local_folder=str(path))
    localhost = f"file://localhost{tmp_path}"
    assert open_source(localhost, {}).snapshot().local_folder == str(tmp_path)


def test_what_is_missing_is_told_with_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "bert-base").mkdir()
    with pytest.raises(NotFound, match=f"in {tmp_path} there is bert-base"):
        open_source(f"file://{tmp_path}/bert-bsae/model.bin", {}).snapshot()
    with pytest.raises(NotFound, match=f"{tmp_path} is there"):
        open_source(f"file://{tmp_path}/zzzz", {}).snapshot()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_forbidden(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(Forbidden):
        open_source(closed.as_uri(), {}).snapshot()


def test_links_that_go_round_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(NotFound, match="cannot be read"):
        open_source(f"file://{tmp_path}/a", {}).snapshot()


@pytest.mark.parametrize("uri", ["file://", "file://other/x", "file://x", "file:///a%00b", "file://[::1/x"])
def test_what_is_no_absolute_path_here_is_none(uri: str) -> None:
    with pytest.raises(InvalidInput, match="expected file:///ABSOLUTE/PATH"):
        open_source(uri, {})
