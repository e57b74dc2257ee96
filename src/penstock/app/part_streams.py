"""Several streams that bring the parts of one large file."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from penstock.app.part_file import PartFile, Run
from penstock.app.progress import Meter
from penstock.contracts.source import Corrupt, ModelSource, RemoteFile
from penstock.kit.backoff import delay_s
from penstock.kit.errors import Unavailable

STREAMS = 8
"""At once, all files together."""
GROW_S, GAIN = 0.4, 1.1
"""A file begins with one stream. Each GROW_S another is added, as long as the last one made the rate grow by so much."""
MAX_FRUITLESS_TRIES = 5
FIRST_WAIT_S, LAST_WAIT_S = 0.5, 15.0
LATER = "the source or the way to it is at fault; ask again later"


class Streams:
    """A bound on streams that files share, and the flag that ends them all."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(STREAMS)
        self.given_up = threading.Event()

    def run(self, source: ModelSource, file: RemoteFile, parts: PartFile, meter: Meter) -> None:
        """Until all parts are here or one cannot be had. Raises what the source raises, Unranged among it."""
        failed = threading.Event()

        def stream() -> None:
            while (
                not (self.given_up.is_set() or failed.is_set()) and (run := parts.claim(STREAMS)) is not None
            ):
                try:
                    with self.slots:
                        self._bring(source, file, run, meter, failed)
                except BaseException:
                    failed.set()
                    raise
                finally:
                    meter.take_back(run.give_back())

        with ThreadPoolExecutor(STREAMS, thread_name_prefix="stream") as pool:
            tasks, best = [pool.submit(stream)], 0.0
            try:
                while True:
                    before = meter.new_bytes
                    done, going_on = wait(tasks, GROW_S, return_when=FIRST_EXCEPTION)
                    if not going_on or any(task.exception() for task in done):
                        break
                    gained = meter.new_bytes - before
                    if gained > GAIN * best and len(tasks) < STREAMS:
                        best = gained
                        tasks.append(pool.submit(stream))
            finally:
                failed.set()
        done, _ = wait(tasks)
        for task in done:
            task.result()

    def _bring(
        self, source: ModelSource, file: RemoteFile, run: Run, meter: Meter, failed: threading.Event
    ) -> None:
        """All of a run; where the connection ends it goes on at that byte."""
        fruitless = 0
        while run.at < run.stop:
            before = run.at
            try:
                for piece in source.read(file, run.at, run.stop):
                    if run.at + len(piece) > run.stop:
                        raise Corrupt(f"{file.path}: found more than the bytes asked for", hint=LATER)
                    run.write(piece)
                    meter.add(len(piece), file.path)
                    if self.given_up.is_set() or failed.is_set():
                        return
                if run.at < run.stop:
                    raise Unavailable(f"the connection ended after {run.at} of {file.size_bytes} bytes")
            except Unavailable as error:
                fruitless = 0 if run.at > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise
                self.given_up.wait(wait_s(error, max(1, fruitless), file.path))


def wait_s(error: Unavailable, fruitless: int, name: str = "") -> float:
    """Says that there will be another try, and how long until then."""
    seconds = delay_s(fruitless, base_s=FIRST_WAIT_S, cap_s=LAST_WAIT_S)
    print(f"{name}{': ' if name else ''}{error.message}; trying again in {seconds:g} s", flush=True)
    return seconds


def pause(error: Unavailable, fruitless: int) -> None:
    """Wait before the next try."""
    time.sleep(wait_s(error, fruitless))
