"""What a download achieves: its rate beside a plain curl's, from three kinds of source, and what a kill costs."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 256 << 10
HUB_FILES = 2
CURL, VERIFIED = "curl", "curl + sha256sum"
SYSTEMS = (CURL, "http", "s3", "hf", VERIFIED)


@dataclass(frozen=True)
class Origin:
    """The servers, and what stands behind them."""

    port: int
    root: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def served_bytes(self) -> int:
        with urllib.request.urlopen(f"{self.base}/_served") as answer:
            return int(answer.read())

    def environ(self, cache: Path) -> dict[str, str]:
        """Of a fetcher: where its sources are."""
        return {
            **os.environ,
            "PENSTOCK_CACHE_DIR": str(cache),
            "AWS_ENDPOINT_URL": self.base,
            "HF_ENDPOINT": self.base,
            "HF_HUB_OFFLINE": "0",
        }

    def uri(self, kind: str) -> str:
        return {"http": f"{self.base}/files/weights.bin", "s3": "s3://models/llm", "hf": "hf://bench/model"}[
            kind
        ]


def generate(root: Path, size_bytes: int) -> None:
    """The same weights behind every kind of source; the Hub has them in two files, as shards."""
    for folder in ("files", "s3/models/llm", "hub/bench/model"):
        (root / folder).mkdir(parents=True)
    whole = root / "files" / "weights.bin"
    with whole.open("wb") as out:
        for _ in range(size_bytes // CHUNK_BYTES):
            out.write(os.urandom(CHUNK_BYTES))
        out.write(os.urandom(size_bytes % CHUNK_BYTES))
    os.link(whole, root / "s3/models/llm/weights.bin")
    shard = size_bytes // HUB_FILES
    with whole.open("rb") as source:
        for number in range(HUB_FILES):
            path = root / "hub/bench/model" / f"model-{number}.safetensors"
            digest = hashlib.sha256()
            with path.open("wb") as out:
                left = shard
                while left and (piece := source.read(min(left, CHUNK_BYTES))):
                    out.write(piece)
                    digest.update(piece)
                    left -= len(piece)
            path.with_name(f"{path.name}.sha256").write_text(digest.hexdigest())


@contextmanager
def origin(root: Path, bytes_per_s: float = 0.0) -> Iterator[Origin]:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cache.server", str(root), str(bytes_per_s)], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout
        yield Origin(int(server.stdout.readline()), root)
    finally:
        server.terminate()
        server.wait(10)


def start_fetch(origin: Origin, uri: str, cache: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "penstock.app.fetch", uri, str(folder)],
        env=origin.environ(cache),
        stdout=subprocess.DEVNULL,
    )


def fetch_s(origin: Origin, kind: str, scratch: Path) -> float:
    """Wall time of the whole program: start, listing, bytes, digests, disk, links."""
    began = time.monotonic()
    fetch = start_fetch(origin, origin.uri(kind), scratch / "cache", scratch / "pod")
    if fetch.wait(600):
        raise SystemExit(f"fetching from {kind} ended with {fetch.returncode}")
    return time.monotonic() - began


def curl_s(origin: Origin, scratch: Path, *, verified: bool = False) -> float:
    """Wall time of curl alone, or of curl and sha256sum after it."""
    began, target = time.monotonic(), str(scratch / "curl.bin")
    subprocess.run(["curl", "-sf", "-o", target, origin.uri("http")], check=True)
    if verified:
        subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def timed_s(system: str, origin: Origin, work: Path) -> float:
    """Seconds of one system, which begins with an empty folder and a disk that has nothing to write."""
    scratch = work / "scratch"
    scratch.mkdir()
    os.sync()
    if system in (CURL, VERIFIED):
        took_s = curl_s(origin, scratch, verified=system == VERIFIED)
    else:
        took_s = fetch_s(origin, system, scratch)
    shutil.rmtree(scratch)
    return took_s


def rates(origin: Origin, work: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds by system, interleaved, each of them first in turn. What comes before them is not counted: memory that nobody has had is slower."""
    times: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    print(f"warming up: curl took {timed_s(CURL, origin, work):.2f} s", flush=True)
    for number in range(repeats):
        turn = number % len(SYSTEMS)
        for system in (*SYSTEMS[turn:], *SYSTEMS[:turn]):
            took_s = timed_s(system, origin, work)
            times[system].append(took_s)
            print(f"run {number + 1} of {repeats}: {system} took {took_s:.2f} s", flush=True)
    return times


def killed(origin: Origin, work: Path, size_bytes: int) -> tuple[int, float]:
    """Bytes that were sent twice because the fetcher was killed when half had been sent; and the share that the second run was spared."""
    scratch, before = work / "scratch", origin.served_bytes()
    scratch.mkdir()
    first = start_fetch(origin, origin.uri("http"), scratch / "cache", scratch / "pod")
    while origin.served_bytes() - before < size_bytes // 2:
        if first.poll() is not None:
            raise SystemExit("the fetcher ended before it could be killed: take more bytes")
        time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(0.5)
    middle = origin.served_bytes()
    fetch_s(origin, "http", scratch)
    after = origin.served_bytes()
    same = filecmp(scratch / "pod" / "weights.bin", origin.root / "files" / "weights.bin")
    shutil.rmtree(scratch)
    if not same:
        raise SystemExit("what was resumed is not what is at the source")
    return after - before - size_bytes, 1 - (after - middle) / size_bytes


def at_once(origin: Origin, work: Path, count: int) -> int:
    """Bytes that the source sent to so many fetchers of one cache that began at the same time."""
    scratch, before = work / "scratch", origin.served_bytes()
    scratch.mkdir()
    uri = origin.uri("http")
    fetches = [start_fetch(origin, uri, scratch / "cache", scratch / f"pod-{n}") for n in range(count)]
    codes = [fetch.wait(600) for fetch in fetches]
    shutil.rmtree(scratch)
    if any(codes):
        raise SystemExit(f"fetchers ended with {codes}")
    return origin.served_bytes() - before


def filecmp(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        return hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()


def median(values: list[float]) -> float:
    return statistics.median(values)
