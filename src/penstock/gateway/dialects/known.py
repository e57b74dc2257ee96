"""Whose protocol a path belongs to."""

from __future__ import annotations

from penstock.gateway.dialects.anthropic.dialect import Anthropic
from penstock.gateway.dialects.dialect import Dialect
from penstock.gateway.dialects.ollama.dialect import Ollama

_ANTHROPIC, _OLLAMA = Anthropic(), Ollama()
BY_PATH: dict[str, Dialect] = {
    **dict.fromkeys(_ANTHROPIC.paths, _ANTHROPIC),
    **dict.fromkeys(_OLLAMA.paths, _OLLAMA),
}
"""All of them are POST."""


def dialect_of(path: str) -> Dialect | None:
    """In whose shape whatever happens at this path is told, errors too; None for the gateway's own protocols."""
    found = BY_PATH.get(path)
    return _OLLAMA if found is None and path.startswith("/api/") else found
