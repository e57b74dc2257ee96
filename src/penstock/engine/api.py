"""The engine's paths: OpenAI's, health, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import msgspec

from penstock.engine.answers import Answer, Piece, pieces, tool_calls, usage_of
from penstock.engine.frames import Sampling
from penstock.engine.grammar.schemas import Schemas
from penstock.engine.http import Exchange
from penstock.engine.runner import Generation, Generator
from penstock.engine.surface import Surface, model_object
from penstock.engine.text import Vocabulary
from penstock.engine.wishes import Bounds, Wish, read_object, read_prompt, read_wish
from penstock.kit.errors import InvalidInput, Unavailable


class Api(Surface):
    """Answers exchanges."""

    def __init__(
        self,
        engine: Generator,
        text: Vocabulary,
        bounds: Bounds,
        created: int,
        schemas: Schemas | None = None,
    ) -> None:
        """`created` is Unix time, for the model's object; `schemas` is for an engine that can follow some."""
        model = {**model_object(bounds.model, created), "max_model_len": bounds.context_tokens}
        super().__init__(model, engine.metrics)
        self._engine = engine
        self._text = text
        self._bounds = bounds
        self._schemas = schemas

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one. Raises PlatformError for what is refused."""
        path = exchange.path.removeprefix("/openai")
        match (exchange.method, path):
            case ("POST", "/v1/chat/completions"):
                await self._complete(exchange, chat=True)
            case ("POST", "/v1/completions"):
                await self._complete(exchange, chat=False)
            case ("POST", "/v1/embeddings"):
                raise InvalidInput(
                    f"{self._bounds.model} generates text and makes no embeddings",
                    code="unsupported_operation",
                    hint="serve an embedding model, with a runtime that offers embeddings",
                )
            case ("POST", "/tokenize"):
                ids = read_prompt(read_object(exchange.body), self._text, self._bounds)
                exchange.send(
                    200, {"tokens": ids, "count": len(ids), "max_model_len": self._bounds.context_tokens}
                )
            case _:
                self.answer(exchange, path)

    @property
    def is_loaded(self) -> bool:
        """Whether the pipeline is there."""
        return self._engine.loaded is not None

    def _limits(self) -> Bounds:
        """Whether answers can be forced into a schema is known once the model is loaded."""
        loaded = self._engine.loaded
        return replace(self._bounds, structured=loaded is not None and loaded.tokenizer != "")

    async def _complete(self, exchange: Exchange, *, chat: bool) -> None:
        if self.draining:
            exchange.keeps_alive = False
            raise Unavailable("the engine is draining", code="draining", retry_after_s=1.0)
        wish = read_wish(read_object(exchange.body), self._text, self._limits(), chat=chat)
        schema, loaded = wish.sampling.json_schema, self._engine.loaded
        if schema is not None and loaded is not None and self._schemas is not None:
            await self._schemas.check(schema, loaded.tokenizer)
        generations: list[Generation] = []
        try:
            for prompt in wish.prompts:
                for number in range(wish.choices):
                    sampling = _seeded(wish.sampling, number)
                    generations.append(self._engine.begin(prompt, sampling))
            if wish.stream:
                await self._stream(exchange, wish, generations)
            else:
                await self._whole(exchange, wish, generations)
        finally:
            for generation in generations:
                self._engine.cancel(generation)

    def _pieces(self, index: int, generation: Generation, wish: Wish) -> AsyncGenerator[Piece, None]:
        return pieces(self._engine, generation, self._text, wish, len(_echo(wish, index)))

    async def _whole(self, exchange: Exchange, wish: Wish, generations: list[Generation]) -> None:
        answer = Answer(self._bounds.model, wish.chat)
        choices: list[Piece] = []
        for index, generation in enumerate(generations):
            parts, whole = [_echo(wish, index)], Piece()
            async with aclosing(self._pieces(index, generation, wish)) as found:
                async for piece in found:
                    parts.append(piece.text)
                    whole.logprobs.extend(piece.logprobs)
                    whole.finish, whole.stop = piece.finish, piece.stop
            whole.text = "".join(parts)
            choices.append(whole)
        exchange.send(200, answer.whole(choices, usage_of(generations), wish.tools))

    async def _stream(self, exchange: Exchange, wish: Wish, generations: list[Generation]) -> None:
        answer, seen = Answer(self._bounds.model, wish.chat), set[int]()
        calls: dict[int, str] = {}
        async with aclosing(self._merged(wish, generations)) as merged:
            async for index, piece in merged:
                if not exchange.started:
                    exchange.start_events()
                if wish.tools and wish.chat:
                    self._tool_piece(exchange, answer, calls, index, piece, first=index not in seen)
                else:
                    piece.text = (_echo(wish, index) if index not in seen else "") + piece.text
                    exchange.event(
                        answer.chunk(index, piece, first=index not in seen, usage=wish.include_usage)
                    )
                seen.add(index)
                await exchange.drain()
        if wish.include_usage:
            exchange.event(answer.usage_chunk(usage_of(generations)))
        exchange.event("[DONE]")
        exchange.end_events()

    def _tool_piece(
        self,
        exchange: Exchange,
        answer: Answer,
        calls: dict[int, str],
        index: int,
        piece: Piece,
        *,
        first: bool,
    ) -> None:
        """While an answer may turn out to be a tool call its text is held back; anything else flows."""
        held = calls.get(index, "") + piece.text
        undecided = "<tool_call>".startswith(held[:11].strip()) or held.lstrip().startswith("<tool_call>")
        if undecided and not piece.finish:
            calls[index] = held
            return
        calls[index] = ""
        piece.text, found = tool_calls(held)
        if first or found or piece.text or piece.finish:
            last = Piece(finish="tool_calls" if piece.finish and found else piece.finish, stop=piece.stop)
            piece.finish = piece.stop = ""
            if piece.text or first or (found and not first):
                exchange.event(answer.chunk(index, piece, first=first or bool(found), usage=False))
            if found:
                exchange.event(answer.tool_chunk(index, found))
            if last.finish:
                exchange.event(answer.chunk(index, last, first=False, usage=False))

    async def _merged(
        self, wish: Wish, generations: list[Generation]
    ) -> AsyncGenerator[tuple[int, Piece], None]:
        """The pieces of all choices as they come."""
        if len(generations) == 1:
            async with aclosing(self._pieces(0, generations[0], wish)) as found:
                async for piece in found:
                    yield 0, piece
            return
        queue: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue()

        async def follow(index: int, generation: Generation) -> None:
            try:
                async with aclosing(self._pieces(index, generation, wish)) as found:
                    async for piece in found:
                        queue.put_nowait((index, piece))
                queue.put_nowait((index, None))
            except Exception as error:  # noqa: BLE001  raised again by whoever reads the queue
                queue.put_nowait((index, error))

        tasks = [asyncio.create_task(follow(i, g)) for i, g in enumerate(generations)]
        try:
            left = len(tasks)
            while left:
                index, item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield index, item
        finally:
            for task in tasks:
                task.cancel()


def _seeded(sampling: Sampling, number: int) -> Sampling:
    """Choices of one request differ by their seed."""

    seed = sampling.seed + number if sampling.seed is not None else None
    return msgspec.structs.replace(sampling, seed=seed)


def _echo(wish: Wish, index: int) -> str:
    return wish.echo[index // wish.choices] if wish.echo else ""
