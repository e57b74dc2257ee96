"""A model from the caches of other nodes, where one has it whole; its source where none has.

Which files there are, and their digests, says the record of a node that has this very snapshot. What arrives is checked against these
digests like everything else. A peer that does not answer costs one request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from penstock.contracts.peers import PEERS, Peers
from penstock.contracts.source import ModelSource, RemoteFile, Snapshot, Unranged
from penstock.host.model_store import Entry, Record, read
from penstock.kit import http_ranges
from penstock.kit.errors import InvalidInput, Unavailable


class PeerSource:
    """`entries` are the files that `peer` has, by path."""

    def __init__(self, origin: ModelSource, peer: str, token: str, entries: Mapping[str, Entry]) -> None:
        self._origin = origin
        self._peer = peer
        self._headers = {"authorization": f"Bearer {token}"}
        self._entries = entries

    def snapshot(self) -> Snapshot:
        """The source's."""
        return self._origin.snapshot()

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        """From the peer; what it does not give, from the source."""
        at = start
        try:
            for piece in self._from_peer(file, start, stop):
                at += len(piece)
                yield piece
        except (Unavailable, Unranged) as error:
            print(f"{file.path}: the other node gives no more ({error}); going on at the source", flush=True)
            yield from self._origin.read(file, at, stop)

    def _from_peer(self, file: RemoteFile, start: int, stop: int | None) -> Iterator[bytes]:
        entry = self._entries[file.path]
        url = f"{self._peer}/blobs/{entry.algorithm}/{entry.digest}"
        headers = self._headers | http_ranges.part_of(start, stop)
        with http_ranges.get(url, headers) as answer:
            if answer.status >= 300:
                raise Unavailable(f"it answered {answer.status}")
            if "range" in headers and answer.status != 206:
                raise Unranged
            yield from http_ranges.pieces(answer)


def from_peers(
    cache: Path, key: str, snapshot: str, source: ModelSource, files: tuple[RemoteFile, ...]
) -> tuple[ModelSource, tuple[RemoteFile, ...]] | None:
    """A source that asks another node first, and the files with the digests that they have there; None where no node has them."""
    known = read(cache / PEERS, Peers)
    for peer in known.peers if known is not None else ():
        record = _record(f"{peer}/records/{key}/{snapshot}", known.token) if known is not None else None
        if record is None or record.files.keys() != {file.path for file in files}:
            continue  # also an archive, of which a record has the contents
        named = tuple(_named(file, record.files[file.path]) for file in files)
        return PeerSource(source, peer, known.token if known else "", record.files), named
    return None


def _named(file: RemoteFile, entry: Entry) -> RemoteFile:
    if entry.algorithm == "sha256":
        return msgspec.structs.replace(file, sha256=entry.digest, size_bytes=entry.size_bytes)
    return msgspec.structs.replace(file, blake3=entry.digest, size_bytes=entry.size_bytes)


def _record(url: str, token: str) -> Record | None:
    try:
        with http_ranges.get(url, {"authorization": f"Bearer {token}"}) as answer:
            body = b"".join(http_ranges.pieces(answer))
            return msgspec.json.decode(body, type=Record) if answer.status == 200 else None
    except (Unavailable, InvalidInput, msgspec.DecodeError):
        return None
