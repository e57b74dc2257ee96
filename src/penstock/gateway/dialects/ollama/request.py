"""A request to Ollama's API in OpenAI's words."""

from __future__ import annotations

from msgspec import Raw

from penstock.gateway.dialects.dialect import Body, Translated, encode, given, not_offered
from penstock.gateway.dialects.ollama import body as ollama
from penstock.gateway.dialects.ollama.turns import content, messages
from penstock.gateway.dialects.reading import missing, read, unknown, wrong
from penstock.kit.errors import InvalidInput

CHAT, GENERATE, EMBED, EMBEDDINGS = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
_EFFORTS = ("low", "medium", "high")
_NEVER = (0, "0", "0s", "0m", "0h")


def translate(path: str, body: bytes) -> Translated:
    """Raises InvalidInput with the path of the field that is wrong, and NotFound for another path."""
    if path == CHAT:
        return _chat(read(ollama.CHAT, body))
    if path == GENERATE:
        return _generate(read(ollama.GENERATE, body))
    if path in (EMBED, EMBEDDINGS):
        return _embed(path, read(ollama.EMBED, body))
    raise not_offered(path, "Ollama", (CHAT, GENERATE, EMBED, EMBEDDINGS))


def _chat(asked: ollama.Chat) -> Translated:
    if not asked.messages:
        return _load(CHAT, asked)
    body: Body = {"messages": messages(asked.messages)}
    if asked.tools:
        body["tools"] = asked.tools
    return _answering(CHAT, "/v1/chat/completions", asked, body)


def _generate(asked: ollama.Generate) -> Translated:
    """The model's chat template is applied to a prompt, unless it is `raw` or is to be filled in before a `suffix`."""
    if asked.template:
        raise wrong(
            "template", "a template", "nothing: the model's own is used", code="unsupported_parameter"
        )
    if asked.context:
        raise wrong(
            "context", "token ids", "nothing: send the text, or use /api/chat", code="unsupported_parameter"
        )
    if not asked.prompt and not asked.suffix and not asked.images:
        return _load(GENERATE, asked)
    prompt = asked.prompt or ""
    if asked.raw or asked.suffix:
        if asked.images:
            raise wrong("images", "images", "nothing beside raw or suffix", code="unsupported_parameter")
        if asked.logprobs:
            raise wrong("logprobs", "true", "nothing beside raw or suffix", code="unsupported_parameter")
        body = {"prompt": prompt} | given(suffix=asked.suffix or None)
        return _answering(GENERATE, "/v1/completions", asked, body)
    turns: list[Body] = [{"role": "system", "content": asked.system}] if asked.system else []
    turns.append({"role": "user", "content": content(prompt, asked.images, "")})
    return _answering(GENERATE, "/v1/chat/completions", asked, {"messages": turns})


def _embed(path: str, asked: ollama.Embed) -> Translated:
    field, texts = ("prompt", asked.prompt) if path == EMBEDDINGS else ("input", asked.input)
    if texts is None:
        raise missing(field, "the text to embed")
    body = {"model": _name(asked.model), "input": texts, "encoding_format": "float"}
    body |= given(dimensions=asked.dimensions)
    return Translated(asked=path, path="/v1/embeddings", model=asked.model, body=encode(body))


def _load(path: str, asked: ollama.Asked) -> Translated:
    """Nothing to answer: the caller wants the model awake. When it sleeps is not the caller's business."""
    if asked.keep_alive in _NEVER and not isinstance(asked.keep_alive, bool):
        raise InvalidInput(
            "'keep_alive': found 0 without a prompt, which unloads a model; here the platform does that by itself",
            code="unsupported_operation",
            hint="set minReplicas: 0 on the InferenceService, and it sleeps while nobody asks",
        )
    body = encode({"model": _name(asked.model)})
    return Translated(asked=path, path="", model=asked.model, body=body, streams=_streams(asked))


def _answering(path: str, engine_path: str, asked: ollama.Asked, prompt: Body) -> Translated:
    options = asked.options or ollama.Options()
    limit = options.num_predict if options.num_predict is not None and options.num_predict > 0 else None
    body = {"model": _name(asked.model), **prompt} | given(
        max_tokens=limit,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k if options.top_k and options.top_k > 0 else None,
        min_p=options.min_p,
        seed=options.seed,
        stop=options.stop or None,
        repetition_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        response_format=_format(asked.format),
        logprobs=asked.logprobs or None,
        top_logprobs=asked.top_logprobs if asked.logprobs else None,
    )
    body |= _thinking(asked.think)
    streams = _streams(asked)
    if streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(
        asked=path,
        path=engine_path,
        model=asked.model,
        body=encode(body),
        streams=streams,
        max_tokens=limit or 0,
    )


def _name(model: str) -> str:
    if not model:
        raise missing("model", "the name of a model")
    return model


def _streams(asked: ollama.Asked) -> bool:
    return asked.stream is not False


def _format(form: Raw) -> Body | None:
    if bytes(form) in (b"", b"null", b'""'):
        return None
    if bytes(form).startswith(b"{"):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form, "strict": True}}
    if bytes(form) != b'"json"':
        raise unknown("format", bytes(form).decode("utf-8", "replace").strip('"'), ("json", "a JSON schema"))
    return {"type": "json_object"}


def _thinking(think: bool | str | None) -> Body:
    """A word is how much to think, for models that can be told."""
    if think is None:
        return {}
    if isinstance(think, bool):
        return {"chat_template_kwargs": {"enable_thinking": think}}
    if think not in _EFFORTS:
        raise unknown("think", think, _EFFORTS)
    return {"reasoning_effort": think, "chat_template_kwargs": {"enable_thinking": True}}
