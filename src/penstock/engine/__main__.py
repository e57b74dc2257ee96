"""`python -m penstock.engine`: serve one model on this machine's CPU."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from penstock.engine.api import Api
from penstock.engine.child import silence_telemetry
from penstock.engine.convert.cache import IR, gguf_of
from penstock.engine.convert.config import context_tokens, read_config
from penstock.engine.convert.encoder_config import is_encoder
from penstock.engine.convert.gguf import read_gguf
from penstock.engine.convert.gguf_tokenizer import gguf_context_tokens
from penstock.engine.grammar.schemas import Schemas
from penstock.engine.kv_events import Publisher
from penstock.engine.metrics import Metrics
from penstock.engine.prefixes import BLOCK_TOKENS, BlockMirror
from penstock.engine.runner import Engine
from penstock.engine.serving import serve_until_stopped
from penstock.engine.text import Text
from penstock.engine.wishes import Bounds
from penstock.kit.errors import NotFound, PlatformError

CANNOT_SERVE = 2
CRASHED = 3
UNSAID_CONTEXT_TOKENS = 8192
"""What a model is taken to see at once if nothing says it."""
logger = logging.getLogger("penstock.engine")


def arguments_of(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(prog="penstock-cpu", description=__doc__)
    p.add_argument(
        "--model_dir",
        type=Path,
        required=True,
        help="Hugging Face folder, OpenVINO IR, or a folder with one GGUF",
    )
    p.add_argument("--model_name", required=True, help="the name that requests say")
    p.add_argument(
        "--host", default=os.environ.get("POD_IP", "127.0.0.1"), help="address to listen on (POD_IP)"
    )
    p.add_argument("--http_port", type=int, default=8080, help="port to listen on")
    p.add_argument(
        "--cache_dir", type=Path, default=None, help="where converted models are kept (PENSTOCK_CACHE_DIR)"
    )
    p.add_argument("--kv_blocks", type=int, default=1024, help="KV pool, in blocks of 32 tokens")
    p.add_argument(
        "--max_num_batched_tokens",
        type=int,
        default=128,
        help="tokens of one step; smaller: smoother streams",
    )
    p.add_argument("--max_num_seqs", type=int, default=64, help="requests in one batch")
    p.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="CPU threads")
    p.add_argument(
        "--kv_events_endpoint", default=None, help="publish KV events here, as tcp://127.0.0.1:5557"
    )
    p.add_argument("--kv_events_replay_endpoint", default=None, help="serve replays of KV events here")
    return p.parse_args(argv)


async def serve(arguments: argparse.Namespace) -> None:
    """Until SIGTERM; then running requests may end. Raises PlatformError if the model cannot be served."""
    folder: Path = arguments.model_dir
    if (folder / "config.json").exists() and is_encoder(folder):
        await _embed(arguments)
    else:
        await _generate(arguments)


async def _generate(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.model_dir
    text = _text(folder)
    context = _context_tokens(folder)
    publisher = (
        Publisher(arguments.kv_events_endpoint, arguments.kv_events_replay_endpoint)
        if arguments.kv_events_endpoint
        else None
    )
    metrics = Metrics(arguments.model_name, arguments.kv_blocks, BLOCK_TOKENS)
    engine = Engine(_child_command(arguments, text), metrics, BlockMirror(arguments.kv_blocks), publisher)
    bounds = Bounds(arguments.model_name, context, arguments.kv_blocks, text.size)
    schemas = Schemas(metrics)
    api = Api(engine, text, bounds, int(time.time()), schemas)
    if publisher is not None:
        publisher.listen(asyncio.get_running_loop())
    running = asyncio.create_task(engine.run())
    telling = asyncio.create_task(_tell(arguments, engine))
    try:
        await serve_until_stopped(api, arguments.host, arguments.http_port, running)
    finally:
        telling.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError, PlatformError):
            await running
        engine.close()
        schemas.close()
        if publisher is not None:
            publisher.close()


async def _embed(arguments: argparse.Namespace) -> None:
    silence_telemetry()
    from penstock.engine.embeddings import Embedder, EmbeddingApi  # noqa: PLC0415  only where it is needed

    logger.info("loading %s from %s", arguments.model_name, arguments.model_dir)
    embedder = Embedder(arguments.model_dir, _cache_dir(arguments), arguments.threads)
    metrics = Metrics(arguments.model_name, 0, BLOCK_TOKENS)
    api = EmbeddingApi(embedder, metrics, arguments.model_name, int(time.time()))
    logger.info("serving %s at http://%s:%d", arguments.model_name, arguments.host, arguments.http_port)
    await serve_until_stopped(api, arguments.host, arguments.http_port)


def _text(folder: Path) -> Text:
    if not folder.is_dir():
        raise NotFound(
            f"--model_dir: {folder} is no folder", code="missing_model", hint="give the folder of the model"
        )
    return Text(folder)


async def _tell(arguments: argparse.Namespace, engine: Engine) -> None:
    """For whoever reads the log: loading, and serving from when on."""
    began = time.monotonic()
    logger.info("loading %s from %s", arguments.model_name, arguments.model_dir)
    await engine.ready.wait()
    where = f"http://{arguments.host}:{arguments.http_port}"
    logger.info("serving %s at %s after %.1f s", arguments.model_name, where, time.monotonic() - began)


def _context_tokens(folder: Path) -> int:
    """What GGUF or config.json says, whatever the architecture of a model that is OpenVINO IR already; else a guess."""
    gguf = gguf_of(folder)
    if gguf is not None:
        return gguf_context_tokens(read_gguf(gguf)) or UNSAID_CONTEXT_TOKENS
    if (folder / IR).exists() or not (folder / "config.json").exists():
        return context_tokens(folder) or UNSAID_CONTEXT_TOKENS
    return read_config(folder).context_tokens


def _cache_dir(arguments: argparse.Namespace) -> Path:
    named = arguments.cache_dir or os.environ.get("PENSTOCK_CACHE_DIR")
    return Path(named) if named else Path(tempfile.gettempdir()) / "penstock-cache"


def _child_command(arguments: argparse.Namespace, text: Text) -> list[str]:
    if not text.eos:
        raise NotFound(
            "the model names no end-of-sequence token",
            code="missing_eos",
            hint="add eos_token_id to generation_config.json",
        )
    named = {
        "model_dir": arguments.model_dir,
        "cache_dir": _cache_dir(arguments),
        "kv_blocks": arguments.kv_blocks,
        "max_num_batched_tokens": arguments.max_num_batched_tokens,
        "max_num_seqs": arguments.max_num_seqs,
        "threads": arguments.threads,
        "eos": ",".join(map(str, text.eos)),
    }
    return [f"--{name}={value}" for name, value in named.items()]


def main() -> None:
    """Exit codes: 0 asked to stop, 2 the model cannot be served, 3 the pipeline's process died."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = arguments_of()
    try:
        uvloop.run(serve(arguments))
    except PlatformError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error.message}{hint}\n")
        sys.exit(CRASHED if error.code == "engine_crashed" else CANNOT_SERVE)


if __name__ == "__main__":
    main()
