"""What a running engine says of its memory, from its log or its metrics."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from penstock.decide.engine_log import report_of
from penstock.decide.engine_report import MAX_TEXT, EngineReport
from penstock.host.gpu_readings import read_gpus
from penstock.kit.errors import InvalidInput, NotFound
from penstock.kit.quantity import to_bytes
from penstock.kit.scrape import scrape


def engine_report(where: str) -> EngineReport:
    """`where` is `http://HOST:PORT/metrics`, a file with an engine's log or metrics, or - for standard input.

    Raises NotFound, InvalidInput, and Unavailable where metrics cannot be had.
    """
    return report_of(_metrics(where) if where.startswith("http://") else _text(where))


def used_bytes(said: str) -> int:
    """Memory in use on a GPU: a quantity, or the UUID of one of this machine's, which NVML is asked about; 0 for nothing said.

    Raises InvalidInput, and NotFound for a GPU that is not here.
    """
    if not said.startswith("GPU-"):
        return to_bytes(said) if said else 0
    here = read_gpus()
    used = here.get(said, {}).get("FB_USED")
    if used is None:
        known = f"here are {', '.join(sorted(here))}" if here else "NVML finds none here"
        raise NotFound(f"--used: there is no GPU {said[:60]!r}; {known}")
    return int(used * (1 << 20))


def _metrics(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host:
        raise InvalidInput(f"found {uri!r}, expected http://HOST:PORT/metrics")
    return asyncio.run(scrape(host, port, parts.path or "/metrics"))


def _text(where: str) -> str:
    """The end of it, where an engine started last."""
    if where == "-":
        return sys.stdin.buffer.read(MAX_TEXT).decode("utf-8", "replace")
    try:
        with Path(where).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_TEXT))
            return file.read(MAX_TEXT).decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFound(f"{where}: there is no such file") from None
    except OSError as error:
        raise InvalidInput(f"{where}: cannot be read: {error.strerror}") from None
