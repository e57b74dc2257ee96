"""`$(NAME)` in commands, arguments and environment, as Kubernetes expands it.

A reference to an unknown name stays as it is; `$$` is one dollar sign, so `$$(NAME)` is the text `$(NAME)`; nothing is
expanded twice. Source: Kubernetes, core/v1 Container.command and EnvVar.value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$\$|\$\(([^)]*)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its references resolved."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _TOKEN.sub(value, text)
