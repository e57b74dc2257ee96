"""Reads OpenAI's request bodies and checks every limit that the library does not check itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.engine.frames import Sampling
from penstock.engine.prefixes import BLOCK_TOKENS
from penstock.engine.text import Vocabulary
from penstock.kit.errors import InvalidInput, NotFound

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_PROMPTS = 64
DEFAULT_COMPLETION_TOKENS = 16
DEFAULT_CHAT_TOKENS = 1024
MARGIN_BLOCKS = 2
"""Blocks of the KV pool that no request may count on."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the model and its KV pool can hold; `structured` says whether answers can be forced into a schema."""

    model: str
    context_tokens: int
    kv_blocks: int
    vocabulary: int
    structured: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request: one answer for each prompt and each of `choices`."""

    prompts: tuple[list[int], ...]
    sampling: Sampling
    stops: tuple[str, ...]
    choices: int
    stream: bool
    include_usage: bool
    chat: bool
    tools: bool
    echo: tuple[str, ...] = ()


def read_wish(body: Any, text: Vocabulary, bounds: Bounds, *, chat: bool) -> Wish:
    """Raises InvalidInput whose code and message say which field, what was found, and what is expected."""
    if not isinstance(body, dict):
        raise InvalidInput(
            f"the body: found {type(body).__name__}, expected a JSON object", code="invalid_json"
        )
    check_model(body.get("model", bounds.model), bounds.model)
    prompts, echo = (_chat_prompt(body, text, bounds), ()) if chat else _prompts(body, text, bounds)
    tokens = _tokens(body, prompts, bounds, chat=chat)
    stream = _flag(body, "stream")
    options = body.get("stream_options") or {}
    return Wish(
        prompts=prompts,
        sampling=_sampling(body, tokens, bounds, chat=chat),
        stops=_stops(body),
        choices=_number(body, "n", int, 1, MAX_CHOICES) or 1,
        stream=stream,
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        chat=chat,
        tools=bool(body.get("tools")) and body.get("tool_choice") != "none",
        echo=echo,
    )


def read_prompt(body: dict[str, Any], text: Vocabulary, bounds: Bounds) -> list[int]:
    """The tokens that a request with these `messages` (and `tools`), or this `prompt`, begins with; vLLM's /tokenize. Raises InvalidInput."""
    check_model(body.get("model", bounds.model), bounds.model)
    prompt, special = prompt_text(body, text)
    return _encode(prompt, text, bounds, special=special)


def prompt_text(body: dict[str, Any], text: Vocabulary) -> tuple[str, bool]:
    """What is tokenized of such a request, and whether together with what the tokenizer puts around a text. Raises InvalidInput."""
    if "messages" in body:
        return _rendered(body, text), False
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise wrong("prompt", prompt, "a string, or messages in its stead")
    return prompt, True


def read_object(body: bytes) -> dict[str, Any]:
    """A request's body. Raises InvalidInput unless it is a JSON object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise InvalidInput(
            f"the body: found {type(document).__name__}, expected a JSON object", code="invalid_json"
        )
    return document


def wrong(field: str, found: Any, expected: str, code: str = "invalid_value") -> InvalidInput:
    """The error for one field."""
    shown = json.dumps(found, default=str)
    return InvalidInput(f"'{field}': found {shown[:100]}, expected {expected}", code=code)


def check_model(model: Any, served: str) -> None:
    """Raises NotFound for any but the one that this engine serves."""
    if model != served:
        raise NotFound(
            f"the model {model!r} does not exist here",
            code="model_not_found",
            hint=f"this engine serves {served!r}",
        )


def _chat_prompt(body: dict[str, Any], text: Vocabulary, bounds: Bounds) -> tuple[list[int], ...]:
    if "messages" not in body:
        return ()
    return (_encode(_rendered(body, text), text, bounds, special=False),)


def _rendered(body: dict[str, Any], text: Vocabulary) -> str:
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", messages, "a list of at least one message")
    return text.render([_message(i, m) for i, m in enumerate(messages)], body.get("tools"))


def _message(index: int, message: Any) -> dict[str, Any]:
    """Content parts of type text are joined; other parts need a model that sees or hears."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise wrong(f"messages[{index}]", message, "an object with a role")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if (
                not isinstance(part, dict)
                or part.get("type") != "text"
                or not isinstance(part.get("text"), str)
            ):
                raise wrong(f"messages[{index}].content", part, "text: this model takes no images or sound")
        content = "".join(part["text"] for part in content)
    if content is not None and not isinstance(content, str):
        raise wrong(f"messages[{index}].content", content, "a string or a list of text parts")
    return {**message, "content": content or ""}


def _prompts(
    body: dict[str, Any], text: Vocabulary, bounds: Bounds
) -> tuple[tuple[list[int], ...], tuple[str, ...]]:
    prompt = body.get("prompt")
    if isinstance(prompt, str) or (
        isinstance(prompt, list) and prompt and all(type(p) is int for p in prompt)
    ):
        prompt = [prompt]
    if not isinstance(prompt, list) or not 0 < len(prompt) <= MAX_PROMPTS:
        raise wrong("prompt", prompt, f"a string, token ids, or a list of at most {MAX_PROMPTS} of them")
    prompts = []
    for index, item in enumerate(prompt):
        if isinstance(item, str):
            prompts.append(_encode(item, text, bounds, special=True))
        elif isinstance(item, list) and all(type(n) is int and 0 <= n < bounds.vocabulary for n in item):
            prompts.append(item)
        else:
            raise wrong(f"prompt[{index}]", item, f"a string, or token ids from 0 to {bounds.vocabulary - 1}")
    echoed = tuple(p if isinstance(p, str) else "".join(map(text.piece, p)) for p in prompt)
    return tuple(prompts), echoed if _flag(body, "echo") else ()


def _encode(prompt: str, text: Vocabulary, bounds: Bounds, *, special: bool) -> list[int]:
    """What cannot fit by its length alone is not tokenized: that would hold up everybody's answers."""
    least = len(prompt) // text.longest_token
    limit, reason = _limit(bounds)
    if least > limit:
        raise InvalidInput(
            f"This model's maximum {reason} is {limit} tokens. However, your prompt of {len(prompt)} characters "
            f"has at least {least} tokens. Please reduce it.",
            code="context_length_exceeded",
        )
    return text.encode(prompt, special=special)


def _limit(bounds: Bounds) -> tuple[int, str]:
    """The most tokens that a prompt and its answer may have, and what sets that limit."""
    pool_tokens = (bounds.kv_blocks - MARGIN_BLOCKS) * BLOCK_TOKENS
    limit = min(bounds.context_tokens, pool_tokens)
    return limit, "context length" if limit == bounds.context_tokens else "KV cache"


def _tokens(body: dict[str, Any], prompts: tuple[list[int], ...], bounds: Bounds, *, chat: bool) -> int:
    if not prompts:
        raise wrong("messages" if chat else "prompt", None, "a value")
    if not all(prompts):
        raise InvalidInput("the prompt is empty: it has no tokens", code="empty_prompt")
    longest = max(map(len, prompts))
    limit, reason = _limit(bounds)
    asked = _number(body, "max_completion_tokens", int, 1, None) or _number(body, "max_tokens", int, 1, None)
    if longest >= limit or longest + (asked or 1) > limit:
        raise InvalidInput(
            f"This model's maximum {reason} is {limit} tokens. However, you requested {longest + (asked or 1)} tokens "
            f"({longest} in the prompt, {asked or 1} in the completion). Please reduce either.",
            code="context_length_exceeded",
        )
    default = DEFAULT_CHAT_TOKENS if chat else DEFAULT_COMPLETION_TOKENS
    return asked or min(default, limit - longest)


def _sampling(body: dict[str, Any], tokens: int, bounds: Bounds, *, chat: bool) -> Sampling:
    temperature = _number(body, "temperature", float, 0.0, 2.0)
    return Sampling(
        max_tokens=tokens,
        temperature=1.0 if temperature is None else temperature,
        top_p=_number(body, "top_p", float, 1e-6, 1.0),
        top_k=_number(body, "top_k", int, 1, None) if body.get("top_k") != -1 else None,
        min_p=_number(body, "min_p", float, 0.0, 1.0),
        seed=_number(body, "seed", int, 0, 2**63 - 1),
        presence_penalty=_number(body, "presence_penalty", float, -2.0, 2.0),
        frequency_penalty=_number(body, "frequency_penalty", float, -2.0, 2.0),
        repetition_penalty=_number(body, "repetition_penalty", float, 1e-3, 10.0),
        ignore_eos=_flag(body, "ignore_eos"),
        logprobs=_logprobs(body, chat=chat),
        json_schema=_schema(body, bounds),
    )


def _logprobs(body: dict[str, Any], *, chat: bool) -> bool:
    """Only the chosen token's is to be had from this engine."""
    if chat:
        if _number(body, "top_logprobs", int, 0, 20):
            raise wrong(
                "top_logprobs",
                body["top_logprobs"],
                "0: this engine knows the chosen token's only",
                "unsupported_parameter",
            )
        return _flag(body, "logprobs")
    asked = _number(body, "logprobs", int, 0, 5)
    if asked and asked > 1:
        raise wrong(
            "logprobs", asked, "at most 1: this engine knows the chosen token's only", "unsupported_parameter"
        )
    return asked is not None


def _schema(body: dict[str, Any], bounds: Bounds) -> str | None:
    form = body.get("response_format")
    if form is None or (isinstance(form, dict) and form.get("type") == "text"):
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    schema: Any = {"type": "object"}
    if kind == "json_schema":
        named = form.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
    if kind not in ("json_object", "json_schema") or not isinstance(schema, dict):
        raise wrong("response_format", form, "type text, json_object, or json_schema with json_schema.schema")
    if not bounds.structured:
        raise wrong(
            "response_format",
            kind,
            "text: this model's tokenizer cannot be used for grammars",
            "unsupported_parameter",
        )
    return json.dumps(schema)


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if stop is not None else []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) for s in stops):
        raise wrong("stop", stop, f"a string, or a list of at most {MAX_STOPS}")
    return tuple(stops)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return bool(value)


def _number(
    body: dict[str, Any], name: str, kind: Callable[[Any], Any], least: float, most: float | None
) -> Any:
    value = body.get(name)
    if value is None:
        return None
    allowed = (int,) if kind is int else (int, float)
    bad = isinstance(value, bool) or not isinstance(value, allowed)
    if bad or not least <= value or (most is not None and value > most):  # so NaN is refused too
        what = "an integer" if kind is int else "a number"
        raise wrong(
            name,
            value,
            f"{what} of at least {least:g}" + (f" and at most {most:g}" if most is not None else ""),
        )
    return kind(value)
