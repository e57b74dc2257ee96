"""The process that compiles schemas to find out whether that can be done: what becomes of it is nobody else's concern."""

from __future__ import annotations

import argparse
import os
import resource
import signal

import psutil

from penstock.engine.child import silence_telemetry
from penstock.engine.frames import Schema, Unframer, Verdict, encode
from penstock.engine.linked import link_to_parent

MOST_BYTES = 1 << 30
"""Of memory that compilations may take in all; whoever wants more ends the process."""


def main() -> None:
    """Answers until the socket closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument(
        "--limit_s",
        type=float,
        required=True,
        help="processor time of one schema; one that takes more ends this process",
    )
    parser.add_argument("tokenizer")
    arguments = parser.parse_args()
    link = link_to_parent(arguments.fd)
    silence_telemetry()
    import openvino_genai as genai  # noqa: PLC0415  after telemetry was silenced

    from penstock.engine.grammar.trial import GrammarTrial  # noqa: PLC0415  as above

    trial = GrammarTrial(genai.Tokenizer(arguments.tokenizer))
    trial.fault("{}")  # what is made once is not counted as any schema's
    process = psutil.Process()
    began = process.memory_info()
    resource.setrlimit(resource.RLIMIT_DATA, (began.data + MOST_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link.sendall(encode(Verdict()))
    unframer = Unframer(Schema)
    while data := link.recv(1 << 20):
        for asked in unframer.feed(data):
            signal.setitimer(signal.ITIMER_PROF, arguments.limit_s)  # SIGPROF at its end
            fault = trial.fault(asked.text)
            signal.setitimer(signal.ITIMER_PROF, 0)
            grown_bytes = process.memory_info().rss - began.rss
            link.sendall(encode(Verdict(fault, max(0, grown_bytes))))
    os._exit(0)


if __name__ == "__main__":
    main()
