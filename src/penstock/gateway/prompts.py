"""What routing knows of a request's prompt: how long it is, what it begins with, and whose turn of what conversation it is.

A prompt is hashed as it was sent: the bytes of `messages` (or `prompt`, `input`), with tools and system before them, as templates render
them. Turns of one conversation begin with the same bytes, for clients write what they send again in the same way. Other tools, another
adapter or another salt share nothing, whatever follows. How many tokens a block has is learned from what answers say of their prompts.

Where the model's tokenizer is at hand, prompts are hashed by their tokens instead, in the blocks that engines' KV events tell of. That
takes another process some milliseconds, so it is done before (`prepare`), and only where a prompt is long enough for it to matter; others
have no hashes then.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence

import msgspec

from penstock.contracts.exchange import RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.prompt_size import UNKNOWN, TokenRatio, measured
from penstock.gateway import body
from penstock.gateway.body import ModelRequest
from penstock.gateway.call import Call
from penstock.gateway.tokenizers import Tokenizers
from penstock.kit.hashing import chain_seed, chained, draw, text_blocks

TEXT_BYTES = 4
"""Of a token, for the size of blocks; what a block really holds is learned."""

MAX_HASHED_TOKENS = 131_072
"""What comes after is not looked up: no cache that holds so much of a prompt is not the best anyway."""

MAX_SERVICES = 4096
"""Of which it is remembered how long their tokens are."""

LEAST_BLOCKS = 4
"""A prompt of fewer blocks is computed almost as soon as it is tokenized."""

MAX_WORD = 256
BATCH_TIERS = ("batch", "flex")
"""OpenAI's `service_tier` of requests that have time."""

PROTOCOLS = ("openai", "anthropic", "ollama")
"""In which a body has a prompt."""

Id = tuple[str, str]
_EMPTY = (b"", b"null", b"[]", b"{}", b'""')
_DEFAULT = RoutingRoute()
_NOTHING = ModelRequest()


class Prompts:
    """For all services of one gateway worker; by namespace and name."""

    def __init__(self, tokenizers: Tokenizers | None = None) -> None:
        """Nothing is known of any service's tokens. Without `tokenizers` all prompts are hashed as text."""
        self._tokenizers = tokenizers
        self._ratios: dict[Id, TokenRatio] = {}

    @property
    def untokenized(self) -> Mapping[str, int]:
        """Prompts that went without being tokenized though they should, and tokenizers that were given up, by reason."""
        return self._tokenizers.counts if self._tokenizers is not None else {}

    def is_precise(self, service: ServiceRoute) -> bool:
        """Whether its prompts are hashed by their tokens."""
        return self._tokenizers is not None and self._tokenizers.is_used((service.namespace, service.name))

    def waits(self, call: Call, service: ServiceRoute) -> bool:
        """Whether `prepare` has something to do before the request is routed."""
        if self._tokenizers is None or call.told is not None or not self.is_precise(service):
            return False
        asks, block_tokens = _asks(call), (service.routing or _DEFAULT).block_tokens
        return _is_tokenized(call, asks) and LEAST_BLOCKS * block_tokens * TEXT_BYTES <= sum(
            map(len, _parts(asks))
        )

    async def prepare(self, call: Call, service: ServiceRoute) -> None:
        """Tokenize the prompt; where that fails, or takes too long, it goes without hashes. Never raises."""
        assert self._tokenizers is not None, "only what waits is prepared"
        asks = _asks(call)
        call.told = await self._tokenizers.tokenize(
            (service.namespace, service.name),
            call.request.body if call.asked is None else call.asked.body,
            (service.routing or _DEFAULT).block_tokens,
            _seed(asks, service.engine_model, _adapter(asks, service)),
            MAX_HASHED_TOKENS,
        )

    def sized(self, call: Call, service: ServiceRoute) -> Prompt:
        """What counts of a prompt where there is but one endpoint: `of`, without what only a choice rests on."""
        asks, told, size = call.asks or _asks(call), call.told, 0
        for span in (asks.tools, asks.system, asks.instructions, asks.messages, asks.prompt, asks.input):
            if span and ((length := len(span)) > 4 or bytes(span) not in _EMPTY):
                size += length
        call.prompt_bytes = size
        if told is not None:
            tokens = told.tokens
        else:
            ratio = self._ratios.get((service.namespace, service.name), UNKNOWN)
            tokens = int((size or _unread_bytes(call)) * ratio.per_byte + 0.5)
        is_batch = call.reading.is_batch or bool(
            asks.service_tier and _word(asks.service_tier) in BATCH_TIERS
        )
        return Prompt(draw=0, tokens=tokens, output_tokens=call.max_tokens, is_batch=is_batch)

    def of(self, call: Call, service: ServiceRoute) -> Prompt:
        """The prompt of a request whose body has been read; one without a text, or that cannot be read, is empty."""
        asks, told = call.asks or _asks(call), call.told
        block_tokens = (service.routing or _DEFAULT).block_tokens
        hashed: Sequence[int] = ()
        adapter, parts = _adapter(asks, service), _parts(asks)
        size = call.prompt_bytes = sum(map(len, parts))
        if told is not None:
            tokens, each, hashed = told.tokens, float(block_tokens), _numbers(told.hashes)
        else:
            size, block_bytes = size or _unread_bytes(call), block_tokens * TEXT_BYTES
            per_byte = self._ratios.get((service.namespace, service.name), UNKNOWN).per_byte
            tokens, each = int(size * per_byte + 0.5), block_bytes * per_byte
            if parts and size >= block_bytes and not self.is_precise(service):
                hashed = _hashed(asks, parts, block_bytes, _seed(asks, service.engine_model, adapter))
        return Prompt(
            draw=draw(call.id),
            tokens=tokens,
            hashes=hashed,
            block_tokens=each,
            output_tokens=call.max_tokens,
            adapter=adapter,
            session=call.reading.session or _word(asks.prompt_cache_key),
            is_batch=call.reading.is_batch or _word(asks.service_tier) in BATCH_TIERS,
        )

    def answered(self, call: Call, expected_tokens: float = 0.0) -> None:
        """Its answer ended; where the engine told how many tokens the prompt had, that is learned from.

        Of these its endpoint was expected to hold `expected_tokens`.
        """
        service = call.service
        if service is None or call.prompt_tokens <= 0:
            return
        key = (service.namespace, service.name)
        ratio = self._ratios.pop(key, UNKNOWN)
        self._ratios[key] = measured(ratio, call.prompt_bytes, call.prompt_tokens)
        if ratio is UNKNOWN and len(self._ratios) > MAX_SERVICES:
            del self._ratios[next(iter(self._ratios))]
        if call.told is not None and self._tokenizers is not None:
            whole_s = call.first_byte_at - call.started
            self._tokenizers.answered(
                key, call.told, call.prompt_tokens, expected_tokens, call.cached_tokens, whole_s
            )


