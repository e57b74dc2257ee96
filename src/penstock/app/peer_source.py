"""A model from the caches of other nodes, where one has it whole; its source where none has.

Which files there are, and their digests, says the record of a node that has this very snapshot. What arrives is checked against these
digests like everything else. A peer that does not answer costs one request, and QUIET_S at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from penstock.contracts.peers import PEERS, Peer, Peers
from penstock.contracts.source import ModelSource, RemoteFile, Snapshot, Unranged
from penstock.host.model_store import Entry, Record, read
from penstock.kit import http_ranges
from penstock.kit.errors import InvalidInput, Unavailable

QUIET_S = 5.0
MAX_RECORD_BYTES = 32 << 20


class PeerSource:
    """`entries` are the files that `peer` has, by path."""

    def __init__(self, origin: ModelSource, peer: Peer, entries: Mapping[str, Entry]) -> None:
        self._origin = origin
        self._peer = peer
        self._entries = entries

    def snapshot(self) -> Snapshot:
        """The source's."""
        return self._origin.snapshot()

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """From the peer; what it does not give, from the source."""
        at = start
        try:
            for piece in self._from_peer(file, start, stop):
                at += len(piece)
                yield piece
        except (Unavailable, Unranged) as error:
            print(f"{file.path}: the other node gives no more ({error}); going on at the source", flush=True)
            yield from self._origin.read(file, at, stop)

    def _from_peer(self, file: RemoteFile, start: int, stop: int | None) -> Iterator[bytes | memoryview]:
        entry = self._entries[file.path]
        url = f"{self._peer.url}/blobs/{entry.algorithm}/{entry.digest}"
        headers = _token(self._peer) | http_ranges.part_of(start, stop)
        with http_ranges.get(url, headers, authorities=self._peer.authorities) as answer:
            if answer.status >= 300:
                raise Unavailable(f"it answered {answer.status}")
            if "range" in headers and answer.status != 206:
                raise Unranged
            yield from http_ranges.pieces(answer)


def from_peers(
    cache: Path, key: str, snapshot: str, source: ModelSource, files: tuple[RemoteFile, ...]
) -> tuple[ModelSource, tuple[RemoteFile, ...]] | None:
    """A source that asks another node first, and the files with the digests that they have there; None where no node has them."""
    known = read(cache / PEERS, Peers) or Peers()
    for peer in known.peers:
        record = _record(peer, f"{peer.url}/records/{key}/{snapshot}")
        if record is None or record.files.keys() != {file.path for file in files}:
            continue  # also an archive, of which a record has the contents
        if all(_agrees(file, record.files[file.path]) for file in files):
            named = tuple(_named(file, record.files[file.path]) for file in files)
            return PeerSource(source, peer, record.files), named
    return None


def _agrees(file: RemoteFile, entry: Entry) -> bool:
    """With what the source says of the file: its word goes before a node's."""
    promised = file.sha256 if entry.algorithm == "sha256" else file.blake3
    return file.size_bytes in (None, entry.size_bytes) and promised in ("", entry.digest)


def _named(file: RemoteFile, entry: Entry) -> RemoteFile:
    """What the source promises stays, so that it is checked."""
    if file.sha256 or file.blake3:
        return file
    if entry.algorithm == "sha256":
        return msgspec.structs.replace(file, sha256=entry.digest, size_bytes=entry.size_bytes)
    return msgspec.structs.replace(file, blake3=entry.digest, size_bytes=entry.size_bytes)


def _record(peer: Peer, url: str) -> Record | None:
    """What it says is bounded, as is the time until it says something."""
    body = bytearray()
    try:
        with http_ranges.get(url, _token(peer), authorities=peer.authorities, timeout_s=QUIET_S) as answer:
            for piece in http_ranges.pieces(answer):
                body += piece
                if answer.status != 200 or len(body) > MAX_RECORD_BYTES:
                    return None
            return msgspec.json.decode(body, type=Record) if answer.status == 200 else None
    except (Unavailable, InvalidInput, msgspec.DecodeError):
        return None


def _token(peer: Peer) -> dict[str, str]:
    return {"authorization": f"Bearer {peer.token}"}
