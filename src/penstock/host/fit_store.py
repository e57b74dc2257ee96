"""What engines took of their GPUs beside what had been predicted: one JSON line for each, in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from penstock.decide.fit_error import Observation
from penstock.host.kubelet.layout import write_atomically
from penstock.kit.errors import Unavailable

MAX_BYTES = 4 << 20
"""Of the file that are read, from its end: some ten thousand observations. When it is twice as long the rest is left out."""


def read_observations(path: Path) -> tuple[Observation, ...]:
    """Oldest first; none if there is no file. Lines that are none, as one that a crash cut off, are passed over."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            content = file.read(MAX_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unavailable(f"{path}: cannot be read: {error.strerror}") from None
    found = []
    for line in content.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Observation))
        except msgspec.DecodeError:
            continue
    return tuple(found)


def add_observation(path: Path, observation: Observation) -> None:
    """Appended in one write, so that two writers do not mix. Raises Unavailable where nothing can be written."""
    line = msgspec.json.encode(observation) + b"\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            is_long = os.fstat(descriptor).st_size > 2 * MAX_BYTES
        finally:
            os.close(descriptor)
        if is_long:
            write_atomically(
                path, b"".join(msgspec.json.encode(one) + b"\n" for one in read_observations(path))
            )
    except OSError as error:
        raise Unavailable(f"{path}: cannot be written to: {error.strerror}") from None


class Observations:
    """Those of one file, read anew only when it changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = (0, 0)
        self._seen: tuple[Observation, ...] = ()

    @property
    def stamp(self) -> tuple[int, int]:
        """Differs whenever the file does."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    def read(self) -> tuple[Observation, ...]:
        """As `read_observations`."""
        if self.stamp != self._stamp:
            self._stamp, self._seen = self.stamp, read_observations(self.path)
        return self._seen

    def add(self, observation: Observation) -> None:
        """As `add_observation`."""
        add_observation(self.path, observation)
