"""Anthropic's messages as OpenAI's: blocks become parts, tool calls, and messages of role `tool`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.gateway.dialects.anthropic.body import Block, Counted, Part, Source, Turn
from penstock.gateway.dialects.dialect import Body
from penstock.gateway.dialects.reading import missing, unknown, wrong

ROLES = ("user", "assistant", "system")
_THOUGHTS = ("thinking", "redacted_thinking")
_USER = ("text", "image", "document", "tool_result", *_THOUGHTS)
_ASSISTANT = ("text", "tool_use", *_THOUGHTS)
_RESULT = ("text", "image", "document")


def messages(asked: Counted) -> list[Body]:
    """All of them, the system prompt first. Raises InvalidInput with the path of a block that cannot be told."""
    found: list[Body] = []
    if asked.system:
        found.append({"role": "system", "content": _texts(asked.system, "system")})
    if not asked.messages:
        raise missing("messages", "at least one message")
    for index, turn in enumerate(asked.messages):
        found += _turn(turn, f"messages[{index}]")
    return found


def _turn(turn: Turn, path: str) -> list[Body]:
    if turn.role not in ROLES:
        raise unknown(f"{path}.role", turn.role, ROLES)
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    if turn.role == "system":
        return [{"role": "system", "content": _texts(turn.content, f"{path}.content")}]
    if turn.role == "assistant":
        return [_assistant(turn.content, f"{path}.content")]
    return _user(turn.content, f"{path}.content")


def _assistant(blocks: Sequence[Block], path: str) -> Body:
    texts, calls = [], []
    for index, block in enumerate(blocks):
        at = f"{path}[{index}]"
        match block.type:
            case "text":
                texts.append(_text(block, at))
            case "tool_use":
                calls.append(_call(block, at))
            case thought if thought in _THOUGHTS:
                pass
            case other:
                raise unknown(f"{at}.type", other, _ASSISTANT)
    said: Body = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return said | ({"tool_calls": calls} if calls else {})


def _call(block: Block, path: str) -> Body:
    if not block.id:
        raise missing(f"{path}.id", "the id of the tool use")
    if not block.name:
        raise missing(f"{path}.name", "the name of the tool")
    arguments = bytes(block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _user(blocks: Sequence[Block], path: str) -> list[Body]:
    """OpenAI wants the results of tools right after their calls, and images in the user's message only."""
    results: list[Body] = []
    seen: list[Body] = []
    parts: list[Body] = []
    for index, block in enumerate(blocks):
        at = f"{path}[{index}]"
        if block.type == "tool_result":
            result, images = _result(block, at)
            results.append(result)
            seen += images
        elif block.type not in _THOUGHTS:
            parts.append(_part(block, at, _USER))
    parts = seen + parts
    return [*results, {"role": "user", "content": _joined(parts)}] if parts or not results else results


def _result(block: Block, path: str) -> tuple[Body, list[Body]]:
    """The message, and the images that go into the next. OpenAI has no word for a tool that failed: it is said in the text."""
    if not block.tool_use_id:
        raise missing(f"{path}.tool_use_id", "the id of the tool use that this answers")
    if isinstance(block.content, str):
        text, images = block.content, []
    else:
        parts = [_part(part, f"{path}.content[{i}]", _RESULT) for i, part in enumerate(block.content)]
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        images = [part for part in parts if part["type"] != "text"]
    if block.is_error:
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}, images


def _part(block: Block | Part, path: str, known: Sequence[str]) -> Body:
    match block.type:
        case "text":
            return {"type": "text", "text": _text(block, path)}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image(block.source, path)}}
        case "document":
            return {"type": "text", "text": _document(block.source, path)}
        case other:
            raise unknown(f"{path}.type", other, known)


def _text(block: Block | Part, path: str) -> str:
    if block.text is None:
        raise missing(f"{path}.text", "the block's text")
    return block.text


def _image(source: Source | None, path: str) -> str:
    if source is None:
        raise missing(f"{path}.source", "where the image is")
    if source.type == "url" and source.url:
        return source.url
    if source.type == "base64" and source.media_type and source.data:
        return f"data:{source.media_type};base64,{source.data}"
    if source.type in ("url", "base64"):
        needed = "url" if source.type == "url" else "media_type and data"
        raise missing(f"{path}.source", needed)
    raise unknown(f"{path}.source.type", source.type, ("base64", "url"))


def _document(source: Source | None, path: str) -> str:
    if source is None:
        raise missing(f"{path}.source", "the document")
    if source.type != "text":
        raise wrong(
            f"{path}.source.type", f"'{source.type}'", "text: engines read no files", code="unsupported_value"
        )
    return source.data


def _texts(content: str | Iterable[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, block in enumerate(content):
        if block.type != "text":
            raise unknown(f"{path}[{index}].type", block.type, ("text",))
        texts.append(_text(block, f"{path}[{index}]"))
    return "\n".join(texts)


def _joined(parts: list[Body]) -> str | list[Body]:
    """Text alone as a string, which the chat template of every model takes."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts
