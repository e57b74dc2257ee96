"""vLLM's `kv_transfer_params`: one engine computes a prompt, another goes on with its KV."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Struct

from penstock.engine.wishes import wrong

FIELD = "kv_transfer_params"
REMOTE = ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")


class Transfer(Struct, frozen=True):
    """`is_kept`: the blocks stay for another engine. `is_remote`: the prompt's KV lies with another engine."""

    is_kept: bool = False
    is_remote: bool = False


def read_transfer(body: bytes) -> Transfer | None:
    """None where a request says nothing of it, or is no JSON. Raises InvalidInput."""
    if FIELD.encode() not in body:
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    said = document.get(FIELD) if isinstance(document, dict) else None
    if said is None:
        return None
    if not isinstance(said, dict):
        raise wrong(FIELD, said, "an object")
    transfer = Transfer(bool(said.get("do_remote_decode")), bool(said.get("do_remote_prefill")))
    if transfer.is_kept and document.get("stream"):
        raise wrong("stream", True, f"false with {FIELD}.do_remote_decode")
    for name in REMOTE:
        if transfer.is_remote and said.get(name) is None:
            raise wrong(f"{FIELD}.{name}", None, "what the engine that computed the prompt said")
    return transfer


def told(engine_id: str, host: str, port: int, blocks: int) -> dict[str, Any]:
    """What the engine that goes on must be given."""
    return {
        FIELD: {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": engine_id,
            "remote_block_ids": list(range(blocks)),
            "remote_host": host,
            "remote_port": port,
        }
    }
