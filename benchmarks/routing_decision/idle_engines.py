"""As many engines as an idle fleet has, without any model: a page of metrics as long as vLLM's, and now and then a KV event.

`python -m benchmarks.routing_decision.idle_engines COUNT`: each on an address and ports of its own (see `address`). Ended by SIGTERM, it
prints how often it was asked and how often it told something.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys

from penstock.engine.kv_events import Publisher
from penstock.engine.prefixes import Stored

HTTP_PORT, EVENTS_PORT, REPLAY_PORT = 18_500, 18_501, 18_502
BLOCK_TOKENS, BLOCKS = 16, 32
EVERY_S = 10.0
"""How often each engine tells of one prompt: somebody asks it something, seldom."""
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
    "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total", "request_max_num_generation_tokens",
    "request_params_n", "request_params_max_tokens",
)  # fmt: skip
COUNTERS = (
    "prompt_tokens_total", "generation_tokens_total", "num_preemptions_total", "prefix_cache_queries_total",
    "prefix_cache_hits_total", "request_success_total",
)  # fmt: skip
BUCKETS = 22


def address(number: int) -> str:
    """Of one engine."""
    return f"127.77.{number >> 8}.{number & 255}"


def page() -> bytes:
    """What vLLM 0.10 says of itself, in its names and about its length."""
    labels, lines = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"', list[str]()
    for name in HISTOGRAMS:
        lines += [
            f"# HELP vllm:{name} Histogram of {name.replace('_', ' ')}.",
            f"# TYPE vllm:{name} histogram",
        ]
        lines += [
            f'vllm:{name}_bucket{{{labels},le="{0.001 * 2**n:g}"}} {n * 1000}.0' for n in range(BUCKETS)
        ]
        lines += [f'vllm:{name}_bucket{{{labels},le="+Inf"}} 22000.0', f"vllm:{name}_sum{{{labels}}} 1.5e+06"]
        lines += [f"vllm:{name}_count{{{labels}}} 22000.0"]
    for name in COUNTERS:
        lines += [f"# TYPE vllm:{name} counter", f"vllm:{name}{{{labels}}} 123456.0"]
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        lines += [f"# TYPE vllm:{name} gauge", f"vllm:{name}{{{labels}}} 0.0"]
    lines += [
        f'vllm:cache_config_info{{block_size="{BLOCK_TOKENS}",engine="0",num_gpu_blocks="27000"}} 1.0',
        "process_start_time_seconds 1.7e+09",
    ]
    return "\n".join(lines).encode() + b"\n"


async def main(count: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    body, asked, told = page(), 0, 0
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
        % (
            len(body),
            body,
        )
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(answer)
        await writer.drain()
        writer.close()

    for number in range(count):
        await asyncio.start_server(serve, address(number), HTTP_PORT)
    publishers = [_publisher(number, loop) for number in range(count)]
    draws = random.Random(1)
    print("ready", flush=True)
    while not stop.is_set():
        draws.choice(publishers).publish([_prompt(draws)])
        told += 1
        try:
            async with asyncio.timeout(EVERY_S / count):
                await stop.wait()
        except TimeoutError:
            continue
    print(f"{asked} {told} {len(body)}", flush=True)


def _publisher(number: int, loop: asyncio.AbstractEventLoop) -> Publisher:
    where = f"tcp://{address(number)}"
    live, replay = f"{where}:{EVENTS_PORT}", f"{where}:{REPLAY_PORT}"
    publisher = Publisher(live, replay, block_tokens=BLOCK_TOKENS, medium="GPU")
    publisher.listen(loop)
    return publisher


def _prompt(draws: random.Random) -> Stored:
    hashes = tuple(draws.getrandbits(63) for _ in range(BLOCKS))
    tokens = tuple(draws.getrandbits(16) for _ in range(BLOCKS * BLOCK_TOKENS))
    return Stored(hashes, None, tokens)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
