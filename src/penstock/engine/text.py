"""Between text and tokens: the model's tokenizer, its chat template, and stop strings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from penstock.engine.convert.cache import gguf_of
from penstock.engine.convert.gguf import Gguf, read_gguf
from penstock.engine.convert.gguf_tokenizer import gguf_eos, gguf_settings, gguf_tokenizer
from penstock.kit.errors import InvalidInput, NotFound

_TEMPLATE_FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""A template is a small program: with messages that it does not expect it fails as programs do."""


class Vocabulary(Protocol):
    """Turns text into tokens and back. `longest_token` is in characters, `size` the number of token ids."""

    size: int
    longest_token: int

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; `special` adds what is put around a text (as BOS)."""
        ...

    def decoder(self) -> Callable[[int], str]:
        """A function that takes tokens one by one and gives the text that is certain by then."""
        ...

    def piece(self, token: int) -> str:
        """One token as text, for logprobs."""
        ...

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> str:
        """The prompt of a chat. Raises InvalidInput if the template refuses the messages."""
        ...


class Text:
    """The tokenizer and chat template of one model folder: its files, or what its GGUF file says in their place."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFound or InvalidInput, naming the file."""
        path = gguf_of(folder)
        gguf = None if path is None else read_gguf(path)
        self._tokenizer = _tokenizer(folder, gguf)
        settings = _json(folder / "tokenizer_config.json")
        if gguf is not None:
            settings = gguf_settings(gguf) | settings
        self._names = {key: _content(settings.get(key)) for key in ("bos_token", "eos_token", "pad_token")}
        vocabulary = self._tokenizer.get_vocab()
        self.size = max(vocabulary.values(), default=-1) + 1
        self.longest_token = max(map(len, vocabulary), default=1)
        self.eos = self._eos(folder, gguf)
        self._template = self._compile(folder, settings)

    @property
    def tokenizer(self) -> Tokenizer:
        """The library's."""
        return self._tokenizer

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; `special` adds what the tokenizer puts around a text (as BOS)."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decoder(self) -> Callable[[int], str]:
        """A function that takes tokens one by one and gives the text that is certain by then."""
        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def piece(self, token: int) -> str:
        """One token as text, for logprobs."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> str:
        """The prompt of a chat. Raises InvalidInput if the template refuses the messages."""
        if self._template is None:
            raise InvalidInput(
                "this model has no chat template", code="no_chat_template", hint="use /v1/completions"
            )
        try:
            prompt: str = self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=True, **self._names
            )
        except _TEMPLATE_FAULTS as error:
            raise InvalidInput(
                f"'messages': the chat template refuses them: {error}", code="invalid_messages"
            ) from None
        return prompt

    def _eos(self, folder: Path, gguf: Gguf | None) -> tuple[int, ...]:
        """Every id that ends an answer: generation_config.json, config.json, GGUF, then the tokenizer's eos_token."""
        for name in ("generation_config.json", "config.json"):
            found = _json(folder / name).get("eos_token_id")
            if isinstance(found, int):
                return (found,)
            if isinstance(found, list) and found:
                return tuple(int(number) for number in found)
        if gguf is not None and (ends := gguf_eos(gguf)):
            return ends
        number = self._tokenizer.token_to_id(self._names["eos_token"] or "")
        return () if number is None else (number,)

    def _compile(self, folder: Path, settings: Mapping[str, Any]) -> Any:
        source = settings.get("chat_template")
        if (folder / "chat_template.jinja").exists():
            source = (folder / "chat_template.jinja").read_text()
        if isinstance(source, list):
            named = {item["name"]: item["template"] for item in source}
            source = named.get("default")
        if not source:
            return None
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
        try:
            return environment.from_string(source)
        except TemplateError as error:
            raise InvalidInput(f"the chat template is not valid: {error}", code="corrupt_template") from None


class Stops:
    """Cuts a stream of text before the first stop string, and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Empty strings never stop. `found` is the one that did."""
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = ""

    @property
    def stopped(self) -> bool:
        """Whether the text has ended before one of them."""
        return bool(self.found)

    def push(self, text: str) -> str:
        """The part that can be shown now."""
        if not self._stops or self.stopped:
            return "" if self.stopped else text
        self._held += text
        places = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            place, self.found = min(places)
            shown, self._held = self._held[:place], ""
            return shown
        keep = max(self._overlap(stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        for size in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:size]):
                return size
        return 0


def _tokenizer(folder: Path, gguf: Gguf | None) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists() and gguf is not None:
        return gguf_tokenizer(gguf)
    if not path.exists():
        raise NotFound(f"{path}: there is no such file", code="missing_tokenizer")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises nothing narrower for a damaged file
        raise InvalidInput(f"tokenizer.json is damaged: {error}", code="corrupt_tokenizer") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}", code="corrupt_config") from None
    return document if isinstance(document, dict) else {}


def _content(token: Any) -> str:
    text = token.get("content", "") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise TemplateError(message)
