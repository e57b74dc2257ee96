"""NVIDIA's management library, opened once. A machine without a driver has none."""

from __future__ import annotations

from collections.abc import Iterator
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


def mig_devices(library: Any, handle: Any) -> Iterator[tuple[Any, int]]:
    """A GPU's MIG devices that exist now, each with the driver's number of its instance. Raises NVMLError where the product has none."""
    for index in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            number = library.nvmlDeviceGetGpuInstanceId(device)
        except library.NVMLError:
            continue  # there is no instance at this index
        yield device, number


def text(value: str | bytes) -> str:
    """A text as some versions of the library give it and others do not."""
    return value.decode() if isinstance(value, bytes) else value
