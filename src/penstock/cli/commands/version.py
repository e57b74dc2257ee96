"""Print the version."""

from __future__ import annotations

import penstock


def run() -> None:
    """One line, for scripts."""
    print(f"penstock {penstock.__version__}")
