"""`python -m penstock.engine.simulated`: an engine with vLLM's API whose time is simulated and whose words mean nothing."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from pathlib import Path

import uvloop
from msgspec.structs import replace

from penstock.engine.kv_events import Publisher
from penstock.engine.metrics import Metrics
from penstock.engine.prefixes import BLOCK_TOKENS
from penstock.engine.serving import serve_until_stopped
from penstock.engine.simulated.api import SimulatedApi
from penstock.engine.simulated.byte_text import ByteText
from penstock.engine.simulated.collector import ModelCollector
from penstock.engine.simulated.faults import FAULTS, read_fault
from penstock.engine.simulated.live import Simulation
from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile, load_profile, profile_names
from penstock.engine.text import Text, Vocabulary
from penstock.engine.wishes import MARGIN_BLOCKS, Bounds
from penstock.kit.errors import InvalidInput, PlatformError

CANNOT_SERVE = 2
logger = logging.getLogger("penstock.engine.simulated")


def arguments_of(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(prog="penstock-sim", description=__doc__)
    p.add_argument("--model_name", required=True, help="the name that requests say")
    p.add_argument(
        "--host", default=os.environ.get("POD_IP", "127.0.0.1"), help="address to listen on (POD_IP)"
    )
    p.add_argument("--http_port", type=int, default=8080, help="port to listen on")
    p.add_argument(
        "--profile",
        default="llama-8b-h100",
        help=f"how fast it is: a file, or one of {', '.join(profile_names())}",
    )
    p.add_argument("--time-scale", type=float, default=1.0, help="how many times as fast as real time")
    p.add_argument("--kv-blocks", type=int, default=0, help="blocks of the KV pool (the profile's)")
    p.add_argument("--block-size", type=int, default=0, help="tokens of a block (the profile's)")
    p.add_argument("--max-num-batched-tokens", type=int, default=0, help="budget of a step (the profile's)")
    p.add_argument("--max-num-seqs", type=int, default=0, help="requests in one batch (the profile's)")
    p.add_argument("--max-loras", type=int, default=-1, help="adapters at a time (the profile's)")
    p.add_argument("--answer-tokens", type=int, default=0, help="where answers end of themselves; 0: never")
    p.add_argument(
        "--tokenizer", type=Path, default=None, help="a folder with tokenizer.json (four bytes a token)"
    )
    p.add_argument(
        "--kv_events_endpoint", default=None, help="publish KV events here, as tcp://127.0.0.1:5557"
    )
    p.add_argument("--kv_events_replay_endpoint", default=None, help="serve replays of KV events here")
    p.add_argument("--kv_events_topic", default="", help="their topic")
    faults = "; ".join(f"{name} {what}" for name, what in FAULTS.items())
    p.add_argument("--fault", action="append", default=[], help=f"NAME[=VALUE][:SHARE], where {faults}")
    p.add_argument("--allow-faults", action="store_true", help="let requests ask by x-penstock-fault")
    return p.parse_args(argv)


def profile_of(arguments: argparse.Namespace) -> EngineProfile:
    """The profile with what the command line says in its place. Raises NotFound and InvalidInput."""
    profile = load_profile(arguments.profile, "--profile")
    block_tokens = arguments.block_size or profile.block_tokens
    slots = arguments.max_loras if arguments.max_loras >= 0 else profile.adapter_slots
    changed = replace(
        profile,
        block_tokens=block_tokens,
        kv_tokens=arguments.kv_blocks * block_tokens or profile.kv_tokens,
        max_batched_tokens=arguments.max_num_batched_tokens or profile.max_batched_tokens,
        max_sequences=arguments.max_num_seqs or profile.max_sequences,
        adapter_slots=slots,
    )
    figures = ("block_tokens", "kv_tokens", "max_batched_tokens", "max_sequences")
    for name in figures:
        if getattr(changed, name) <= 0:
            raise InvalidInput(f"{name}: found {getattr(changed, name)}, expected more than 0")
    if not arguments.time_scale > 0:
        raise InvalidInput(f"--time-scale: found {arguments.time_scale}, expected more than 0")
    return changed


async def serve(arguments: argparse.Namespace) -> None:
    """Until SIGTERM; then running requests may end. Raises PlatformError if it cannot serve."""
    profile = profile_of(arguments)
    faults = [read_fault(text, "--fault") for text in arguments.fault]
    text: Vocabulary = Text(arguments.tokenizer) if arguments.tokenizer else ByteText()
    publisher = _publisher(arguments, profile)
    model = Engine(profile, 0.0, records=publisher is not None)
    metrics = Metrics(arguments.model_name, model.pool.blocks, profile.block_tokens)
    metrics.registry.register(ModelCollector(model, arguments.model_name))
    simulation = Simulation(
        model,
        metrics,
        publisher,
        text,
        scale=arguments.time_scale,
        answer_tokens=arguments.answer_tokens,
    )
    room_tokens = model.pool.blocks * profile.block_tokens
    bounds = Bounds(
        arguments.model_name,
        profile.context_tokens or room_tokens,
        room_tokens // BLOCK_TOKENS + MARGIN_BLOCKS,
        text.size,
    )
    api = SimulatedApi(
        simulation,
        text,
        bounds,
        int(time.time()),
        (arguments.host, arguments.http_port),
        faults=faults,
        allows_faults=arguments.allow_faults,
    )
    if publisher is not None:
        publisher.listen(asyncio.get_running_loop())
    running = asyncio.create_task(simulation.run())
    where = f"http://{arguments.host}:{arguments.http_port}"
    logger.info("simulating %s as %s at %s", profile.name, arguments.model_name, where)
    try:
        await serve_until_stopped(api, arguments.host, arguments.http_port, running)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        if publisher is not None:
            publisher.close()


def _publisher(arguments: argparse.Namespace, profile: EngineProfile) -> Publisher | None:
    if not arguments.kv_events_endpoint:
        return None
    return Publisher(
        arguments.kv_events_endpoint,
        arguments.kv_events_replay_endpoint,
        block_tokens=profile.block_tokens,
        medium="GPU",
        topic=arguments.kv_events_topic.encode(),
    )


def main() -> None:
    """Exit codes: 0 asked to stop, 2 it cannot serve."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(serve(arguments_of()))
    except PlatformError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error.message}{hint}\n")
        sys.exit(CANNOT_SERVE)


if __name__ == "__main__":
    main()
