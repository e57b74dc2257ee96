"""Records the traffic of a gateway as a trace that can be played again: when requests came, how long they were, which beginnings they shared.

No word of a request leaves the gateway, and its hashes are hashed anew for each recording, under a key that this process alone knows and
forgets. In the file blocks and sessions are numbered as they first appear, as in Mooncake's traces: nothing in two recordings can be matched.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.cli.console import console, warn
from penstock.cli.gateway import ask, client
from penstock.kit.errors import InvalidInput, PlatformError

PATH = "/penstock/recording"
FETCH_S = 1.0
MAX_BYTES = 1 << 30
"""Of what is fetched; a recording that reaches it ends there."""
PRIVATE = 0o600


@dataclass(slots=True)
class Recorded:
    """What was fetched so far: the time, place and length of each line in the file beside. `dropped` requests came faster than they could be kept."""

    lines: list[tuple[float, int, int]] = field(default_factory=list)
    bytes: int = 0
    dropped: int = 0
    workers: int = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more."""
        return self.bytes >= MAX_BYTES


def record(path: Path, model: str, for_s: float, url: str) -> Recorded:
    """Writes `path` when the time is over, or Ctrl-C is pressed. `model` is `namespace/name`, "" for all. Raises PlatformError."""
    if path.exists():
        raise InvalidInput(f"--record: {path} is there already", hint="choose another name, or delete it")
    beside, recorded = path.with_name(path.name + ".part"), Recorded()
    try:
        with client(url) as http, _opened(beside) as file:
            _say(
                f"recording {model or 'all models'} at {http.base_url} for {for_s:g} s; Ctrl-C ends it earlier. "
                "Only counts, times and hashes are recorded."
            )
            _fetch_all(http, model, for_s, recorded, file)
        _write(path, beside, recorded)
    except OSError as error:
        raise InvalidInput(f"--record: cannot write {path}: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)
    _report(path, recorded)
    return recorded


def _opened(path: Path) -> BinaryIO:
    path.touch(mode=PRIVATE)
    return path.open("wb")


def _fetch_all(http: httpx.Client, model: str, for_s: float, recorded: Recorded, file: BinaryIO) -> None:
    wish = {"id": secrets.token_hex(16), "model": model}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    _fetch(http, wish, recorded, file)
    with Progress(
        *columns, console=console(sys.stderr), transient=True, disable=not sys.stderr.isatty()
    ) as bars:
        task, began = bars.add_task("0 requests", total=for_s), time.monotonic()

        def tell(elapsed_s: float) -> None:
            bars.update(task, completed=elapsed_s, description=f"{len(recorded.lines)} requests")

        try:
            _until(began, for_s, lambda: _fetch(http, wish, recorded, file), recorded, tell)
        except KeyboardInterrupt:
            _fetch(http, wish, recorded, file)
        except PlatformError as error:
            if not recorded.lines:
                raise
            warn(f"the recording ends early: {error.message}")


def _until(
    began: float, for_s: float, fetch: Callable[[], None], recorded: Recorded, tell: Callable[[float], None]
) -> None:
    while not recorded.is_full:
        left_s = began + for_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(FETCH_S, left_s))
        fetch()
        tell(time.monotonic() - began)


def _fetch(http: httpx.Client, wish: dict[str, str], recorded: Recorded, file: BinaryIO) -> None:
    answer = ask(http, "POST", PATH, wish)
    recorded.workers = max(recorded.workers, answer["workers"])
    recorded.dropped += answer["dropped"]
    for request in answer["requests"]:
        line = orjson.dumps(request)
        file.write(line)
        recorded.lines.append((request["timestamp"], recorded.bytes, len(line)))
        recorded.bytes += len(line)


def _write(path: Path, beside: Path, recorded: Recorded) -> None:
    """By time of arrival: requests are fetched as they end."""
    recorded.lines.sort()
    numbers: dict[str, dict[int, int]] = {"hash_ids": {}, "session": {}}
    began = recorded.lines[0][0] if recorded.lines else 0.0
    path.touch(mode=PRIVATE)
    with beside.open("rb") as source, path.open("wb") as file:
        for _, start, length in recorded.lines:
            source.seek(start)
            file.write(orjson.dumps(_anonymous(orjson.loads(source.read(length)), began, numbers)) + b"\n")


def _anonymous(
    request: dict[str, Any], began_ms: float, numbers: dict[str, dict[int, int]]
) -> dict[str, Any]:
    """With numbers instead of hashes, from 0 for blocks; 0 stays for a request without a session."""
    blocks, sessions = numbers["hash_ids"], numbers["session"]
    session = request["session"]
    return {
        **request,
        "timestamp": round(request["timestamp"] - began_ms, 3),
        "hash_ids": [blocks.setdefault(block, len(blocks)) for block in request["hash_ids"]],
        "session": sessions.setdefault(session, len(sessions) + 1) if session else 0,
    }


def _report(path: Path, recorded: Recorded) -> None:
    count = len(recorded.lines)
    workers = "1 gateway worker" if recorded.workers == 1 else f"{recorded.workers} gateway workers"
    _say(f"{count} requests of {workers} in {path}")
    if recorded.dropped:
        warn(f"{recorded.dropped} requests came faster than they could be kept, and are missing")
    if recorded.is_full:
        warn(f"the recording ended where it took {MAX_BYTES >> 20} MiB")
    if not count:
        warn("nothing was recorded: requests count when they end, and only where a routing profile holds")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