def _asks(call: Call) -> ModelRequest:
    """The body, in OpenAI's words if it was translated into them; remembered, for its answer is about it."""
    if call.asks is None:
        if call.asked is not None:
            call.asks = body.peek(call.asked.body)
        elif call.target.protocol in PROTOCOLS and not call.reading.is_form:
            call.asks = body.peek(call.request.body)
        else:
            call.asks = _NOTHING
    return call.asks


def _unread_bytes(call: Call) -> int:
    """How long a body is that was too large to be looked into at once."""
    size = len(call.request.body)
    return size if size > body.LARGE_BYTES and call.target.protocol in PROTOCOLS else 0


def _is_tokenized(call: Call, asks: ModelRequest) -> bool:
    """Whether it is in words that the tokenizer's template is for."""
    return (call.asked is not None or call.target.protocol == "openai") and bool(asks.messages or asks.prompt)


def _parts(asks: ModelRequest) -> Sequence[msgspec.Raw]:
    """What the prompt consists of, as it was written, in the order in which templates render it."""
    parts = []
    for span in (asks.tools, asks.system, asks.instructions, asks.messages, asks.prompt, asks.input):
        if span and (len(span) > 4 or bytes(span) not in _EMPTY):
            parts.append(span)
    return parts


def _hashed(asks: ModelRequest, said: Sequence[msgspec.Raw], block_bytes: int, seed: int) -> Sequence[int]:
    """Of several parts what is hashed is copied together, so that blocks go on from one to the next."""
    parts = [memoryview(span) for span in said]
    if said[0] is asks.tools:
        seed = chained(parts[0], seed)
    room = MAX_HASHED_TOKENS * TEXT_BYTES
    if len(parts) == 1:
        return text_blocks(parts[0][:room], block_bytes, seed)
    joined = bytearray()
    for part in parts:
        joined += part[: room - len(joined)]
    return text_blocks(bytes(joined), block_bytes, seed)


def _seed(asks: ModelRequest, engine_model: str, adapter: str) -> int:
    return chain_seed(engine_model, adapter, _word(asks.cache_salt))


def _adapter(asks: ModelRequest, service: ServiceRoute) -> str:
    """A name of the service's that means other weights, not just the service."""
    name = asks.model
    return name if type(name) is str and name in service.adapters else ""


def _numbers(packed: bytes) -> Sequence[int]:
    """As `Told.hashes` has them."""
    numbers = array("Q", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _word(span: msgspec.Raw) -> str:
    """A short string's text, or what stands for a long one; "" for what is none."""
    if not span:
        return ""
    view = memoryview(span)
    if len(view) < 2 or view[0] != 0x22:
        return ""
    if len(view) > MAX_WORD:
        return f"{chained(view, 0):016x}"
    try:
        return msgspec.json.decode(view, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
