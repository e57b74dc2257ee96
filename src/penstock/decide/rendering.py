"""What does a runtime's container look like for this service?

KServe renders the container once as a Go template over the service's ObjectMeta. Only dotted paths occur in practice, and
quotes inside braces never worked there (they are JSON-escaped), so dotted paths are what is understood here.
"""

from __future__ import annotations

import re
from typing import Any

from penstock.resources.meta import ObjectMeta

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_PATH = re.compile(r"\.([A-Za-z]+)(?:\.([A-Za-z0-9_]+))?")
NO_VALUE = "<no value>"


class UnknownPlaceholder(ValueError):
    """A template action that ObjectMeta has no answer for."""


def render(value: Any, meta: ObjectMeta) -> Any:
    """Plain data with every `{{.Name}}` and the like replaced. Raises UnknownPlaceholder."""
    if isinstance(value, str):
        return _ACTION.sub(lambda match: _answer(match[1], meta), value) if "{{" in value else value
    if isinstance(value, dict):
        return {key: render(item, meta) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, meta) for item in value]
    return value


def _answer(action: str, meta: ObjectMeta) -> str:
    match = _PATH.fullmatch(action)
    if match is None:
        raise UnknownPlaceholder(f"{{{{{action}}}}} is not understood; use a dotted path as {{{{.Name}}}}")
    field, key = match.groups()
    maps = {"Labels": meta.labels, "Annotations": meta.annotations}
    if key is not None and field in maps:
        return maps[field].get(key, NO_VALUE)
    texts = {
        "Name": meta.name,
        "Namespace": meta.namespace,
        "UID": meta.uid,
        "GenerateName": meta.generate_name,
    }
    if key is None and field in texts:
        return texts[field]
    raise UnknownPlaceholder(
        f"{{{{{action}}}}}: there is no such field; known are .Name, .Namespace, .Labels.x and .Annotations.x"
    )
