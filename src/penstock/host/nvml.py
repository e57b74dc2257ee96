"""NVIDIA's management library, opened once. A machine without a driver has none."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def nvml() -> Any | None:
    """The library, None where there is no driver. It is never closed: it lives as long as the process."""
    library, _ = _opened()
    return library


def nvml_problem() -> str:
    """Why there is none, in the driver's words."""
    _, why = _opened()
    return why


def _opened() -> tuple[Any | None, str]:
    import pynvml  # noqa: PLC0415  loading the library on a machine without a driver would be for nothing

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, str(error)
    return pynvml, ""


def text(value: str | bytes) -> str:
    """A text as some versions of the library give it and others do not."""
    return value.decode() if isinstance(value, bytes) else value
