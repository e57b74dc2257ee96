"""A running platform for the tests of one file; tests must not change what others of the file rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_process import Platform, running_platform

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With the quickstart service ready."""
    with running_platform(tmp_path_factory.mktemp("home")) as platform:
        platform.wait_ready("quickstart")
        yield platform


@pytest.fixture
def samples() -> Path:
    """KServe's own manifests."""
    folder = SHARED / "kserve-samples"
    if not folder.exists():
        pytest.skip("../shared is absent")
    return folder
