"""What every test runs under."""

import asyncio


def pytest_configure() -> None:
    """On Python 3.11 pytest-asyncio would otherwise make the policy create a loop that nobody closes."""
    asyncio.set_event_loop(None)
