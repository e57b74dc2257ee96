"""What the page about clients prints works as it is printed; Triton's part of it is run where there is such an engine."""

from __future__ import annotations

import pytest
from client_page import CODE, run
from platform_process import Platform

pytestmark = pytest.mark.timeout(180)
QUICKSTART = [block for block, code in CODE.items() if "quickstart" in code]


def test_every_client_of_the_quickstart_is_tried() -> None:
    assert [name for name, _ in QUICKSTART] == ["openai", "LangChain", "anthropic", "ollama", "curl"]


@pytest.mark.parametrize(("section", "language"), QUICKSTART)
def test_it_answers(platform: Platform, section: str, language: str) -> None:
    assert "Penstock" in run(platform, section, language)
