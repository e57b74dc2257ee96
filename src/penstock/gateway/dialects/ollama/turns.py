"""Ollama's messages as OpenAI's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from penstock.gateway.dialects.dialect import Body
from penstock.gateway.dialects.ollama.body import ToolCall, Turn
from penstock.gateway.dialects.reading import missing, unknown, wrong

ROLES = ("system", "user", "assistant", "tool")
_KINDS = {"iVBOR": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
"""How the files' first bytes look in base64."""


def messages(turns: Sequence[Turn]) -> list[Body]:
    """Raises InvalidInput with the path of what cannot be told."""
    numbers = _Numbers()
    return [_turn(turn, f"messages[{index}]", numbers) for index, turn in enumerate(turns)]


def content(text: str, images: Sequence[str] | None, path: str) -> str | list[Body]:
    """A string where it is text alone. The kind of an image is read off its first bytes."""
    if not images:
        return text
    parts: list[Body] = [{"type": "text", "text": text}] if text else []
    for index, image in enumerate(images):
        kind = next((kind for start, kind in _KINDS.items() if image.startswith(start)), None)
        if kind is None:
            raise wrong(
                f"{path}images[{index}]", "something else", "a PNG, JPEG, GIF or WebP image in base64"
            )
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}})
    return parts


class _Numbers:
    """Ids for calls that have none: OpenAI ties a result to its call by one, Ollama by the tool's name and by order."""

    def __init__(self) -> None:
        self._next = count()
        self._waiting: list[tuple[str, str]] = []

    def calls(self, calls: Iterable[ToolCall]) -> list[str]:
        """One id for each; results of earlier calls are no longer waited for."""
        self._waiting = [(call.function.name, call.id or f"call_{next(self._next)}") for call in calls]
        return [number for _, number in self._waiting]

    def result(self, name: str | None) -> str | None:
        """The call whose result this is: the first that waits, of that name if one is said."""
        for place, (called, number) in enumerate(self._waiting):
            if name is None or called == name:
                del self._waiting[place]
                return number
        return None


def _turn(turn: Turn, path: str, numbers: _Numbers) -> Body:
    if turn.role not in ROLES:
        raise unknown(f"{path}.role", turn.role, ROLES)
    told: Body = {"role": turn.role, "content": content(turn.content or "", turn.images, f"{path}.")}
    if turn.role == "assistant" and turn.tool_calls:
        told["tool_calls"] = [
            {
                "id": number,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": bytes(call.function.arguments).decode(),
                },
            }
            for call, number in zip(turn.tool_calls, numbers.calls(turn.tool_calls), strict=True)
        ]
    if turn.role == "tool":
        number = turn.tool_call_id or numbers.result(turn.tool_name)
        if number is None:
            raise missing(f"{path}.tool_call_id", "the call that this answers: no earlier message made it")
        told["tool_call_id"] = number
    return told
