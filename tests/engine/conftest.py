"""What the engine's tests share."""

from collections.abc import Iterator

import pytest
from engine_process import TINY, EngineProcess

from penstock.engine.child import silence_telemetry

silence_telemetry()  # before any test imports OpenVINO


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """With the tiny model, for the tests of one file; it ends in order and without complaint."""
    folder = tmp_path_factory.mktemp("engine")
    started = EngineProcess(TINY, folder / "log", folder / "cache")
    yield started.wait_ready()
    assert started.end() == 0, started.text
    assert "Traceback" not in started.text
    assert "[ERROR]" not in started.text
    started.close()
