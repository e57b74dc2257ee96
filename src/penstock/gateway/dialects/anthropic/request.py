"""A request to /v1/messages in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.gateway.dialects.anthropic import body as anthropic
from penstock.gateway.dialects.anthropic.turns import messages
from penstock.gateway.dialects.dialect import Body, Translated, encode, given, not_offered
from penstock.gateway.dialects.reading import missing, read, unknown, wrong

MESSAGES, COUNT_TOKENS = "/v1/messages", "/v1/messages/count_tokens"
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_THINKING = {"enabled": True, "adaptive": True, "disabled": False}


def translate(path: str, content: bytes) -> Translated:
    """Raises InvalidInput with the path of the field that is wrong, and NotFound for another path."""
    if path == COUNT_TOKENS:
        return _count(read(anthropic.COUNTED, content))
    if path != MESSAGES:
        raise not_offered(path, "Anthropic", (MESSAGES, COUNT_TOKENS))
    asked = read(anthropic.REQUEST, content)
    if asked.max_tokens < 1:
        raise wrong("max_tokens", str(asked.max_tokens), "an integer of at least 1")
    body = _prompt(asked) | given(
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=asked.stop_sequences or None,
        user=asked.metadata.user_id if asked.metadata else None,
        response_format=_format(asked.output_config),
        tool_choice=_choice(asked.tool_choice),
    )
    if asked.tool_choice is not None and asked.tool_choice.disable_parallel_tool_use:
        body["parallel_tool_calls"] = False
    if asked.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(
        asked=path,
        path="/v1/chat/completions",
        model=asked.model,
        body=encode(body),
        streams=asked.stream,
        max_tokens=asked.max_tokens,
    )


def _count(asked: anthropic.Counted) -> Translated:
    """vLLM's /tokenize takes a chat, with its tools, as it takes a prompt."""
    return Translated(asked=COUNT_TOKENS, path="/tokenize", model=asked.model, body=encode(_prompt(asked)))


def _prompt(asked: anthropic.Counted) -> Body:
    if not asked.model:
        raise missing("model", "the name of a model")
    body: Body = {"model": asked.model, "messages": messages(asked)}
    if asked.tools:
        body["tools"] = _tools(asked.tools)
    if asked.thinking is not None:
        if asked.thinking.type not in _THINKING:
            raise unknown("thinking.type", asked.thinking.type, tuple(_THINKING))
        body["chat_template_kwargs"] = {"enable_thinking": _THINKING[asked.thinking.type]}
    if asked.messages[-1].role == "assistant" and "tool_calls" not in body["messages"][-1]:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return body


def _tools(tools: Sequence[anthropic.Tool]) -> list[Body]:
    found = []
    for index, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            raise wrong(
                f"tools[{index}].type",
                f"'{tool.type}'",
                "custom: engines run no tools of their own",
                code="unsupported_value",
            )
        if not bytes(tool.input_schema):
            raise missing(f"tools[{index}].input_schema", "a JSON schema")
        function = {"name": tool.name, "parameters": tool.input_schema}
        function |= given(description=tool.description, strict=tool.strict)
        found.append({"type": "function", "function": function})
    return found


def _choice(choice: anthropic.ToolChoice | None) -> str | Body | None:
    if choice is None:
        return None
    if choice.type == "tool":
        if not choice.name:
            raise missing("tool_choice.name", "the name of the tool")
        return {"type": "function", "function": {"name": choice.name}}
    if choice.type not in _CHOICES:
        raise unknown("tool_choice.type", choice.type, (*_CHOICES, "tool"))
    return _CHOICES[choice.type]


def _format(config: anthropic.OutputConfig | None) -> Body | None:
    if config is None or config.format is None:
        return None
    schema = {"name": "answer", "schema": config.format.schema, "strict": True}
    return {"type": "json_schema", "json_schema": schema}
