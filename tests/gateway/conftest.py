"""Engines end with the test that started them, and no test loses a wait to a machine that stood still."""

from collections.abc import AsyncIterator, Callable

import pytest
from gateway_world import Engine
from patient_loop import PatientLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], PatientLoop]]:
    """What all asynchronous tests below this folder run in."""
    return {"patient": PatientLoop}


@pytest.fixture(autouse=True)
async def _engines_end() -> AsyncIterator[None]:
    yield
    while Engine.running:
        await Engine.running.pop().stop()
