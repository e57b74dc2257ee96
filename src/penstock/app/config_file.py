"""The data folder's `config.yaml`, read and checked for names that no setting has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock.kit.errors import InvalidInput, nearest

MAX_CONFIG_BYTES = 1 << 20


def read_config(path: Path, known: list[str]) -> dict[str, Any]:
    """Its entries by name, none where there is no file. Raises InvalidInput where it cannot be read or names what is not `known`."""
    try:
        size_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    if size_bytes > MAX_CONFIG_BYTES:
        raise InvalidInput(f"{path}: found {size_bytes} bytes, expected at most {MAX_CONFIG_BYTES}")
    import yaml  # noqa: PLC0415  most installations have no such file, and a command should start fast

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path}: is not YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: found a {type(document).__name__}, expected a mapping of settings")
    for name in document:
        if name not in known:
            close = nearest(str(name), known, 1)
            raise InvalidInput(
                f"{path}: there is no setting {name!r}",
                code="unknown_setting",
                hint=f"did you mean {close[0]!r}?" if close else f"settings are: {', '.join(known)}",
            )
    return document
