"""Engines end with the test that started them."""

from collections.abc import AsyncIterator

import pytest
from gateway_world import Engine


@pytest.fixture(autouse=True)
async def _engines_end() -> AsyncIterator[None]:
    yield
    while Engine.running:
        await Engine.running.pop().stop()
