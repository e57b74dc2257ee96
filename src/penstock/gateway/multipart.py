"""The `model` in a form with files (RFC 7578), as audio and images are sent; nothing else in it is looked at."""

from __future__ import annotations

import re

from penstock.kit.errors import InvalidInput

_FIELD = re.compile(
    rb'\r\ncontent-disposition:[^\r\n]*;[ \t]*name="?model"?[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,512})\r\n--',
    re.IGNORECASE,
)


def model(body: bytes) -> str:
    """The name of the model. Raises InvalidInput where there is none."""
    match = _FIELD.search(body)
    if match is None or not match[1].strip():
        raise InvalidInput(
            "'model': found nothing, expected a form field with the name of a model",
            code="missing_model",
            hint="see /v1/models",
        )
    return match[1].decode(errors="replace").strip()


def with_model(body: bytes, name: str) -> bytes:
    """The form with another model; every other byte stays as it was."""
    match = _FIELD.search(body)
    assert match is not None, "the form has been read"
    return body[: match.start(1)] + name.encode() + body[match.end(1) :]
