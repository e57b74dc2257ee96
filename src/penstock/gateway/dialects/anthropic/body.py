"""The body of /v1/messages and /v1/messages/count_tokens, as far as it is understood."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw, Struct


class Source(Struct):
    """Where an image or a document is: `base64` and `text` carry `media_type` and `data`, `url` a link."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class Part(Struct):
    """A block within a tool's result."""

    type: str
    text: str | None = None
    source: Source | None = None


class Block(Struct):
    """A block of a message: text, image, document, tool_use or tool_result; what a model thought is taken and dropped."""

    type: str
    text: str | None = None
    source: Source | None = None
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")
    tool_use_id: str = ""
    content: str | list[Part] = ""
    is_error: bool | None = None


class Turn(Struct):
    """One message."""

    role: str
    content: str | list[Block]


class Tool(Struct):
    """A function of the caller's. Tools that Anthropic's own servers run have other types."""

    name: str
    input_schema: Raw = Raw()
    description: str | None = None
    type: str | None = None
    strict: bool | None = None


class ToolChoice(Struct):
    """Whether tools are to be called; `name` only for the type `tool`."""

    type: str
    name: str = ""
    disable_parallel_tool_use: bool = False


class Metadata(Struct):
    """About the caller's caller."""

    user_id: str | None = None


class Thinking(Struct):
    """Whether to think before the answer. How long is the engine's business."""

    type: str


class Format(Struct):
    """A JSON schema that the answer follows."""

    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(Struct):
    """How the answer is to look."""

    format: Format | None = None


class Counted(Struct):
    """What counts as prompt: the body of count_tokens."""

    model: str
    messages: list[Turn]
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None


class Request(Counted, kw_only=True):
    """The body of /v1/messages; the engine knows the ranges of its numbers."""

    max_tokens: int
    stream: bool = False
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None


REQUEST = msgspec.json.Decoder(Request)
COUNTED = msgspec.json.Decoder(Counted)
