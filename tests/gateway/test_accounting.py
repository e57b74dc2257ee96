"""Through the whole gateway: tokens are counted also where the caller did not ask for them, and the caller sees nothing of it."""

import json
from pathlib import Path

import httpx
import pytest
from gateway_world import STREAM, Engine, Gateway, chunk, service
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from plain_http import PLAIN

TEXT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
USAGE = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}\n\n'
)
DONE = b"data: [DONE]\n\n"


async def tell(engine, head, reader, writer):
    """As engines do: usage only if it was asked for, here in pieces."""
    asked = json.loads(engine.requests[-1][1]).get("stream_options", {}).get("include_usage")
    pieces = [TEXT, TEXT, *([USAGE[:30], USAGE[30:]] if asked else []), DONE]
    writer.write(STREAM)
    for piece in pieces:
        writer.write(chunk(piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("options", "seen"),
    [({}, TEXT + TEXT + DONE), ({"stream_options": {"include_usage": True}}, TEXT + TEXT + USAGE + DONE)],
)
async def test_a_stream_is_accounted_and_its_caller_gets_what_he_asked_for(
    tmp_path: Path, options: dict[str, object], seen: bytes
) -> None:
    engine = Engine("e", tell)
    await engine.start()
    async with (
        Gateway(tmp_path, service(engine)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
    ):
        body = {"model": "m", "stream": True, **options}
        answer = await client.post("/v1/chat/completions", json=body)
        plain = (await client.get("/metrics")).text
        wanted = {"accept": "application/openmetrics-text;version=1.0.0"}
        openmetrics = await client.get("/metrics", headers=wanted)
    assert answer.content == seen
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_request_model": "default/m",
        "gen_ai_response_model": "m",
    }
    counted = {
        s.labels["gen_ai_token_type"]: s.value
        for family in families(plain)
        for s in family.samples
        if s.name == "gen_ai_client_token_usage_sum" and labels.items() <= s.labels.items()
    }
    assert counted == {"input": 9, "output": 4}
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {"gen_ai_server_time_to_first_token_seconds", "penstock_gateway_streams"} <= {
        family.name for family in open_families(openmetrics.text)
    }
