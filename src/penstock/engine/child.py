"""The process that owns the pipeline: takes requests from a socket, steps, sends tokens back, one frame a step.

It is a process of its own because `step()` holds the interpreter's lock: the HTTP side would stand still for as long.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import select
import socket
import sys
import types
from pathlib import Path
from typing import Any

from penstock.engine.convert.cache import loadable
from penstock.engine.frames import (
    Add,
    Cancel,
    Downward,
    Failed,
    Loaded,
    Sampling,
    Step,
    Unframer,
    Update,
    encode,
)
from penstock.engine.linked import link_to_parent
from penstock.engine.prefixes import LeaderGate
from penstock.kit.errors import PlatformError

MOST_MIN_P = 1 - 2**-24
"""The library takes less than 1 only; a float32 nearer to it there is not."""


def silence_telemetry() -> None:
    """OpenVINO reports its import to a third party unless this module is absent; nothing may leave the process."""
    stub = types.ModuleType("openvino.tools.ovc")
    stub.convert_model = None  # type: ignore[attr-defined]
    sys.modules["openvino.tools.ovc"] = stub
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


class Runner:
    """One pipeline and the requests in it."""

    def __init__(self, pipeline: Any, genai: Any, ov: Any, eos: list[int], blocks: int) -> None:
        """Each of `eos` ends an answer unless a request ignores them; `blocks` of the KV pool."""
        self._pipeline = pipeline
        self._genai = genai
        self._ov = ov
        self._eos = eos
        self._handles: dict[int, Any] = {}
        self._gate = LeaderGate(blocks)
        self._failed: list[Update] = []
        self._with_logprobs: set[int] = set()
        self._dropped = False

    @property
    def busy(self) -> bool:
        """Whether stepping would do something; a cancelled request leaves the pipeline only in a step."""
        return bool(self._handles) or bool(self._failed) or self._dropped

    def add(self, message: Add) -> None:
        """Start it, or hold it until another that computes the same prefix has done so."""
        if self._gate.admit(message):
            self._start(message)

    def cancel(self, message: Cancel) -> None:
        """Forget it; the pipeline drops it at its next step."""
        self._gate.forget(message.id)
        self._with_logprobs.discard(message.id)
        handle = self._handles.pop(message.id, None)
        if handle is not None:
            handle.cancel()
            self._dropped = True
        self._release()

    def step(self) -> Step:
        """One step of the pipeline."""
        self._dropped = False
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        updates, self._failed = self._failed, []
        for number, handle in tuple(self._handles.items()):
            update = self._read(number, handle)
            if update.tokens:
                self._gate.computed(number)
            if update.finish:
                del self._handles[number]
                self._with_logprobs.discard(number)
                self._gate.forget(number)
            if update.tokens or update.finish:
                updates.append(update)
        self._release()
        # the library's number is from before the last requests gave their blocks back
        usage = self._pipeline.get_metrics().cache_usage / 100.0 if self._handles else 0.0
        return Step(updates, len(self._handles), usage)

    def _release(self) -> None:
        for message in self._gate.released():
            self._start(message)

    def _start(self, message: Add) -> None:
        import numpy as np  # noqa: PLC0415  loaded with OpenVINO, after telemetry was silenced

        ids = self._ov.Tensor(np.array([message.tokens], dtype=np.int64))
        try:
            config = self._config(message.sampling)
            self._handles[message.id] = self._pipeline.add_request(message.id, ids, config)
            if message.sampling.logprobs:
                self._with_logprobs.add(message.id)
        except (RuntimeError, ValueError, TypeError) as error:
            self._gate.forget(message.id)
            self._failed.append(Update(message.id, finish="error", error=str(error).splitlines()[0]))

    def _config(self, s: Sampling) -> Any:
        config = self._genai.GenerationConfig(
            max_new_tokens=s.max_tokens,
            eos_token_id=self._eos[0],
            stop_token_ids=set(self._eos),
            ignore_eos=s.ignore_eos,
        )
        config.do_sample = s.temperature > 0
        wished = {
            "temperature": s.temperature if s.temperature > 0 else None,
            "top_p": s.top_p if s.temperature > 0 else None,
            "top_k": s.top_k if s.temperature > 0 else None,
            "min_p": min(s.min_p, MOST_MIN_P) if s.min_p is not None and s.temperature > 0 else None,
            "rng_seed": s.seed if s.seed is not None else secrets.randbits(63),
            "presence_penalty": s.presence_penalty,
            "frequency_penalty": s.frequency_penalty,
            "repetition_penalty": s.repetition_penalty,
            "logprobs": 1 if s.logprobs else None,
        }
        for name, value in wished.items():
            if value is not None:
                setattr(config, name, value)
        if s.json_schema is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(json_schema=s.json_schema)
        return config

    def _read(self, number: int, handle: Any) -> Update:
        tokens: list[int] = []
        logprobs: list[float] = []
        finish = ""
        while handle.can_read():
            for output in handle.read().values():
                tokens.extend(output.generated_ids)
                logprobs.extend(output.generated_log_probs)
                reason = str(output.finish_reason).rpartition(".")[2]
                finish = {"STOP": "stop", "LENGTH": "length"}.get(reason, finish)
        status = str(handle.get_status()).rpartition(".")[2]
        if not finish and status != "RUNNING":
            finish = "out_of_memory" if status == "IGNORED" else "stop"
        return Update(number, tokens, logprobs if number in self._with_logprobs else [], finish)


def load(arguments: argparse.Namespace) -> tuple[Runner, Loaded]:
    """The pipeline. Raises PlatformError with what is wrong with the model."""
    silence_telemetry()
    path = loadable(Path(arguments.model_dir), Path(arguments.cache_dir))
    import openvino as ov  # noqa: PLC0415
    import openvino_genai as genai  # noqa: PLC0415

    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = arguments.kv_blocks
    scheduler.max_num_batched_tokens = arguments.max_num_batched_tokens
    scheduler.max_num_seqs = arguments.max_num_seqs
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f16",
        "INFERENCE_NUM_THREADS": arguments.threads,
        "ENABLE_CPU_PINNING": False,
    }
    pipeline = genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)
    structured = path.is_file() or (path / "openvino_tokenizer.xml").exists()  # GGUF brings its tokenizer
    runner = Runner(pipeline, genai, ov, arguments.eos, arguments.kv_blocks)
    return runner, Loaded(arguments.kv_blocks, str(path) if structured else "")


def main() -> None:
    """Run until the socket closes."""
    parser = argparse.ArgumentParser()
    for name in ("fd", "kv_blocks", "max_num_batched_tokens", "max_num_seqs", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--eos", type=lambda text: [int(n) for n in text.split(",")], required=True)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--cache_dir", required=True)
    arguments = parser.parse_args()
    link = link_to_parent(arguments.fd)
    try:
        runner, loaded = load(arguments)
    except PlatformError as error:
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        link.sendall(encode(Failed(text, error.code)))
        os._exit(2)
    except (RuntimeError, ValueError, ImportError, OSError) as error:
        link.sendall(encode(Failed(f"the model cannot be loaded: {str(error).strip().splitlines()[-1]}")))
        os._exit(2)
    link.sendall(encode(loaded))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone
        _serve(link, runner)
    os._exit(0)  # the library's own clean-up complains about requests that are still there


def _serve(link: socket.socket, runner: Runner) -> None:
    unframer = Unframer(Downward)
    while True:
        readable, _, _ = select.select([link], [], [], 0 if runner.busy else None)
        if readable:
            data = link.recv(1 << 20)
            if not data:
                return
            for message in unframer.feed(data):
                if isinstance(message, Add):
                    runner.add(message)
                else:
                    runner.cancel(message)
        if runner.busy:
            link.sendall(encode(runner.step()))


if __name__ == "__main__":
    main()
