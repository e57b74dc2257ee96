"""How much memory does the embedded engine really take, beside the estimate? Models of three sizes with random weights, one at a time.

Measured is the proportional set size of both of its processes after a prompt that fills part of the KV pool, which the estimate is told of.
Libraries that other engines on the machine use as well count in part, so that on an idle machine it is some 30 MiB more.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil

from penstock.app.model_headers import read_headers
from penstock.decide.engine_memory import engine_memory
from penstock.decide.memory_need import Device, Plan, terms

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
SIZES = ((256, 4), (512, 8), (1024, 12))
"""Width and layers."""
BLOCK_TOKENS, BLOCKS = 32, 64
PROMPT = "a b c d e f g h i j " * 60
START_S = 120.0


class Measured(NamedTuple):
    """Bytes of one model."""

    parameters: int
    estimate: int
    taken: int


def write_model(folder: Path, hidden: int, layers: int) -> int:
    """A decoder of the Llama family that the tokenizer of the shipped model serves; how many weights it has."""
    config = json.loads((TINY / "config.json").read_text())
    kv = max(2, hidden // 128)
    config |= {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 3 * hidden,
        "head_dim": 64,
    }
    config |= {"num_attention_heads": hidden // 64, "num_key_value_heads": kv}
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.{name}_proj.weight": (rows, hidden)
            for name, rows in (("q", hidden), ("k", kv * 64), ("v", kv * 64), ("o", hidden))
        }
        shapes |= {f"{at}mlp.{name}_proj.weight": (3 * hidden, hidden) for name in ("gate", "up")}
        shapes |= {
            f"{at}mlp.down_proj.weight": (hidden, 3 * hidden),
            f"{at}input_layernorm.weight": (hidden,),
            f"{at}post_attention_layernorm.weight": (hidden,),
        }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    head, end, random = {}, 0, np.random.default_rng(1)
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        head[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(head).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            file.write(
                (random.standard_normal(shape, dtype=np.float32) * hidden**-0.5).astype(np.float16).tobytes()
            )
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(TINY / name, folder / name)
    return end // 2


@contextmanager
def engine(folder: Path) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """`python -m penstock.engine` with the model, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "model_dir": folder,
        "model_name": "m",
        "host": "127.0.0.1",
        "http_port": port,
        "cache_dir": folder / "cache",
        "threads": 1,
        "kv_blocks": BLOCKS,
    }
    argv = [
        sys.executable,
        "-m",
        "penstock.engine",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=180.0, trust_env=False) as client:
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and not is_ready(client):
                time.sleep(0.1)
            yield client, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(15)


def is_ready(client: httpx.Client) -> bool:
    """Whether it answers yet."""
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def measure(folder: Path, hidden: int, layers: int) -> Measured:
    """One model, estimated and then run."""
    folder.mkdir()
    parameters = write_model(folder, hidden, layers)
    with engine(folder) as (client, process):
        body: dict[str, Any] = {"model": "m", "prompt": PROMPT, "max_tokens": 2, "ignore_eos": True}
        answer = client.post("/v1/completions", json=body)
        answer.raise_for_status()
        tokens = answer.json()["usage"]["total_tokens"]
        taken = sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True)))
    memory = psutil.virtual_memory().total
    plan = Plan(concurrency=1, context_tokens=tokens)
    summands = terms(
        read_headers(str(folder), {}).shape,
        plan,
        Device(name="here", memory_bytes=memory),
        engine_memory("penstock-cpu"),
    )
    return Measured(parameters, sum(term.size_bytes for term in summands), taken)
