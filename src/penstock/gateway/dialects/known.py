"""The dialects, by their names."""

from __future__ import annotations

from penstock.gateway.dialects.anthropic.dialect import Anthropic
from penstock.gateway.dialects.dialect import Dialect
from penstock.gateway.dialects.ollama.dialect import Ollama

DIALECTS: dict[str, Dialect] = {"anthropic": Anthropic(), "ollama": Ollama()}
