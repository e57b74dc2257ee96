"""What every test runs under, and what starts too slowly to be started for each."""

import asyncio
from collections.abc import Iterator

import pytest

from event_sources import Rabbit, rabbit


def pytest_configure() -> None:
    """On Python 3.11 pytest-asyncio would otherwise make the policy create a loop that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """One for all tests: each file declares queues under names that no other has."""
    with rabbit(tmp_path_factory.mktemp("rabbit")) as running:
        yield running
