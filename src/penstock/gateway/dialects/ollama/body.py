"""The bodies of /api/chat, /api/generate and /api/embed, as far as they are understood."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct


class Function(Struct):
    """What is called; `arguments` is an object, not text."""

    name: str
    arguments: Raw = Raw(b"{}")


class ToolCall(Struct):
    """Older clients send no id."""

    function: Function
    id: str = ""


class Turn(Struct):
    """One message; `images` are base64 without a media type. `tool_name` and `tool_call_id` say whose result this is."""

    role: str
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Options(Struct):
    """Those that say how to choose tokens. Those that say how to load a model are the service's, and skipped."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class Asked(Struct, kw_only=True):
    """What chat and generate share. `format` is a word or a JSON schema; `keep_alive` is 0, or "0", when the model is to be unloaded."""

    model: str
    stream: bool | None = None
    format: Raw = Raw()
    options: Options | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    keep_alive: Any = None


class Chat(Asked, kw_only=True):
    """The body of /api/chat."""

    messages: list[Turn] | None = None
    tools: list[Raw] | None = None


class Generate(Asked, kw_only=True):
    """The body of /api/generate."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool = False
    template: str | None = None
    context: list[int] | None = None


class Embed(Struct, kw_only=True):
    """The body of /api/embed (`input`) and of the older /api/embeddings (`prompt`)."""

    model: str
    input: str | list[str] | None = None
    prompt: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None


CHAT = msgspec.json.Decoder(Chat)
GENERATE = msgspec.json.Decoder(Generate)
EMBED = msgspec.json.Decoder(Embed)
